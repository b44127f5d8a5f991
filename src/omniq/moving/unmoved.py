"""A queue as it is, whatever took its place."""

from __future__ import annotations

from datetime import datetime

from omniq.models.task import Task
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    Change,
    Counts,
    Inserted,
    Lease,
    TaskFilter,
)
from omniq.storage.joining import Caller


class UnmovedQueue(BaseQueue):
    """The same store as `queue`, but one that does not follow a move."""

    def __init__(self, queue: BaseQueue) -> None:
        super().__init__()
        self.capabilities = queue.capabilities
        self._queue = queue

    def __repr__(self) -> str:
        return repr(self._queue)

    async def _open(self) -> None:
        await self._queue.connect()

    async def _serving(self) -> UnmovedQueue:
        await self._queue.connect()
        return self

    def _refuse(self, task: Task) -> None:
        self._queue._refuse(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        return await self._queue._insert(tasks, now)

    async def _insert_within(
        self,
        caller: Caller,
        tasks: list[Task],
        events: BaseEventStorage | None,
        now: datetime | None,
    ) -> list[Inserted]:
        return await self._queue._insert_within(caller, tasks, events, now)

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        return await self._queue._claim(queues, worker_id, lease_token, limit, lease_seconds, now)

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        return await self._queue._swap(changes, now)

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        return await self._queue._extend(leases, lease_seconds, now)

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        return await self._queue._get(task_ids)

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        return await self._queue._find(where, after, limit)

    async def _counts(self) -> Counts:
        return await self._queue._counts()

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        return await self._queue._purge(finished_before, limit)

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        await self._queue._set_paused(queue_name, paused)

    async def _paused(self) -> set[str]:
        return await self._queue._paused()

    async def _next_due(self, queues: list[str]) -> datetime | None:
        return await self._queue._next_due(queues)

    async def _wait(self, queues: list[str], timeout: float) -> None:
        await self._queue._wait(queues, timeout)

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        await self._queue._wait_final(task_ids, timeout)

    async def _announce(self, worker_id: str) -> None:
        await self._queue._announce(worker_id)

    async def _withdraw(self, worker_id: str) -> None:
        await self._queue._withdraw(worker_id)

    async def _end_dead_leases(self) -> list[str]:
        return await self._queue._end_dead_leases()
