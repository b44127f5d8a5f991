"""Waiting for work: one blocking read of wake-up tokens for all who wait in an event loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from omniq.exceptions import StorageError
from omniq.storage.redis.scripts import script
from omniq.storage.redis.server import LONGEST_BLOCK_SECONDS, RedisServer


class Wakes:
    """Readers of the wake-up tokens of queues. A token carries no task; losing one costs latency.

    A reader outlives the wait that started it, because taking it back would cost its connection;
    it ends when its time is up and nobody waits. A token that then comes is put back.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._waiting: dict[tuple[str, ...], set[asyncio.Future[None]]] = {}
        self._readers: dict[tuple[str, ...], asyncio.Task[None]] = {}

    async def wait(self, queues: list[str], seconds: float) -> None:
        """Return when a token of one of these queues came, after `seconds` at the latest.

        Raises:
            StorageError: the server cannot be reached.
        """
        names = tuple(queues)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(names, set()).add(future)
        reader = self._readers.get(names)
        if reader is None or reader.done():
            self._readers[names] = asyncio.create_task(self._read(names), name="omniq-redis-wakes")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await future
        finally:
            self._waiting[names].discard(future)

    async def close(self) -> None:
        """End the readers and wake all who wait."""
        for reader in self._readers.values():
            reader.cancel()
        for reader in self._readers.values():
            with suppress(asyncio.CancelledError):
                await reader
        for futures in self._waiting.values():
            _end(futures)

    async def _read(self, names: tuple[str, ...]) -> None:
        keys = [self._server.key("wake", name) for name in names]
        waiting = self._waiting[names]
        try:
            while waiting:
                found = await self._server.block("BLPOP", *keys, seconds=LONGEST_BLOCK_SECONDS)
                if found is not None and not _end(waiting, most=1):
                    await self._server.run(_WAKE, found[0].decode().rpartition(":")[2])
                await asyncio.sleep(0)  # who was woken leaves, and claims before we read on
        except StorageError as error:
            _end(waiting, error=error)


def _end(
    futures: set[asyncio.Future[None]], *, most: int | None = None, error: Exception | None = None
) -> int:
    """End up to `most` waits; return how many."""
    ended = 0
    for future in list(futures):
        if not future.done() and (most is None or ended < most):
            future.set_result(None) if error is None else future.set_exception(error)
            ended += 1
    return ended


_WAKE = script("task_wake", "tasks")
