"""What a worker says when it starts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from omniq.storage.base import Component

if TYPE_CHECKING:
    from omniq.worker.worker import Worker

logger = logging.getLogger(__name__)
KNOWS_NOTHING = (
    "the application knows no task, so whatever this worker claims is parked; import the modules "
    "that define tasks where the application is made"
)


def log_start(worker: Worker) -> None:
    """Log which queues and stores a worker serves, in one line, and whether it knows any task."""
    options, known = worker.options, worker.app.registry
    logger.info("worker %s serves %s; %s", worker.id, ", ".join(options.queues), _stores_of(worker))
    if not (known.finds_more or len(known) or options.allow_modules):
        logger.warning("%s", KNOWS_NOTHING)


def _stores_of(worker: Worker) -> str:
    """Return where everything is that a worker uses: ``tasks, results in …; events in …``."""
    app = worker.app
    used: dict[str, Component] = {"tasks": app.task_queue, "results": app.result_storage}
    if app.log_events:
        used["events"] = app.event_storage
    if worker.options.schedules:
        used["schedules"] = app.schedule_storage
    by_store: dict[str, list[str]] = {}
    for name, component in used.items():
        by_store.setdefault(component.store_name, []).append(name)
    return "; ".join(f"{', '.join(names)} in {store}" for store, names in by_store.items())
