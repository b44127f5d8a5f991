"""Huey on SQLite, in its three levels of durability.

The worker is Huey's own ``Consumer`` with threads. Its number of threads is the fastest we found
(see the README): more of them only contend for the one connection.

Huey's ``fsync`` option: True sets synchronous=FULL, False sets synchronous=OFF. None, the default
of recent releases, leaves SQLite's own default, which is FULL in the usual builds; up to Huey 3.0
the default was False.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from huey import SqliteHuey
from huey.consumer import Consumer, ConsumerStopped

from bench.adapter import Adapter
from bench.recorder import record

THREADS = 1
TIMEOUT_SECONDS = 30.0


class HueyFsync(Adapter):
    """Huey that syncs each transaction to disk."""

    fsync: ClassVar[bool | None] = True

    async def setup(self, directory: Path) -> None:
        self._path = str(directory / "huey.db")
        self._huey = self._open(self.fsync)
        self._noop = self._huey.task(name="noop")(run_noop)

    async def enqueue(self, number: int) -> None:
        self._noop(number)

    async def enqueue_concurrently(self, n: int, width: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(width) as threads:
            for _ in threads.map(self._noop, range(n)):
                pass
        return time.perf_counter() - began

    async def fill(self, n: int) -> None:
        unsynced = self._open(fsync=False)
        noop = unsynced.task(name="noop")(run_noop)
        for number in range(n):
            noop(number)
        unsynced.storage.close()

    async def start_worker(self, processes: int) -> None:
        start_consumer(self._huey, THREADS)

    async def finished(self) -> int:
        return int(self._huey.storage.result_store_size())

    async def round_trip(self, number: int) -> None:
        self._noop(number).get(blocking=True, timeout=TIMEOUT_SECONDS)

    def _open(self, fsync: bool | None) -> Any:
        return SqliteHuey("bench", filename=self._path, fsync=fsync)


class HueyDefault(HueyFsync):
    """Huey as it comes."""

    fsync = None


class HueyNoSync(HueyFsync):
    """Huey that never syncs: a power cut can lose tasks or corrupt the file."""

    fsync = False


def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number


def start_consumer(huey: Any, threads: int) -> None:
    """Start Huey's consumer as its command does, with the main loop on a thread of its own."""
    consumer = Consumer(huey, workers=threads, periodic=False)
    consumer.start()
    threading.Thread(target=_watch, args=(consumer,), daemon=True).start()


def _watch(consumer: Any) -> None:
    checked_at = time.monotonic()
    try:
        while True:
            checked_at = consumer.loop(checked_at)
    except ConsumerStopped:
        return
