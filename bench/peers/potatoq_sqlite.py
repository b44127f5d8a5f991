"""potatoq on SQLite (WAL, synchronous=NORMAL, at least once, results kept).

Its worker is a supervisor that forks; so the adapter becomes the real command, with one or two
processes and without recycling them (by default each is replaced after 1000 tasks).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from potatoq.brokers.sqlite import SQLiteBroker

from bench.adapter import Adapter

APP = "bench.peers.potatoq_app:app"


class PotatoqSQLite(Adapter):
    """potatoq as it comes."""

    async def setup(self, directory: Path) -> None:
        from bench.peers.potatoq_app import app, noop

        self._app = app
        self._noop = noop
        self._app.broker.setup()

    async def enqueue(self, number: int) -> None:
        self._noop.delay(number)

    async def enqueue_concurrently(self, n: int, width: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(width) as threads:
            for _ in threads.map(self._noop.delay, range(n)):
                pass
        return time.perf_counter() - began

    async def start_worker(self, processes: int) -> None:
        command = [
            "-m",
            "potatoq",
            "-A",
            APP,
            "worker",
            "-c",
            str(processes),
            "-l",
            "ERROR",
            "--max-tasks-per-child",
            "0",
        ]
        os.execv(sys.executable, [sys.executable, *command])

    async def finished(self) -> int:
        broker = cast("SQLiteBroker", self._app.broker)
        (count,) = broker.conn.execute("SELECT count(*) FROM potatoq_results").fetchone()
        return int(count)

    async def round_trip(self, number: int) -> None:
        await asyncio.to_thread(self._noop.delay(number).get, timeout=30.0)
