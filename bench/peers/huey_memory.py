"""Huey in memory: its consumer's threads in the process that enqueues."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from huey import MemoryHuey

from bench.adapter import Adapter
from bench.peers.huey_sqlite import TIMEOUT_SECONDS, run_noop, start_consumer

THREADS = 1


class HueyMemory(Adapter):
    """Huey with its memory storage, results kept."""

    async def setup(self, directory: Path) -> None:
        self._huey: Any = MemoryHuey("bench")
        self._noop = self._huey.task(name="noop")(run_noop)

    async def enqueue(self, number: int) -> None:
        self._noop(number)

    async def start_worker(self, processes: int) -> None:
        start_consumer(self._huey, THREADS)

    async def finished(self) -> int:
        return int(self._huey.storage.result_store_size())

    async def round_trip(self, number: int) -> None:
        result = self._noop(number)
        await asyncio.to_thread(result.get, blocking=True, timeout=TIMEOUT_SECONDS)
