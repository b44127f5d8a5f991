"""From one store to another: everything of an application, as it is."""

from __future__ import annotations

from functools import partial

from omniq.blocking import run_blocking
from omniq.migration.copying import (
    Copied,
    MigrationError,
    Progress,
    Report,
    copy_results,
    copy_schedules,
    refuse_running,
    task_count,
)
from omniq.migration.events import copy_events, missing_events
from omniq.migration.mover import Moved, move, move_sync
from omniq.migration.places import (
    Place,
    open_source,
    refuse_empty,
    refuse_moving,
    refuse_same,
    stores_of,
)
from omniq.migration.tasks import copy_tasks
from omniq.migration.verifying import Digest, verified_records

__all__ = [
    "Copied",
    "Digest",
    "MigrationError",
    "Moved",
    "Place",
    "Progress",
    "Report",
    "migrate",
    "migrate_sync",
    "move",
    "move_sync",
]


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
        MigrationError: both are the same store, the source does not exist, is empty or was moved
            by `move`, a worker holds a task, or somebody changed the source meanwhile.
        ValidationError: the target cannot hold a value (one pickled in the source, say).
    """
    old, new = stores_of(source), stores_of(target)
    refuse_same(old, new)
    tell = progress or _silent
    try:
        await open_source(old)
        await refuse_empty(old)
        await refuse_moving(old.tasks)
        await refuse_running(old.tasks)
        await new.connect()
        report = Report()
        before = await task_count(new.tasks)
        report.results = await copy_results(old.results, new.results, tell)
        report.events = await copy_events(old.events, new.events, tell)
        report.tasks = await copy_tasks(old.tasks, new.tasks, report, tell)
        report.others = before - report.tasks.present
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


def _silent(kind: str, done: int, total: int | None) -> None:
    """Tell nobody."""
