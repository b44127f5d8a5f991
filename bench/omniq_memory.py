"""OmniQ in memory; results and events on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.adapter import Adapter
from bench.recorder import record
from omniq import OmniQ
from omniq.models.task import TaskStatus
from omniq.worker import Worker
from omniq.worker.serve import collect_garbage_rarely

TIMEOUT_SECONDS = 30.0
CONCURRENCY = 100


class OmniQMemory(Adapter):
    """OmniQ with the memory backend, its worker in the same loop."""

    async def setup(self, directory: Path) -> None:
        self._q = OmniQ("memory://")
        self._noop = self._q.task(run_noop)
        collect_garbage_rarely()  # as `omniq worker` does
        self._worker = Worker(self._q, concurrency=CONCURRENCY)
        self._work: asyncio.Task[None] | None = None
        await self._q.connect()

    async def enqueue(self, number: int) -> None:
        await self._noop.enqueue(number)

    async def enqueue_bulk(self, numbers: range) -> None:
        await self._noop.enqueue_many([(number,) for number in numbers])

    async def start_worker(self, processes: int) -> None:
        self._work = asyncio.create_task(self._worker.run())

    async def finished(self) -> int:
        counts = await self._q.task_queue.counts()
        return counts.get("default", {}).get(TaskStatus.COMPLETED, 0)

    async def round_trip(self, number: int) -> None:
        handle = await self._noop.enqueue(number)
        await handle.result(timeout=TIMEOUT_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._worker.stop()
            await self._work
        await self._q.disconnect()


async def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
