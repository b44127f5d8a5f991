"""streaQ (at least once, results kept), on coredis."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from streaq import Worker

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

CONCURRENCY = 100
KEPT_SECONDS = 86_400
TIMEOUT_SECONDS = 30


class StreaqRedis(Adapter):
    """streaQ, its worker with a hundred tasks at a time."""

    async def setup(self, directory: Path) -> None:
        self._worker, self._noop = self._made()
        self._open = AsyncExitStack()
        await self._open.enter_async_context(self._worker)
        self._work: asyncio.Task[None] | None = None

    async def enqueue(self, number: int) -> None:
        await self._noop.enqueue(number)

    async def enqueue_bulk(self, numbers: range) -> None:
        await self._worker.enqueue_many([self._noop.enqueue(number) for number in numbers])

    async def start_worker(self, processes: int) -> None:
        worker, _ = self._made()
        self._work = asyncio.create_task(worker.run_async())

    async def finished(self) -> int:
        return int(await self._worker.redis.zcard(f"{self._worker.prefix}:index:results"))

    async def round_trip(self, number: int) -> None:
        task = await self._noop.enqueue(number)
        await task.result(timeout=TIMEOUT_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        await self._open.aclose()

    def _made(self) -> tuple[Any, Any]:
        """Return a worker, which is also how tasks are sent, and its task."""
        worker: Any = Worker(
            redis_url=os.environ[URL_VARIABLE], concurrency=CONCURRENCY, handle_signals=False
        )
        return worker, worker.task(ttl=KEPT_SECONDS, name="noop")(run_noop)


async def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
