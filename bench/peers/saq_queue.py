"""SAQ on Redis and PostgreSQL (at least once, results kept in the job)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from saq import Queue, Worker

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

CONCURRENCY = 100
KEPT_SECONDS = 86_400
TIMEOUT_SECONDS = 30


class SAQRedis(Adapter):
    """SAQ, its worker with a hundred jobs at a time."""

    async def setup(self, directory: Path) -> None:
        self._queue = self.queue(os.environ[URL_VARIABLE])
        await self._queue.connect()
        self._sent = 0
        self._work: asyncio.Task[None] | None = None

    def queue(self, url: str) -> Any:
        """Return the queue; redis-py's own limit of connections makes SAQ lose jobs."""
        from redis.asyncio import Redis
        from saq.queue.redis import RedisQueue

        return RedisQueue(Redis.from_url(url, max_connections=1000))

    async def enqueue(self, number: int) -> None:
        self._sent += 1
        await self._queue.enqueue("noop", number=number, ttl=KEPT_SECONDS)

    async def start_worker(self, processes: int) -> None:
        worker = Worker(self._queue, functions=[("noop", run_noop)], concurrency=CONCURRENCY)
        worker.SIGNALS = []
        self._work = asyncio.create_task(worker.start())

    async def finished(self) -> int:
        return self._sent - await self._queue.count("incomplete")

    async def round_trip(self, number: int) -> None:
        await self._queue.apply("noop", timeout=TIMEOUT_SECONDS, number=number, ttl=KEPT_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        await self._queue.disconnect()


class SAQPostgres(SAQRedis):
    """SAQ on PostgreSQL, by psycopg."""

    def queue(self, url: str) -> Any:
        return Queue.from_url(url)

    async def finished(self) -> int:
        import psycopg

        async with await psycopg.AsyncConnection.connect(os.environ[URL_VARIABLE]) as connection:
            query = "SELECT count(*) FROM saq_jobs WHERE status = 'complete'"
            row = await (await connection.execute(query)).fetchone()
        return int(row[0]) if row else 0


async def run_noop(context: dict[str, Any], *, number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
