"""OmniQ on SQLite, in its two levels of durability; results and events on."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path
from typing import ClassVar

from bench.adapter import Adapter
from omniq.worker import Worker
from omniq.worker.serve import collect_garbage_rarely

TIMEOUT_SECONDS = 30.0
CONCURRENCY = 200
"""Of the worker: two batches of a hundred keep loop and writer thread busy at once."""
SETTLED = """
SELECT min((SELECT count(*) FROM omniq_task WHERE status = 'completed'),
           (SELECT count(*) FROM omniq_result),
           (SELECT count(*) FROM omniq_event WHERE event_type = 'COMPLETED'))
"""


class OmniQSQLiteFull(Adapter):
    """OmniQ that syncs each commit to disk: the default."""

    durability: ClassVar[str] = "full"

    async def setup(self, directory: Path) -> None:
        os.environ["BENCH_DURABILITY"] = self.durability
        from bench.omniq_app import noop, q  # opens its file in the benchmark's directory

        self._q, self._noop = q, noop
        await q.connect()
        self._store = sqlite3.connect(directory / "omniq.db", isolation_level=None)
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

    async def finished(self) -> int:
        (count,) = self._store.execute(SETTLED).fetchone()
        return int(count)

    async def round_trip(self, number: int) -> None:
        handle = await self._noop.enqueue(number)
        await handle.result(timeout=TIMEOUT_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._worker.stop()
            await self._work
        self._store.close()
        await self._q.disconnect()


class OmniQSQLiteFast(OmniQSQLiteFull):
    """OmniQ that syncs at checkpoints only: survives a killed process, not a power cut."""

    durability = "fast"
