"""`MovingQueue`: two queues as one."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from omniq.exceptions import StorageError
from omniq.models.task import FINAL_STATUSES, Task, TaskStatus
from omniq.moving.knowledge import EVERYBODY_KNOWS, Knowledge
from omniq.moving.paging import merged
from omniq.moving.parking import (
    FAR,
    MOVE,
    closed,
    is_mark,
    is_open,
    is_token,
    token,
    waiting_again,
)
from omniq.moving.transfer import Transfer
from omniq.storage.base import (
    BaseQueue,
    Capabilities,
    Change,
    Counts,
    Inserted,
    Lease,
    TaskFilter,
)
from omniq.waits import first_of

logger = logging.getLogger(__name__)
_LASTING = FINAL_STATUSES - {TaskStatus.CANCELLED}


class MovingQueue(BaseQueue):
    """A queue that moves from `source` to `target`.

    New tasks go to the target once everybody knows of the move, claims come from both. The whole
    contract holds but for three things: tasks of the source are claimed before those of the target,
    whatever their priority; `counts` may count too few of the finished tasks, and a parent of new
    tasks twice; and `find` may miss a task that is just being transferred.
    """

    def __init__(
        self, source: BaseQueue, target: BaseQueue, known: Knowledge = EVERYBODY_KNOWS
    ) -> None:
        super().__init__()
        self._known = known
        self._source = source
        self._target = target
        self._transfer = Transfer(source, target)
        self._announced: set[str] = set()
        self._rescued = 0
        both = source.capabilities, target.capabilities
        self.capabilities = Capabilities(
            durable=all(item.durable for item in both),
            shared=all(item.shared for item in both),
            priorities=min((n for item in both if (n := item.priorities)), default=None),
            detects_death=any(item.detects_death for item in both),
            wakes=all(item.wakes for item in both),
        )

    def __repr__(self) -> str:
        return f"{self._source!r} moving to {self._target!r}"

    async def _open(self) -> None:
        await self._source.connect()
        await self._target.connect()

    def _refuse(self, task: Task) -> None:
        self._source._refuse(task)
        self._target._refuse(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        if not await self._known.has_settled():
            inserted = await self._source.insert(tasks, now=now)
            await self._known.confirm([item.task_id for item in inserted if item.stored])
            return inserted
        standing = await self._reserve(tasks, now)
        new = [task for task, item in zip(tasks, standing, strict=True) if item is None]
        try:
            await self._transfer.bring(p for task in new for p in task.depends_on)
            stored = iter(await self._insert_there(new, now))
        finally:
            with suppress(StorageError):  # what is done is done; the mover drops old tokens, too
                await self._drop_tokens([task.id for task in new])
        return [next(stored) if item is None else item for item in standing]

    async def _insert_there(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        """Store tasks in the target; a copy of a task that is over holds no key."""
        inserted = await self._target.insert(tasks, now=now)
        taken = [
            n
            for n, (task, item) in enumerate(zip(tasks, inserted, strict=True))
            if not item.stored and item.task_id != task.id
        ]
        holders = {inserted[n].task_id for n in taken}
        if holders and await self._transfer.tell(holders) != holders:
            again = await self._target.insert([tasks[n] for n in taken], now=now)
            for n, item in zip(taken, again, strict=True):
                inserted[n] = item
        return inserted

    async def _reserve(self, tasks: list[Task], now: datetime | None) -> list[Inserted | None]:
        """Take the ids and keys in the source; None where the target decides who has them."""
        taken = await self._source.insert([token(task) for task in tasks], now=now)
        holders = sorted({item.task_id for item in taken if not item.stored})
        found = await self._source.get(holders)
        own = {task.id for task in found if task is not None and not is_mark(task)}
        return [
            Inserted(item.task_id, stored=False) if item.task_id in own else None for item in taken
        ]

    async def _drop_tokens(self, task_ids: list[str]) -> None:
        found = await self._source.get(task_ids)
        tokens = [t for t in found if t is not None and is_token(t) and not t.is_final]
        await self._source.swap([Change(item, closed(item)) for item in tokens])

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        if worker_id not in self._announced:
            await self._target.announce(worker_id)
            self._announced.add(worker_id)
        claimed: list[Task] = []
        for queue in (self._source, self._target):
            try:
                claimed += await queue.claim(
                    queues,
                    worker_id=worker_id,
                    lease_token=lease_token,
                    limit=limit - len(claimed),
                    lease_seconds=lease_seconds,
                    now=now,
                )
            except StorageError:
                if not claimed:
                    raise
            if len(claimed) == limit:
                break
        return claimed

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        """Change each where it is; what is finished in the source runs again in the target only.

        But for as long as somebody may not know of the target: then it runs again where it is.
        """
        revived = [c.before.id for c in changes if c.before.is_final and not c.after.is_final]
        stays = bool(revived) and not await self._known.has_settled()
        if revived and not stays:
            found = await self._source.get(revived)
            await self._transfer.final([t for t in found if t is not None and t.is_final])
        applied = await self._target.swap(changes, now=now)
        lost = [
            n
            for n, ok in enumerate(applied)
            if not ok and (stays or not changes[n].before.is_final)
        ]
        there = await self._target.get([changes[n].before.id for n in lost])
        left = [n for n, task in zip(lost, there, strict=True) if task is None or is_mark(task)]
        done = await self._source.swap([changes[n] for n in left], now=now)
        for n, ok in zip(left, done, strict=True):
            applied[n] = ok
        # Those lost too: it may be the answer to an earlier call that was.
        await self._transfer.tell(changes[n].after.id for n in left if changes[n].after.is_final)
        if stays:
            await self._known.confirm(revived)
        return applied

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        held = await self._target.extend(leases, lease_seconds=lease_seconds, now=now)
        known = {task.id for task in held}
        others = [lease for lease in leases if lease.task_id not in known]
        return held + await self._source.extend(others, lease_seconds=lease_seconds, now=now)

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        there = await self._target.get(task_ids)
        known = {task.id: task for task in there if task is not None and not is_mark(task)}
        open_ids = [key for key in dict.fromkeys(task_ids) if key not in known]
        here = [task for task in await self._source.get(open_ids) if task is not None]
        known |= {task.id: task for task in here if not is_mark(task)}
        known |= {task.id: waiting_again(task) for task in here if is_open(task)}
        gone = [task for task in here if is_mark(task) and not is_open(task)]
        if gone:
            known |= await self._crossed(gone)
        return [known.get(key) for key in task_ids]

    async def _crossed(self, marks: list[Task]) -> dict[str, Task]:
        """Return the tasks that crossed while we looked; none of those deleted there since.

        One in transit is let go: its mover may be gone, and somebody waits for it.
        """
        await self._transfer.release(marks)
        there = await self._target.get([task.id for task in marks])
        return {task.id: task for task in there if task is not None and not is_mark(task)}

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        async def here(start: str | None) -> tuple[dict[str, Task], str | None]:
            page = await self._source.find(where, after=start, limit=limit)
            own = await self._only_here(page)
            return {task.id: task for task in own}, page[-1].id if len(page) == limit else None

        async def there(start: str | None) -> tuple[dict[str, Task], str | None]:
            page = await self._target.find(where, after=start, limit=limit)
            tasks = {task.id: task for task in page if not is_mark(task)}
            return tasks, page[-1].id if len(page) == limit else None

        return await merged(here, there, after, limit)

    async def _only_here(self, tasks: list[Task]) -> list[Task]:
        """Return those of the source's that are tasks, and in the source alone."""
        own = [task for task in tasks if not is_mark(task) and task.queue_name != MOVE]
        there = await self._target.get([task.id for task in own])
        return [
            task for task, found in zip(own, there, strict=True) if found is None or is_mark(found)
        ]

    async def _counts(self) -> Counts:
        counts = await self._target.counts()
        for name, by_status in (await self._source.counts()).items():
            if name == MOVE:
                continue
            known = counts.setdefault(name, {})
            for status, number in by_status.items():
                if status in _LASTING:  # copied, or about to be
                    known[status] = max(number, known.get(status, 0))
                elif not status.is_final:
                    known[status] = number + known.get(status, 0)
            if not known:
                del counts[name]
        return counts

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        # Stubs stay: one that was deleted before its task is in the target would be a lost task.
        return await self._target.purge(finished_before, limit=limit)

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        await self._source.set_paused(queue_name, paused)
        await self._target.set_paused(queue_name, paused)

    async def _paused(self) -> set[str]:
        return await self._source.paused() | await self._target.paused()

    async def _next_due(self, queues: list[str]) -> datetime | None:
        both = [await self._source._next_due(queues), await self._target._next_due(queues)]
        return min((moment for moment in both if moment and moment < FAR), default=None)

    async def _wait(self, queues: list[str], timeout: float) -> None:
        claim = self._known.abandoned
        if claim is not None and claim != self._rescued:
            await self._rescue(claim)
        await first_of(self._source.wait(queues, timeout), self._target.wait(queues, timeout))

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        await first_of(
            self._source.wait_final(task_ids, timeout), self._target.wait_final(task_ids, timeout)
        )

    async def _announce(self, worker_id: str) -> None:
        await self._source.announce(worker_id)
        await self._target.announce(worker_id)
        self._announced.add(worker_id)

    async def _withdraw(self, worker_id: str) -> None:
        self._announced.discard(worker_id)
        await self._source.withdraw(worker_id)
        await self._target.withdraw(worker_id)

    async def _end_dead_leases(self) -> list[str]:
        here = await self._source.end_dead_leases()
        return list(dict.fromkeys([*here, *await self._target.end_dead_leases()]))

    async def _rescue(self, claim: int) -> None:
        """Let go of what a mover that is gone left in transit, once for each.

        The mark stays with it: should it only have been slow, it goes on beside us.
        """
        logger.warning(
            "the mover of %r is gone; what it left in transit goes on, but all else stays where it "
            "is until `omniq move` is started again",
            self._source,
        )
        await self._transfer.recover()
        await self._transfer.store_open()
        self._rescued = claim
