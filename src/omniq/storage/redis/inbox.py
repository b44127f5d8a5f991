"""Waiting for tasks to become final: one blocking read for all who wait in an event loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from omniq.exceptions import StorageError
from omniq.ids import new_id
from omniq.storage.redis.scripts import script
from omniq.storage.redis.server import LONGEST_BLOCK_SECONDS, RedisServer

LONGEST_WAIT_SECONDS = 30.0
_WISH_SECONDS = 60


class Inbox:
    """A list on the server into which it puts the ids that this event loop waits for.

    A reader takes them out while somebody waits, and ends when nobody did for a while.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._key = server.key("inbox", new_id())
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def wait(self, task_ids: list[str], timeout: float) -> None:
        """Return when one of these tasks may be final, after `timeout` seconds at the latest."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for task_id in task_ids:
            self._waiting.setdefault(task_id, set()).add(future)
        try:
            final = await self._server.run(_WATCH, self._key, _WISH_SECONDS, *task_ids, again=True)
            if not final:
                self._read()
                with suppress(TimeoutError):
                    await asyncio.wait_for(future, min(timeout, LONGEST_WAIT_SECONDS))
        finally:
            self._forget(task_ids, future)

    async def close(self) -> None:
        """End the reader and wake all who wait."""
        self._wake_all()
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    def _read(self) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._run(), name="omniq-redis-inbox")

    async def _run(self) -> None:
        try:
            while True:
                found = await self._server.block("BLPOP", self._key, seconds=LONGEST_BLOCK_SECONDS)
                if found is not None:
                    self._wake(found[1].decode())
                elif not self._waiting:
                    return
        except StorageError:
            self._wake_all()  # they look for themselves, and meet the error if it lasts

    def _wake(self, task_id: str) -> None:
        for future in self._waiting.get(task_id, ()):
            if not future.done():
                future.set_result(None)

    def _wake_all(self) -> None:
        for task_id in self._waiting:
            self._wake(task_id)

    def _forget(self, task_ids: list[str], future: asyncio.Future[None]) -> None:
        for task_id in task_ids:
            waiting = self._waiting.get(task_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[task_id]


_WATCH = script("task_watch", "tasks")
