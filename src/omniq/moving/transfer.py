"""Transferring live tasks between two queues, resumable at every step; see `parking`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import StorageError
from omniq.models.task import FINAL_STATUSES, Task, TaskStatus
from omniq.moving import crossing, times
from omniq.moving.crossing import chunks
from omniq.moving.families import Families
from omniq.moving.parking import MOVE, closed, is_mark, is_open, is_token
from omniq.storage.base import Change, TaskFilter

_CLAIMABLE = frozenset({TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.RUNNING})


class Transfer(Families):
    """Takes tasks from `source` to `target`. Any number may work on the same two at once.

    Both are used as they are: `source` must be one that does not follow the move.
    """

    async def recover(self) -> None:
        """Do the last step for all tasks somebody did not finish transferring."""
        await self._drop_tokens()
        where = TaskFilter(statuses=frozenset({TaskStatus.CANCELLED}), worker_id=MOVE)
        page: list[Task] = []
        async for left in self.source.iter_tasks(where):
            if is_open(left):
                self._open[left.id] = left
            page.append(left)
            if len(page) == crossing.PAGE:
                await self.release(page)
                page = []
        await self.release(page)
        await self._tell_all()

    async def pass_over(self) -> int:
        """Transfer all that can be now; return how many tasks are not in the target yet."""
        self._untold = await self.tell(self._untold)
        await self.store_open()
        await self.waiting()
        held = await self._parents_of_waiting()
        after: str | None = None
        left = 0
        while page := await self.source.find(
            TaskFilter(statuses=_CLAIMABLE), after=after, limit=crossing.PAGE
        ):
            live = [task for task in page if not is_mark(task) and task.queue_name != MOVE]
            left += len(live)
            left -= await self.claimable([task for task in live if task.id not in held])
            after = page[-1].id
        return left + len(self._open) + len(held)

    async def store_open(self) -> None:
        """Store what could not be stored before, unless somebody else has."""
        found = await self.source.get(sorted(self._open))
        still = [task for task in found if task is not None and is_open(task)]
        for task_id in self._open.keys() - {task.id for task in still}:
            self.stuck.pop(task_id, None)
        self._open = {task.id: task for task in still}
        await self._store(still)

    async def adopt(self, task_ids: Sequence[str]) -> None:
        """See to tasks that came into the source after it began to move, or was left."""
        own = await self._own(task_ids)
        if any(task.status is TaskStatus.WAITING for task in own):
            await self.waiting()
        await self.claimable([task for task in own if task.status in _CLAIMABLE])
        for task in await self._own(task_ids):
            if task.status is TaskStatus.CANCELLED and await self._had_stubs(task.depends_on):
                await self.bring(task.depends_on)
                await self.target.insert([lifecycle.requeue(task, utcnow())])

    async def bring(self, task_ids: Iterable[str]) -> None:
        """See to it that the target knows these parents of new tasks, wherever they are.

        Raises:
            StorageError: it cannot take one of them now.
        """
        unknown = await self.introduce(task_ids)
        if not unknown:
            return
        await self.waiting()
        found = [task for task in await self.source.get(sorted(unknown)) if task is not None]
        await self._store([task for task in found if is_open(task)])
        for task_id in sorted(await self.introduce(unknown)):
            reason = self.stuck.get(task_id, "it has just changed")
            raise StorageError(
                f"the parent {task_id} cannot be taken to {self.target!r}: {reason}; try again"
            )

    async def all_final(self, tell: Callable[[int, None], None]) -> tuple[int, int]:
        """Copy all finished tasks; return how many there are, and how many the target lacked."""
        seen = copied = 0
        after: str | None = None
        where = TaskFilter(statuses=FINAL_STATUSES)
        while page := await self.source.find(where, after=after, limit=crossing.PAGE):
            own = [task for task in page if not is_mark(task) and task.queue_name != MOVE]
            copied += await self.final(own)
            seen += len(own)
            tell(seen, None)
            after = page[-1].id
        return seen, copied

    async def _own(self, task_ids: Sequence[str]) -> list[Task]:
        """Return those of these tasks that are the source's own."""
        found = await self.source.get(task_ids)
        return [task for task in found if task is not None and not is_mark(task)]

    async def _tell_all(self) -> None:
        """Tell the target of the ends in the source that nobody lived to tell."""
        where = TaskFilter(statuses=frozenset({TaskStatus.SCHEDULED}))
        copies = [task.id async for task in self.target.iter_tasks(where) if is_mark(task)]
        for start in range(0, len(copies), crossing.PAGE):
            self._untold |= await self.tell(copies[start : start + crossing.PAGE])

    async def _had_stubs(self, parent_ids: Sequence[str]) -> bool:
        """Whether the source could not know how these parents stand."""
        found = await self.source.get(parent_ids)
        return any(parent is not None and is_mark(parent) for parent in found)

    async def _drop_tokens(self) -> None:
        old = utcnow() - timedelta(seconds=times.TOKEN_SECONDS)
        where = TaskFilter(statuses=frozenset({TaskStatus.SCHEDULED}), funcs=frozenset({MOVE}))
        tokens = [t async for t in self.source.iter_tasks(where) if is_token(t) and is_mark(t)]
        lost = [item for item in tokens if item.created_at < old]
        for chunk in chunks(lost):
            await self.source.swap([Change(item, closed(item)) for item in chunk])
