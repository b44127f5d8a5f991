"""The steps by which single tasks cross from one queue to another; see `parking`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from omniq.clock import utcnow
from omniq.exceptions import ValidationError
from omniq.models.task import Task, TaskStatus
from omniq.moving import times
from omniq.moving.parking import is_mark, is_token, parked, restored, stub
from omniq.storage.base import BaseQueue, Change

PAGE = 500


class Crossing:
    """Takes tasks that wait for nothing, or are over, from `source` to `target`.

    Attributes:
        moved: how many tasks were transferred by this one.
        stuck: ids the target would not take, and why; they stay, and run, in the source.
    """

    def __init__(self, source: BaseQueue, target: BaseQueue) -> None:
        self.source = source
        self.target = target
        self.moved: int = 0
        self.stuck: dict[str, str] = {}
        self._untold: set[str] = set()
        """Tasks of the source whose copy in the target may have to be told of their end."""

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
        self._untold |= {task.id for task in ready}
        now = utcnow()
        changes = [Change(task, stub(task, now)) for task in ready]
        won = await self.source.swap(changes)
        stubs = [change.after for change, ok in zip(changes, won, strict=True) if ok]
        await self.release(stubs)
        self._untold -= {item.id for item in stubs}
        self.moved += len(stubs)
        return len(stubs)

    async def release(self, stubs: Sequence[Task]) -> None:
        """Let the parked copies of these stubs be claimed, should nobody have done so yet."""
        left = [item for item in stubs if not is_token(item)]
        there = await self.target.get([item.id for item in left])
        await self.target.swap(
            [
                Change(found, restored(item))
                for found, item in zip(there, left, strict=True)
                if found is not None and is_mark(found)
            ]
        )

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

    async def tell(self, task_ids: Iterable[str]) -> set[str]:
        """Let the target know which of these, of which it has copies, have ended in the source.

        Returns those that live on in the source.
        """
        ids = sorted(task_ids)
        there = await self.target.get(ids)
        copied = [task.id for task in there if task is not None and is_mark(task)]
        found = [task for task in await self.source.get(copied) if task is not None]
        own = [task for task in found if not is_mark(task)]
        await self.final([task for task in own if task.is_final])
        return {task.id for task in own if not task.is_final}

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
        """Let the target know these tasks, if they are neither over nor wait for others."""
        found = await self.source.get(task_ids)
        live = [t for t in found if t is not None and not t.is_final and not is_mark(t)]
        await self._park([task for task in live if task.status is not TaskStatus.WAITING])


def chunks(tasks: Sequence[Task]) -> Iterable[Sequence[Task]]:
    """Split tasks into pages."""
    return (tasks[start : start + PAGE] for start in range(0, len(tasks), PAGE))
