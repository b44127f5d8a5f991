"""taskiq on Redis and NATS (at least once, results kept)."""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

from taskiq.api import run_receiver_task

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

CONCURRENCY = 100
PREFETCHED = 100
KEPT_SECONDS = 86_400
CHECK_SECONDS = 0.001
TIMEOUT_SECONDS = 30.0


class Taskiq(Adapter):
    """taskiq, its worker with a hundred tasks at a time."""

    async def setup(self, directory: Path) -> None:
        self._broker = self.broker(os.environ[URL_VARIABLE])
        self._noop = self._broker.register_task(run_noop, task_name="noop")
        await self._broker.startup()
        self._work: asyncio.Task[None] | None = None

    @abstractmethod
    def broker(self, url: str) -> Any:
        """Return the broker with its store of results."""

    async def enqueue(self, number: int) -> None:
        await self._noop.kiq(number)

    async def start_worker(self, processes: int) -> None:
        self._work = asyncio.create_task(
            run_receiver_task(self._broker, max_async_tasks=CONCURRENCY, max_prefetch=PREFETCHED)
        )

    async def round_trip(self, number: int) -> None:
        sent = await self._noop.kiq(number)
        await sent.wait_result(check_interval=CHECK_SECONDS, timeout=TIMEOUT_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        await self._broker.shutdown()


class TaskiqRedis(Taskiq):
    """A stream for tasks, read by a hundred; results in a database of their own."""

    def broker(self, url: str) -> Any:
        from redis.asyncio import Redis
        from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

        results = f"{url.rpartition('/')[0]}/1"
        self._results: Any = Redis.from_url(results)
        backend: Any = RedisAsyncResultBackend(results, result_ex_time=KEPT_SECONDS)
        return RedisStreamBroker(url, xread_count=PREFETCHED).with_result_backend(backend)

    async def finished(self) -> int:
        return int(await self._results.dbsize())

    async def teardown(self) -> None:
        await self._results.aclose()
        await super().teardown()


class TaskiqNATS(Taskiq):
    """A JetStream stream for tasks, pulled by a hundred; results in an object store."""

    def broker(self, url: str) -> Any:
        from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

        backend: Any = NATSObjectStoreResultBackend(url)
        self._results = backend
        broker = PullBasedJetStreamBroker(
            url, pull_consume_batch=PREFETCHED, pull_consume_timeout=1, durable="bench"
        )
        return broker.with_result_backend(backend)

    async def finished(self) -> int:
        status = await self._results.object_store.status()
        return int(status.stream_info.state.messages) // 2


async def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
