"""Tasks that wait for others: how they cross without running before those they wait for.

Children are made stubs before their parents, as a parent that becomes final in the source moves its
children there. They are stored in the target after their parents. In between, anything may happen
to the parents: the last of their own ends and lets them go, or the target will not take them. So
before a child is stored, each of its parents must be known in the target, or have had its say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import TopologicalSorter

from omniq.clock import utcnow
from omniq.models.task import Task, TaskStatus
from omniq.moving.crossing import Crossing, chunks
from omniq.moving.parking import closed, is_mark, is_open, restored, stub
from omniq.storage.base import BaseQueue, Change, TaskFilter

_WAITING = TaskFilter(statuses=frozenset({TaskStatus.WAITING}))


class Families(Crossing):
    """Takes tasks that wait for others to the target."""

    def __init__(self, source: BaseQueue, target: BaseQueue) -> None:
        super().__init__(source, target)
        self._open: dict[str, Task] = {}
        """Stubs of waiting tasks that are not stored in the target yet."""

    async def waiting(self) -> None:
        """Transfer all tasks that wait for others, children before their parents are let go."""
        tasks = {t.id: t async for t in self.source.iter_tasks(_WAITING) if not is_mark(t)}
        if not tasks:
            return
        await self._park_live(sorted(parents_of(tasks.values()) - tasks.keys()))
        now, stubs = utcnow(), list[Task]()
        for level in reversed(_levels(tasks)):
            for chunk in chunks(level):
                changes = [Change(task, stub(task, now)) for task in chunk]
                won = await self.source.swap(changes)
                stubs += [change.after for change, ok in zip(changes, won, strict=True) if ok]
        await self._store(stubs)
        self.moved += len(stubs)

    async def introduce(self, parent_ids: Iterable[str]) -> set[str]:
        """See to it that the target knows these parents of tasks that are to be stored there.

        Returns those it does not know yet and that are not over: a child must not be stored before
        them. Parents that are in neither store any more have had their say.
        """
        ids = sorted(set(parent_ids))
        there = await self.target.get(ids)
        wanted = [key for key, task in zip(ids, there, strict=True) if task is None]
        await self._park_live(wanted)
        # What ended since it was looked at has found no copy to tell: so this comes after that.
        copies = [task.id for task in there if task is not None and is_mark(task)]
        found = [task for task in await self.source.get([*wanted, *copies]) if task is not None]
        await self.final([task for task in found if task.is_final and not is_mark(task)])
        absent = await self._absent(wanted)
        left = [task for task in await self.source.get(absent) if task is not None]
        return {task.id for task in left if not is_mark(task) or is_open(task)}

    async def _absent(self, task_ids: Iterable[str]) -> list[str]:
        ids = sorted(set(task_ids))
        found = await self.target.get(ids)
        return [key for key, task in zip(ids, found, strict=True) if task is None]

    async def _store(self, stubs: Sequence[Task]) -> None:
        """Store waiting tasks, of which the source has the stubs, parents first."""
        for level in _levels(await self._with_ancestors(stubs)):
            for chunk in chunks(level):
                unknown = await self.introduce(parents_of(chunk))
                await self._store_children(
                    [item for item in chunk if unknown.isdisjoint(item.depends_on)]
                )
                for item in chunk:
                    if names := sorted(unknown.intersection(item.depends_on)):
                        self._open[item.id] = item
                        self.stuck[item.id] = f"it waits for {', '.join(names)}, which is stuck"

    async def _with_ancestors(self, stubs: Sequence[Task]) -> dict[str, Task]:
        """Return these stubs, and those of their ancestors the target does not have either."""
        family = {item.id: item for item in stubs}
        ids = parents_of(stubs) - family.keys()
        while ids:
            found = await self.source.get(await self._absent(ids))
            new = {task.id: task for task in found if task is not None and is_open(task)}
            family |= new
            ids = parents_of(new.values()) - family.keys()
        return family

    async def _store_children(self, stubs: Sequence[Task]) -> None:
        gone = set(await self._absent(parents_of(stubs)))
        tasks: list[Task] = []
        for item in stubs:
            task = restored(item)
            task.depends_on = tuple(p for p in item.depends_on if p not in gone)
            tasks.append(task)
        inserted = await self.target.insert(tasks)
        stored: list[Task] = []
        for item, there in zip(stubs, inserted, strict=True):
            if there.task_id == item.id:
                stored.append(item)
                self._open.pop(item.id, None)
                self.stuck.pop(item.id, None)
            else:
                self._open[item.id] = item
                self.stuck[item.id] = f"task {there.task_id} of the target holds its unique key"
        await self.release(stored)
        await self.source.swap([Change(item, closed(item)) for item in stored])

    async def _parents_of_waiting(self) -> set[str]:
        return {p async for task in self.source.iter_tasks(_WAITING) for p in task.depends_on}


def parents_of(tasks: Iterable[Task]) -> set[str]:
    """Return the ids of all that these tasks wait for."""
    return {parent_id for task in tasks for parent_id in task.depends_on}


def _levels(tasks: dict[str, Task]) -> list[list[Task]]:
    """Group tasks so that each stands behind all its parents."""
    depth: dict[str, int] = {}
    graph = {key: [p for p in task.depends_on if p in tasks] for key, task in tasks.items()}
    for key in TopologicalSorter(graph).static_order():
        depth[key] = 1 + max((depth[p] for p in graph[key]), default=-1)
    levels: list[list[Task]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key, number in depth.items():
        levels[number].append(tasks[key])
    return levels
