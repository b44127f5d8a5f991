"""What a worker does beside running tasks: firing schedules, cleaning up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from random import uniform
from typing import TYPE_CHECKING, Any

from omniq.exceptions import OmniQError
from omniq.scheduler import Scheduler

if TYPE_CHECKING:
    from omniq.core import OmniQ
    from omniq.worker.options import WorkerOptions

logger = logging.getLogger(__name__)
CLEANUP_SECONDS = 600.0


def upkeep(
    app: OmniQ, options: WorkerOptions, stop: asyncio.Event
) -> list[Coroutine[Any, Any, None]]:
    """Return what is to run beside a worker until it is cancelled; schedules end with `stop`."""
    jobs: list[Coroutine[Any, Any, None]] = []
    if options.schedules:
        events = app.event_storage if app.log_events else None
        jobs.append(Scheduler(app.task_queue, app.schedule_storage, events).run(stop))
    if options.cleanup:
        jobs.append(_clean_up(app))
    return jobs


async def _clean_up(app: OmniQ) -> None:
    while True:
        pause = uniform(CLEANUP_SECONDS / 2, CLEANUP_SECONDS)  # noqa: S311 - jitter
        await asyncio.sleep(pause)
        try:
            await app.cleanup()
        except OmniQError as error:
            logger.warning("cleanup: %s", error)
        except Exception:
            logger.exception("cleanup failed; again in a while")
