"""The limit of an asyncio worker: one ``create_task`` per no-op and a dictionary of results."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from bench.adapter import Adapter
from bench.recorder import record

BATCH = 100


class RawMemory(Adapter):
    """A deque, a dictionary and plain tasks, a hundred at a time."""

    async def setup(self, directory: Path) -> None:
        self._waiting: deque[int] = deque()
        self._results: dict[int, int] = {}
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def enqueue(self, number: int) -> None:
        self._waiting.append(number)
        self._arrived.set()

    async def enqueue_bulk(self, numbers: range) -> None:
        self._waiting.extend(numbers)
        self._arrived.set()

    async def start_worker(self, processes: int) -> None:
        self._worker = asyncio.create_task(self._work())

    async def finished(self) -> int:
        return len(self._results)

    async def round_trip(self, number: int) -> None:
        await self.enqueue(number)
        while number not in self._results:
            await asyncio.sleep(0)

    async def teardown(self) -> None:
        if self._worker is not None:
            self._worker.cancel()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            for task in [asyncio.create_task(self._run(number)) for number in batch]:
                await task
            if not self._waiting:
                self._arrived.clear()

    async def _run(self, number: int) -> None:
        record(number)
        self._results[number] = number
