"""`MemoryQueue`: tasks in memory."""

from __future__ import annotations

import threading
from bisect import bisect_right
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.models.task import Task
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.events import BaseEventStorage
from omniq.storage.memory.component import MemoryComponent
from omniq.storage.memory.lanes import Record
from omniq.storage.memory.table import TaskTable, encoded, whole
from omniq.storage.memory.waiters import Waiters
from omniq.storage.queue import BaseQueue
from omniq.storage.values import Change, Counts, Inserted, Lease, TaskFilter


class MemoryQueue(MemoryComponent, BaseQueue):
    """A task queue in the memory of this process. Safe to use from any thread and event loop.

    Tasks are kept encoded: what a caller does to a task it gave or got never reaches the store.
    Closing keeps the tasks; they live as long as the object.

    Args:
        serialization_format: how arguments are encoded; ``pickle`` takes any picklable value.
    """

    def __init__(self, *, serialization_format: SerializationFormat = "json") -> None:
        super().__init__()
        self._codec = RecordCodec(Task, ("args", "kwargs", "metadata"), format=serialization_format)
        self._lock = threading.Lock()
        self._arrivals = Waiters(self._lock)
        self._ends = Waiters(self._lock)
        self._table = TaskTable(self._arrivals.announce, self._ends.announce)

    def logs_with(self, events: BaseEventStorage) -> bool:
        """Whether both are in memory."""
        return isinstance(events, MemoryComponent)

    def _refuse(self, task: Task) -> None:
        self._codec.encode(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        datas = [encoded(task, self._codec) for task in tasks]
        moment = now or utcnow()
        with self._lock:
            return [
                self._table.insert(task, data, moment)
                for task, data in zip(tasks, datas, strict=True)
            ]

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        moment = now or utcnow()
        run = partial(
            lifecycle.claim,
            worker_id=worker_id,
            lease_token=lease_token,
            lease_ends_at=moment + timedelta(seconds=lease_seconds),
            now=moment,
        )
        with self._lock:
            taken = self._table.claim(queues, limit, run, moment)
            found = [(record.task, record.data) for record in taken]
        return [whole(task, data, self._codec) for task, data in found]

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        moment = now or utcnow()
        with self._lock:
            return [self._table.swap(change, moment) for change in changes]

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        ends_at = (now or utcnow()) + timedelta(seconds=lease_seconds)
        with self._lock:
            held = [self._table.extend(lease, ends_at) for lease in leases]
            return [self._handed_out(record) for record in held if record is not None]

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        with self._lock:
            records = [self._table.get(task_id) for task_id in task_ids]
            return [None if one is None else self._handed_out(one) for one in records]

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        with self._lock:
            ids = self._table.sorted_ids()
            start = 0 if after is None else bisect_right(ids, after)
            found = self._table.find(where, islice(ids, start, None), limit)
            return [self._handed_out(record) for record in found]

    async def _counts(self) -> Counts:
        with self._lock:
            return self._table.counts()

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        with self._lock:
            return self._table.purge(finished_before, limit)

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        with self._lock:
            self._table.lane(queue_name).paused = paused
            self._arrivals.announce(queue_name)

    async def _paused(self) -> set[str]:
        with self._lock:
            return self._table.paused()

    async def _next_due(self, queues: list[str]) -> datetime | None:
        with self._lock:
            return self._table.next_due(queues)

    async def _wait(self, queues: list[str], timeout: float) -> None:
        await self._arrivals.wait(
            queues, timeout, lambda moment: self._table.claimable_at(queues, moment)
        )

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        await self._ends.wait(task_ids, timeout, partial(self._final_at, task_ids))

    def _final_at(self, task_ids: list[str], now: datetime) -> datetime | None:
        """`now` if one of these is final already, or gone."""
        records = map(self._table.get, task_ids)
        return now if any(one is None or one.task.is_final for one in records) else None

    def _handed_out(self, record: Record) -> Task:
        return whole(record.task, record.data, self._codec)
