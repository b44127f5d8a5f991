"""From one store to another: everything of an application, as it is."""

from __future__ import annotations

from functools import partial

from omniq.app.stores import Sources, Stores
from omniq.backend.base import BaseBackend
from omniq.blocking import run_blocking
from omniq.migration.copying import (
    Copied,
    MigrationError,
    Progress,
    Report,
    copy_results,
    copy_schedules,
    refuse_running,
)
from omniq.migration.events import copy_events, missing_events
from omniq.migration.tasks import copy_tasks
from omniq.migration.verifying import Digest, verified_records
from omniq.models.config import OmniQConfig, StorageBackendConfig

__all__ = ["Copied", "Digest", "MigrationError", "Progress", "Report", "migrate", "migrate_sync"]

Place = str | StorageBackendConfig | OmniQConfig | BaseBackend
"""A URL, a backend, or a configuration, which may name a backend for each component."""


async def migrate(
    source: Place, target: Place, *, verify: bool = False, progress: Progress | None = None
) -> Report:
    """Copy all results, events, tasks and schedules; ids, states and times stay as they are.

    Stop producers and workers of `source` first: it is only read, so what they do later is not
    copied, and they would run its tasks once more. What `target` has already is left alone: a
    migration that was interrupted is simply started again, and a finished task never becomes
    runnable. A live task keeps of its `depends_on` the parents that are unfinished.

    Args:
        source: where from.
        target: where to.
        verify: compare all records afterwards, before workers start on the target.
        progress: called with the kind of record, how many are done, and how many there are.

    Raises:
        MigrationError: the source is empty, a worker holds a task, or somebody changed the source
            meanwhile.
        ValidationError: the target cannot hold a value (one pickled in the source, say).
    """
    old, new = _stores(source), _stores(target)
    tell = progress or _silent
    try:
        await old.connect()
        await new.connect()
        await _refuse_empty(old)
        await refuse_running(old.tasks)
        report = Report()
        report.results = await copy_results(old.results, new.results, tell)
        report.events = await copy_events(old.events, new.events, tell)
        report.tasks = await copy_tasks(old.tasks, new.tasks, report, tell)
        report.schedules = await copy_schedules(old.schedules, new.schedules, tell)
        if verify:
            report.digests = await verified_records(old, new, report.damaged)
            report.missing_events = await missing_events(old.events, new.events)
        return report
    finally:
        await old.disconnect()
        await new.disconnect()


def migrate_sync(
    source: Place, target: Place, *, verify: bool = False, progress: Progress | None = None
) -> Report:
    """Block until `await migrate(…)` is done and return its result."""
    call = partial(migrate, source, target, verify=verify, progress=progress)
    return run_blocking(call, "migrate")


def _stores(place: Place) -> Stores:
    if isinstance(place, OmniQConfig):
        return Stores(Sources(config=place))
    return Stores(Sources(place), {})


async def _refuse_empty(stores: Stores) -> None:
    """Refuse a source without a single record: most likely its name is misspelt."""
    has_records = (
        await stores.tasks.counts()
        or await stores.results.find(limit=1)
        or await stores.events.query(limit=1)
        or await stores.schedules.list_schedules()
    )
    if not has_records:
        raise MigrationError(f"{stores.tasks!r} is empty; is it the store you mean?")


def _silent(kind: str, done: int, total: int | None) -> None:
    """Tell nobody."""
