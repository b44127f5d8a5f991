"""`MemoryResultStorage`: results in memory."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from datetime import datetime

from omniq.clock import utcnow
from omniq.models.result import TaskResult
from omniq.serialization import MAX_RESULT_BYTES, RecordCodec, SerializationFormat
from omniq.storage.memory.component import MemoryComponent
from omniq.storage.memory.heap import LazyHeap
from omniq.storage.memory.waiters import LONGEST_SLEEP_SECONDS, Waiters
from omniq.storage.results import BaseResultStorage

Expiry = tuple[datetime, str]
Stored = tuple[int, Expiry | None, bytes]
"""Claim count, expiry and the encoded result: plain values that the garbage collector skips."""


class MemoryResultStorage(MemoryComponent, BaseResultStorage):
    """Results in the memory of this process. Safe to use from any thread and event loop.

    Values are kept encoded: what a caller does to one it gave or got never reaches the store.

    Args:
        serialization_format: how values are encoded; ``pickle`` takes any picklable value.
    """

    def __init__(self, *, serialization_format: SerializationFormat = "json") -> None:
        super().__init__()
        self._codec = RecordCodec(
            TaskResult, ("result",), format=serialization_format, limit=MAX_RESULT_BYTES
        )
        self._lock = threading.Lock()
        self._arrivals = Waiters(self._lock)
        self._stored: dict[str, Stored] = {}
        self._expiries: LazyHeap[Expiry] = LazyHeap(self._is_current)
        self._sorted_ids: list[str] | None = []

    async def wait(self, task_id: str, timeout: float | None = None) -> TaskResult | None:
        """Return the result as soon as there is one; None after `timeout` seconds (None: never)."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        while True:
            found = await self.get(task_id)
            left = LONGEST_SLEEP_SECONDS if ends_at is None else ends_at - time.monotonic()
            if found is not None or left <= 0:
                return found
            await self._arrivals.wait(
                [task_id], left, lambda now: now if self._living(task_id, now) else None
            )

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        encoded = [self._codec.encode(result) for result in results]
        now = utcnow()
        with self._lock:
            return [
                self._set_one(result, data, now)
                for result, data in zip(results, encoded, strict=True)
            ]

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        moment = now or utcnow()
        with self._lock:
            found = [self._living(task_id, moment) for task_id in task_ids]
        return [stored and self._codec.decode(stored[2]) for stored in found]

    async def _delete(self, task_ids: list[str]) -> int:
        now = utcnow()
        with self._lock:
            return sum(self._delete_one(task_id, now) for task_id in task_ids)

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        moment = now or utcnow()
        page: list[Stored] = []
        with self._lock:
            ids = self._ids()
            for place in range(0 if after is None else bisect_right(ids, after), len(ids)):
                stored = self._living(ids[place], moment)
                if stored is not None:
                    page.append(stored)
                if len(page) == limit:
                    break
        return [self._codec.decode(stored[2]) for stored in page]

    async def _purge(self, now: datetime | None, limit: int) -> int:
        moment = now or utcnow()
        deleted = 0
        with self._lock:
            while deleted < limit and (entry := self._expiries.first()) is not None:
                if entry[0] > moment:
                    break
                self._expiries.pop()
                del self._stored[entry[1]]
                self._sorted_ids = None
                deleted += 1
        return deleted

    def _set_one(self, result: TaskResult, data: bytes, now: datetime) -> bool:
        task_id = result.task_id
        standing = self._living(task_id, now)
        if standing is not None and standing[0] > result.claim_count:
            return False
        if task_id not in self._stored:
            self._sorted_ids = None
        expiry = None if result.expires_at is None else (result.expires_at, task_id)
        self._stored[task_id] = (result.claim_count, expiry, data)
        if expiry is not None:
            self._expiries.push(expiry)
        self._arrivals.announce(task_id)
        return True

    def _delete_one(self, task_id: str, now: datetime) -> bool:
        was_there = self._living(task_id, now) is not None
        if self._stored.pop(task_id, None) is not None:
            self._sorted_ids = None
        return was_there

    def _living(self, task_id: str, now: datetime) -> Stored | None:
        stored = self._stored.get(task_id)
        if stored is None or stored[1] is None or stored[1][0] > now:
            return stored
        return None

    def _is_current(self, expiry: Expiry) -> bool:
        stored = self._stored.get(expiry[1])
        return stored is not None and stored[1] is expiry

    def _ids(self) -> list[str]:
        if self._sorted_ids is None:
            self._sorted_ids = sorted(self._stored)
        return self._sorted_ids
