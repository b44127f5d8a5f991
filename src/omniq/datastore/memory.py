"""A data store in the memory of one process, for tests and for engines in one process."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from omniq.clock import utcnow
from omniq.datastore.connection import BaseConnection, Lists, Strings
from omniq.storage.memory.waiters import Due, Waiters

R = TypeVar("R")
_FOR_EVER = 1e12
_CLOSING = ""  # announced to all; the key of no queue


class MemoryConnection(BaseConnection):
    """Lists and strings in memory; several threads and event loops may share them.

    Closing keeps them: they are gone with this object.
    """

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._texts = _Texts()
        self._lock = threading.Lock()
        self._waiters = Waiters(self._lock)

    def __repr__(self) -> str:
        return "MemoryConnection()"

    async def disconnect(self) -> None:
        """End the calls that wait. Idempotent."""
        await super().disconnect()
        with self._lock:
            self._waiters.announce(_CLOSING)

    def lists(self, prefix: str) -> MemoryLists:
        """Return the lists under a prefix."""
        return MemoryLists(prefix, self, self._queues, self._lock, self._waiters)

    def strings(self, prefix: str) -> MemoryStrings:
        """Return the strings under a prefix."""
        return MemoryStrings(prefix, self._texts, self._lock)


class _Queue:
    """One list: what waits, oldest first, and what is leased until when."""

    __slots__ = ("leased", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()
        self.leased: dict[str, tuple[str, datetime]] = {}

    def recover(self, now: datetime) -> None:
        """Put back what has an ended lease, the first leased to the very front."""
        ended = [receipt for receipt, (_, until) in self.leased.items() if until <= now]
        for receipt in reversed(ended):
            self.waiting.appendleft(self.leased.pop(receipt)[0])

    def next_end(self, now: datetime) -> datetime | None:
        """Return when there is something to lease: now, at the end of a lease, or unknown."""
        if self.waiting:
            return now
        return min((until for _, until in self.leased.values()), default=None)


class MemoryLists(Lists):
    """Lists as deques. See `Lists`."""

    def __init__(
        self,
        prefix: str,
        connection: MemoryConnection,
        queues: dict[str, _Queue],
        lock: threading.Lock,
        waiters: Waiters,
    ) -> None:
        super().__init__(prefix)
        self._connection = connection
        self._queues = queues
        self._lock = lock
        self._waiters = waiters

    async def push(self, name: str, texts: Sequence[str]) -> None:
        """See `Lists.push`."""
        key = self.key(name)
        with self._lock:
            self._queues.setdefault(key, _Queue()).waiting.extend(texts)
            self._waiters.announce(key)

    async def take(self, names: Sequence[str], seconds: float | None) -> tuple[str, str] | None:
        """See `Lists.take`. Nothing is awaited between taking and returning."""
        keys = {self.key(name): name for name in names}

        def due(now: datetime) -> datetime | None:
            queues = (self._queues.get(key) for key in keys)
            return now if any(queue is not None and queue.waiting for queue in queues) else None

        return await self._until_found(list(keys), seconds, lambda: self._take(keys), due)

    async def length(self, name: str) -> int:
        """See `Lists.length`."""
        with self._lock:
            queue = self._queues.get(self.key(name))
            return len(queue.waiting) if queue else 0

    async def clear(self, name: str) -> int:
        """See `Lists.clear`."""
        with self._lock:
            queue = self._queues.pop(self.key(name), None)
            return len(queue.waiting) if queue else 0

    async def lease(
        self, name: str, receipt: str, lease_seconds: float, seconds: float | None
    ) -> str | None:
        """See `Lists.lease`."""
        key = self.key(name)

        def due(now: datetime) -> datetime | None:
            queue = self._queues.get(key)
            return queue.next_end(now) if queue is not None else None

        def attempt() -> str | None:
            return self._lease(key, receipt, lease_seconds)

        return await self._until_found([key], seconds, attempt, due)

    async def settle(self, name: str, receipt: str, *, put_back: bool) -> bool:
        """See `Lists.settle`."""
        key = self.key(name)
        with self._lock:
            queue = self._queues.get(key)
            held = queue.leased.pop(receipt, None) if queue else None
            if queue is None or held is None:
                return False
            if put_back:
                queue.waiting.appendleft(held[0])
                self._waiters.announce(key)
            self._drop_empty(key, queue)
            return True

    async def extend(self, name: str, receipt: str, lease_seconds: float) -> bool:
        """See `Lists.extend`."""
        with self._lock:
            queue = self._queues.get(self.key(name))
            if queue is None or receipt not in queue.leased:
                return False
            until = utcnow() + timedelta(seconds=lease_seconds)
            queue.leased[receipt] = (queue.leased[receipt][0], until)
            return True

    async def _until_found(
        self, keys: list[str], seconds: float | None, attempt: Callable[[], R | None], due: Due
    ) -> R | None:
        """Try until something is found or the time is up, sleeping until there may be something."""
        closings = self._connection.closings
        ends_at = time.monotonic() + (_FOR_EVER if seconds is None else seconds)
        while True:
            found = attempt()
            left = ends_at - time.monotonic()
            if found is not None or left <= 0:
                return found
            await self._waiters.wait([*keys, _CLOSING], left, due)
            self._connection.check_not_closed(closings)

    def _take(self, keys: dict[str, str]) -> tuple[str, str] | None:
        with self._lock:
            for key, name in keys.items():
                queue = self._queues.get(key)
                if queue is not None and queue.waiting:
                    text = queue.waiting.popleft()
                    self._drop_empty(key, queue)
                    return name, text
        return None

    def _lease(self, key: str, receipt: str, lease_seconds: float) -> str | None:
        now = utcnow()
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                return None
            queue.recover(now)
            if not queue.waiting:
                return None
            text = queue.waiting.popleft()
            queue.leased[receipt] = (text, now + timedelta(seconds=lease_seconds))
            return text

    def _drop_empty(self, key: str, queue: _Queue) -> None:
        if not queue.waiting and not queue.leased:
            self._queues.pop(key, None)


class MemoryStrings(Strings):
    """Strings in a dict. See `Strings`."""

    def __init__(self, prefix: str, texts: _Texts, lock: threading.Lock) -> None:
        super().__init__(prefix)
        self._texts = texts
        self._lock = lock

    async def set(self, texts: Mapping[str, str], ttl_seconds: float | None) -> None:
        """See `Strings.set`."""
        now = time.monotonic()
        ends_at = None if ttl_seconds is None else now + ttl_seconds
        with self._lock:
            self._texts.forget_expired(now)
            for name, text in texts.items():
                self._texts.keep(self.key(name), text, ends_at)

    async def get(self, names: Sequence[str]) -> list[str | bytes | None]:
        """See `Strings.get`."""
        now = time.monotonic()
        with self._lock:
            return [self._texts.get(self.key(name), now) for name in names]

    async def delete(self, name: str) -> bool:
        """See `Strings.delete`."""
        key = self.key(name)
        with self._lock:
            was_there = self._texts.get(key, time.monotonic()) is not None
            self._texts.drop(key)
            return was_there

    async def exists(self, name: str) -> bool:
        """See `Strings.exists`."""
        with self._lock:
            return self._texts.get(self.key(name), time.monotonic()) is not None


class _Texts:
    """Texts by key, and their ends in order, so that a cache does not grow for ever."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, float | None]] = {}
        self._ends: list[tuple[float, str]] = []

    def keep(self, key: str, text: str, ends_at: float | None) -> None:
        self._texts[key] = (text, ends_at)
        if ends_at is not None:
            heapq.heappush(self._ends, (ends_at, key))

    def get(self, key: str, now: float) -> str | None:
        text, ends_at = self._texts.get(key, (None, None))
        return None if ends_at is not None and ends_at <= now else text

    def drop(self, key: str) -> None:
        self._texts.pop(key, None)

    def forget_expired(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            if self.get(key, now) is None:
                self.drop(key)
