"""`MovingQueue`: two queues as one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from omniq.exceptions import StorageError
from omniq.models.task import FINAL_STATUSES, Task, TaskStatus
from omniq.moving.paging import merged
from omniq.moving.parking import FAR, MOVE, closed, is_mark, is_token, restored, token
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

_LASTING = FINAL_STATUSES - {TaskStatus.CANCELLED}


class MovingQueue(BaseQueue):
    """A queue that moves from `source` to `target`.

    New tasks go to the target, claims come from both. The whole contract holds but for three
    things: tasks of the source are claimed before those of the target, whatever their priority;
    `counts` may count too few of the finished tasks, and a parent of new tasks twice; and `find`
    may miss a task that is just being transferred.
    """

    def __init__(self, source: BaseQueue, target: BaseQueue) -> None:
        super().__init__()
        self._source = source
        self._target = target
        self._transfer = Transfer(source, target)
        self._announced: set[str] = set()
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

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        standing = await self._reserve(tasks, now)
        new = [task for task, item in zip(tasks, standing, strict=True) if item is None]
        try:
            await self._transfer.bring(p for task in new for p in task.depends_on)
            stored = iter(await self._target.insert(new, now=now))
        finally:
            await self._drop_tokens([task.id for task in new])
        return [next(stored) if item is None else item for item in standing]

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
        """Change each where it is; what is finished in the source runs again in the target only."""
        revived = [c.before.id for c in changes if c.before.is_final and not c.after.is_final]
        if revived:
            found = await self._source.get(revived)
            await self._transfer.final([t for t in found if t is not None and t.is_final])
        applied = await self._target.swap(changes, now=now)
        lost = [n for n, ok in enumerate(applied) if not ok and not changes[n].before.is_final]
        there = await self._target.get([changes[n].before.id for n in lost])
        left = [n for n, task in zip(lost, there, strict=True) if task is None or is_mark(task)]
        done = await self._source.swap([changes[n] for n in left], now=now)
        for n, ok in zip(left, done, strict=True):
            applied[n] = ok
        await self._tell_target([changes[n].after for n in left if applied[n]])
        return applied

    async def _tell_target(self, changed: list[Task]) -> None:
        """Let children in the target know of parents that ended in the source."""
        ended = [task.id for task in changed if task.is_final]
        there = await self._target.get(ended)
        waited_for = [task.id for task in there if task is not None and is_mark(task)]
        found = await self._source.get(waited_for)
        await self._transfer.final([t for t in found if t is not None and t.is_final])

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        held = await self._target.extend(leases, lease_seconds=lease_seconds, now=now)
        known = {task.id for task in held}
        others = [lease for lease in leases if lease.task_id not in known]
        return held + await self._source.extend(others, lease_seconds=lease_seconds, now=now)

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        there = await self._target.get(task_ids)
        open_ids = [
            key for key, task in zip(task_ids, there, strict=True) if task is None or is_mark(task)
        ]
        here = await self._source.get(list(dict.fromkeys(open_ids)))
        known = {task.id: _as_seen(task) for task in here if task is not None}
        return [
            known.get(key) if task is None or is_mark(task) else task
            for key, task in zip(task_ids, there, strict=True)
        ]

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
        await _first_of(self._source.wait(queues, timeout), self._target.wait(queues, timeout))

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        await _first_of(
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


def _as_seen(record: Task) -> Task | None:
    """Return the task that a record of the source stands for while the target has none."""
    if is_token(record):
        return None
    return restored(record) if is_mark(record) else record


async def _first_of(*waits: Coroutine[Any, Any, None]) -> None:
    """Return when the first is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(item) for item in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
