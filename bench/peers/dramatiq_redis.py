"""Dramatiq on Redis (at least once, results kept), its worker with threads."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

THREADS = 8
KEPT_MILLISECONDS = 86_400_000
TIMEOUT_MILLISECONDS = 30_000


class DramatiqRedis(Adapter):
    """Dramatiq; eight threads are its default. Results are in a database of their own."""

    async def setup(self, directory: Path) -> None:
        url = os.environ[URL_VARIABLE]
        results = f"{url.rpartition('/')[0]}/1"
        self._results: Any = Redis.from_url(results)
        self._backend = RedisBackend(url=results)
        self._broker = RedisBroker(url=url)
        self._broker.add_middleware(
            Results(backend=self._backend, store_results=True, result_ttl=KEPT_MILLISECONDS)
        )
        self._noop = dramatiq.actor(broker=self._broker, actor_name="noop")(run_noop)
        self._worker: Any = None

    async def enqueue(self, number: int) -> None:
        self._noop.send(number)

    async def enqueue_concurrently(self, n: int, width: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(width) as threads:
            for _ in threads.map(self._noop.send, range(n)):
                pass
        return time.perf_counter() - began

    async def start_worker(self, processes: int) -> None:
        self._worker = dramatiq.Worker(self._broker, worker_threads=THREADS)
        self._worker.start()

    async def finished(self) -> int:
        return int(self._results.dbsize())

    async def round_trip(self, number: int) -> None:
        self._noop.send(number).get_result(
            backend=self._backend, block=True, timeout=TIMEOUT_MILLISECONDS
        )


def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
