"""Transferring live tasks between two queues, resumable at every step; see `parking`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from graphlib import TopologicalSorter

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import ValidationError
from omniq.models.task import FINAL_STATUSES, Task, TaskStatus
from omniq.moving import times
from omniq.moving.parking import MOVE, closed, is_mark, is_token, parked, restored, stub
from omniq.storage.base import BaseQueue, Change, TaskFilter

PAGE = 500
_CLAIMABLE = frozenset({TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.RUNNING})


class Transfer:
    """Takes tasks from `source` to `target`. Any number may work on the same two at once.

    Both are used as they are: `source` must be one that does not follow the move.

    Attributes:
        moved: how many tasks were transferred by this one.
        stuck: ids the target would not take, and why; they stay, and run, in the source.
    """

    def __init__(self, source: BaseQueue, target: BaseQueue) -> None:
        self.source = source
        self.target = target
        self.moved = 0
        self.stuck: dict[str, str] = {}
        self._open: dict[str, Task] = {}
        """Stubs of waiting tasks that are not stored in the target yet."""

    async def recover(self) -> None:
        """Do the last step for all tasks somebody did not finish transferring."""
        await self._drop_tokens()
        where = TaskFilter(statuses=frozenset({TaskStatus.CANCELLED}), worker_id=MOVE)
        page: list[Task] = []
        async for left in self.source.iter_tasks(where):
            if left.waiting_for:
                self._open[left.id] = left
            page.append(left)
            if len(page) == PAGE:
                await self._release(page)
                page = []
        await self._release(page)

    async def pass_over(self) -> int:
        """Transfer all that can be now; return how many tasks are not in the target yet."""
        await self._store_waiting(list(self._open.values()))
        await self.waiting()
        held = await self._parents_of_waiting()
        after: str | None = None
        left = 0
        while page := await self.source.find(
            TaskFilter(statuses=_CLAIMABLE), after=after, limit=PAGE
        ):
            live = [task for task in page if not is_mark(task) and task.queue_name != MOVE]
            left += len(live)
            left -= await self.claimable([task for task in live if task.id not in held])
            after = page[-1].id
        return left + len(self._open) + len(held)

    async def claimable(self, tasks: Sequence[Task]) -> int:
        """Transfer tasks that wait for nothing but a worker; return how many it did.

        Left where they are: those that run, those a worker or another mover came first to, and
        those whose id or key the target has.
        """
        dead_at = utcnow() - timedelta(seconds=times.DEAD_SECONDS)
        free = [
            task
            for task in tasks
            if task.status is not TaskStatus.RUNNING or (task.due_at and task.due_at < dead_at)
        ]
        ready = await self._park(free)
        now = utcnow()
        changes = [Change(task, stub(task, now)) for task in ready]
        won = await self.source.swap(changes)
        stubs = [change.after for change, ok in zip(changes, won, strict=True) if ok]
        await self._release(stubs)
        self.moved += len(stubs)
        return len(stubs)

    async def adopt(self, task_ids: Sequence[str]) -> None:
        """See to tasks that came into the source after it began to move, or was left."""
        records = [task for task in await self.source.get(task_ids) if task is not None]
        own = [task for task in records if not is_mark(task)]
        if any(task.status is TaskStatus.WAITING for task in own):
            await self.waiting()
        await self.claimable([task for task in own if task.status in _CLAIMABLE])
        for task in own:
            if task.status is TaskStatus.CANCELLED and await self._had_stubs(task.depends_on):
                await self.bring(task.depends_on)
                await self.target.insert([lifecycle.requeue(task, utcnow())])

    async def waiting(self) -> None:
        """Transfer all tasks that wait for others, children before their parents are let go."""
        where = TaskFilter(statuses=frozenset({TaskStatus.WAITING}))
        tasks = {task.id: task async for task in self.source.iter_tasks(where) if not is_mark(task)}
        if not tasks:
            return
        outside = {p for task in tasks.values() for p in task.depends_on} - tasks.keys()
        await self._park_live(sorted(outside))
        now, stubs = utcnow(), list[Task]()
        for level in reversed(_levels(tasks)):
            for chunk in _chunks(level):
                changes = [Change(task, stub(task, now)) for task in chunk]
                won = await self.source.swap(changes)
                stubs += [change.after for change, ok in zip(changes, won, strict=True) if ok]
        await self._store_waiting(stubs)
        self.moved += len(stubs)

    async def bring(self, task_ids: Iterable[str]) -> None:
        """See to it that the target knows these parents of new tasks, wherever they are."""
        ids = sorted(set(task_ids))
        found = await self.target.get(ids)
        absent = [key for key, task in zip(ids, found, strict=True) if task is None]
        records = [task for task in await self.source.get(absent) if task is not None]
        if any(task.status is TaskStatus.WAITING for task in records):
            await self.waiting()
        await self._store_waiting([task for task in records if is_mark(task) and task.waiting_for])
        await self.final([task for task in records if task.is_final and not is_mark(task)])
        await self._park_live(absent)

    async def final(self, tasks: Sequence[Task]) -> int:
        """Copy finished tasks; what waited in the target for one of them goes on.

        Returns how many the target did not have.
        """
        own = [task for task in tasks if not is_mark(task)]
        inserted = await self.target.insert(own)
        there = [task for task, item in zip(own, inserted, strict=True) if not item.stored]
        found = await self.target.get([task.id for task in there])
        changes = [
            Change(copy_there, task)
            for copy_there, task in zip(found, there, strict=True)
            if copy_there is not None and is_mark(copy_there)
        ]
        return len(own) - len(there) + sum(await self.target.swap(changes))

    async def all_final(self, tell: Callable[[int, None], None]) -> tuple[int, int]:
        """Copy all finished tasks; return how many there are, and how many the target lacked."""
        seen = copied = 0
        after: str | None = None
        where = TaskFilter(statuses=FINAL_STATUSES)
        while page := await self.source.find(where, after=after, limit=PAGE):
            own = [task for task in page if not is_mark(task) and task.queue_name != MOVE]
            copied += await self.final(own)
            seen += len(own)
            tell(seen, None)
            after = page[-1].id
        return seen, copied

    async def _park(self, tasks: Sequence[Task]) -> list[Task]:
        """Put parked copies into the target; return the tasks that have one now."""
        copies = [parked(task) for task in tasks]
        try:
            inserted = await self.target.insert(copies)
        except ValidationError as error:
            if len(tasks) == 1:
                self.stuck[tasks[0].id] = str(error)
                return []
            half = len(tasks) // 2
            return [*await self._park(tasks[:half]), *await self._park(tasks[half:])]
        there = await self.target.get([task.id for task in tasks])
        ready: list[Task] = []
        for task, item, found in zip(tasks, inserted, there, strict=True):
            if found is not None and is_mark(found):
                ready.append(task)
                self.stuck.pop(task.id, None)
            elif item.task_id == task.id:
                self.stuck[task.id] = "the target has another task of this id"
            else:
                self.stuck[task.id] = f"task {item.task_id} of the target holds its unique key"
        return ready

    async def _park_live(self, task_ids: Sequence[str]) -> None:
        found = await self.source.get(task_ids)
        live = [t for t in found if t is not None and not t.is_final and not is_mark(t)]
        await self._park([task for task in live if task.status is not TaskStatus.WAITING])

    async def _release(self, stubs: Sequence[Task]) -> None:
        """Let the parked copies of these stubs be claimed."""
        left = [item for item in stubs if not is_token(item)]
        there = await self.target.get([item.id for item in left])
        await self.target.swap(
            [
                Change(found, restored(item))
                for found, item in zip(there, left, strict=True)
                if found is not None and is_mark(found)
            ]
        )

    async def _store_waiting(self, stubs: Sequence[Task]) -> None:
        """Store waiting tasks, of which the source has the stubs, parents first."""
        for level in _levels({item.id: item for item in stubs}):
            for chunk in _chunks(level):
                parents = sorted({p for item in chunk for p in item.depends_on})
                found = await self.target.get(parents)
                known = {p for p, task in zip(parents, found, strict=True) if task is not None}
                await self._store_children(chunk, known)

    async def _store_children(self, stubs: Sequence[Task], known: set[str]) -> None:
        """Those of their parents that are in neither store any more have had their say."""
        tasks: list[Task] = []
        for item in stubs:
            task = restored(item)
            task.depends_on = tuple(p for p in item.depends_on if p in known)
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
        await self._release(stored)
        await self.source.swap([Change(item, closed(item)) for item in stored])

    async def _had_stubs(self, parent_ids: Sequence[str]) -> bool:
        """Whether the source could not know how these parents stand."""
        found = await self.source.get(parent_ids)
        return any(parent is not None and is_mark(parent) for parent in found)

    async def _parents_of_waiting(self) -> set[str]:
        where = TaskFilter(statuses=frozenset({TaskStatus.WAITING}))
        return {
            parent_id
            async for task in self.source.iter_tasks(where)
            for parent_id in task.depends_on
        }

    async def _drop_tokens(self) -> None:
        old = utcnow() - timedelta(seconds=times.TOKEN_SECONDS)
        where = TaskFilter(statuses=frozenset({TaskStatus.SCHEDULED}), funcs=frozenset({MOVE}))
        tokens = [t async for t in self.source.iter_tasks(where) if is_mark(t)]
        lost = [item for item in tokens if item.created_at < old]
        for chunk in _chunks(lost):
            await self.source.swap([Change(item, closed(item)) for item in chunk])


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


def _chunks(tasks: Sequence[Task]) -> Iterable[Sequence[Task]]:
    return (tasks[start : start + PAGE] for start in range(0, len(tasks), PAGE))
