"""OmniQ on a store that other processes see; results and events on."""

from __future__ import annotations

import asyncio
import os
import sys
from abc import abstractmethod
from pathlib import Path

from bench.adapter import Adapter
from bench.servers import URL_VARIABLE
from omniq.worker import Worker
from omniq.worker.serve import collect_garbage_rarely

TIMEOUT_SECONDS = 30.0
CONCURRENCY = 200
"""Of the worker: two batches of a hundred keep the loop and the store busy at once."""


class OmniQStore(Adapter):
    """OmniQ as an application and a worker use it."""

    def url(self, directory: Path) -> str:
        """Return where everything is kept."""
        return os.environ[URL_VARIABLE]

    async def setup(self, directory: Path) -> None:
        os.environ["BENCH_OMNIQ_URL"] = self.url(directory)
        from bench.omniq_app import noop, q  # made for that URL

        self._q, self._noop = q, noop
        await q.connect()
        collect_garbage_rarely()  # as `omniq worker` does
        self._worker = Worker(q, concurrency=CONCURRENCY)
        self._work: asyncio.Task[None] | None = None

    async def enqueue(self, number: int) -> None:
        await self._noop.enqueue(number)

    async def enqueue_bulk(self, numbers: range) -> None:
        await self._noop.enqueue_many([(number,) for number in numbers])

    async def start_worker(self, processes: int) -> None:
        self._work = asyncio.create_task(self._worker.run())

    async def run_worker_command(self) -> None:
        command = ["-m", "omniq", "worker", "bench.omniq_app:q", "--concurrency", str(CONCURRENCY)]
        os.execv(sys.executable, [sys.executable, *command])

    @abstractmethod
    async def finished(self) -> int:
        """Return how many tasks are completed, with result and history, as the store has it."""

    async def round_trip(self, number: int) -> None:
        handle = await self._noop.enqueue(number)
        await handle.result(timeout=TIMEOUT_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._worker.stop()
            await self._work
        await self._q.disconnect()
