"""Copying tasks: parents before those that wait for them, each in the state it is in."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from graphlib import TopologicalSorter

from omniq.migration.copying import (
    PAGE,
    Copied,
    MigrationError,
    Progress,
    Report,
    task_count,
)
from omniq.models.task import DAMAGED, Task, TaskStatus
from omniq.storage.base import BaseQueue, Inserted


async def copy_tasks(
    source: BaseQueue, target: BaseQueue, report: Report, progress: Progress
) -> Copied:
    """Copy all tasks but damaged ones; what the target has is left alone.

    Ids that could not be copied are added to the report.
    """
    total = await task_count(source)
    for queue_name in await source.paused():
        await target.set_paused(queue_name, True)
    done, after = Copied(), None
    waiting: dict[str, tuple[str, ...]] = {}
    while page := await source.find(after=after, limit=PAGE):
        report.damaged += [task.id for task in page if DAMAGED in task.metadata]
        moved = await _moved([task for task in page if DAMAGED not in task.metadata], source)
        waiting |= {task.id: task.depends_on for task in moved if _waits(task)}
        ready = [task for task in moved if not _waits(task)]
        done = _added(done, ready, await target.insert(ready), report)
        after = page[-1].id
        progress("tasks", sum(done), total)
    order = list(TopologicalSorter(waiting).static_order())
    ids = [task_id for task_id in order if task_id in waiting]
    for first in range(0, len(ids), PAGE):
        chunk = ids[first : first + PAGE]
        done = await _copy_waiting(chunk, source, target, done, report)
        progress("tasks", sum(done), total)
    return done


async def moved_task(task: Task, source: BaseQueue) -> Task:
    """Return a task as it is to be stored in another place."""
    return (await _moved([task], source))[0]


async def _moved(tasks: Sequence[Task], source: BaseQueue) -> list[Task]:
    parents = {p for task in tasks if not task.is_final for p in task.depends_on}
    found = await source.get(sorted(parents))
    unfinished = {task.id for task in found if task is not None and not task.is_final}
    return [_as_moved(task, unfinished) for task in tasks]


def _as_moved(task: Task, unfinished: set[str]) -> Task:
    """Return a live task with the parents it still waits for; a lost run counts as lost."""
    if task.is_final or (not task.depends_on and task.status is not TaskStatus.RUNNING):
        return task
    after = copy(task)
    after.depends_on = tuple(p for p in task.depends_on if p in unfinished)
    if task.status is TaskStatus.RUNNING:
        after.status, after.due_at = TaskStatus.PENDING, None
        after.lost_leases = task.lost_leases + 1
    return after


def _waits(task: Task) -> bool:
    return bool(task.depends_on) and not task.is_final


async def _copy_waiting(
    ids: list[str], source: BaseQueue, target: BaseQueue, done: Copied, report: Report
) -> Copied:
    tasks = await _moved([task for task in await source.get(ids) if task is not None], source)
    left_out = {*report.conflicts, *report.damaged}
    chosen: list[Task] = []
    for task in tasks:
        if left_out.isdisjoint(task.depends_on):
            chosen.append(task)
        else:
            left_out.add(task.id)
            report.conflicts.append(task.id)
    await _require_parents(chosen, target)
    return _added(done, chosen, await target.insert(chosen), report)


async def _require_parents(tasks: list[Task], target: BaseQueue) -> None:
    own = {task.id for task in tasks}
    parents = sorted({p for task in tasks for p in task.depends_on} - own)
    found = await target.get(parents)
    absent = [p for p, task in zip(parents, found, strict=True) if task is None]
    if absent:
        raise MigrationError(
            f"task {absent[0]} came while the source was copied; stop its producers, then start "
            "the migration again"
        )


def _added(
    done: Copied, tasks: Sequence[Task], inserted: Sequence[Inserted], report: Report
) -> Copied:
    report.conflicts += [
        task.id
        for task, item in zip(tasks, inserted, strict=True)
        if not item.stored and item.task_id != task.id
    ]
    stored = sum(item.stored for item in inserted)
    return done.plus(stored, len(tasks) - stored)
