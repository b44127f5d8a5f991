"""arq (at least once, results kept).

Its worker polls; more often than by default, because each poll takes a bounded number of jobs.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from arq import Worker, create_pool, func
from arq.connections import RedisSettings

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

CONCURRENCY = 100
POLL_SECONDS = 0.01
TIMEOUT_SECONDS = 30.0


class ArqRedis(Adapter):
    """arq, its worker with a hundred jobs at a time."""

    async def setup(self, directory: Path) -> None:
        self._settings = RedisSettings.from_dsn(os.environ[URL_VARIABLE])
        self._pool = await create_pool(self._settings)
        self._sent = 0
        self._work: asyncio.Task[Any] | None = None

    async def enqueue(self, number: int) -> None:
        self._sent += 1
        await self._pool.enqueue_job("noop", number)

    async def start_worker(self, processes: int) -> None:
        worker = Worker(
            functions=[func(run_noop, name="noop")],
            redis_settings=self._settings,
            max_jobs=CONCURRENCY,
            poll_delay=POLL_SECONDS,
            handle_signals=False,
        )
        self._work = asyncio.create_task(worker.async_run())

    async def finished(self) -> int:
        return self._sent - await self._pool.zcard("arq:queue")

    async def round_trip(self, number: int) -> None:
        job = await self._pool.enqueue_job("noop", number)
        assert job is not None
        await job.result(timeout=TIMEOUT_SECONDS, poll_delay=POLL_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        await self._pool.aclose()


async def run_noop(context: dict[str, Any], number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
