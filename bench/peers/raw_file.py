"""The limit of the file system: a file for each task, changed by rename, nothing else.

``raw-file-fsync`` creates a file under another name, syncs it and renames it, one by one, as a
queue with no journal has to. Claiming is a rename; a result is a file written likewise; events are
lines appended in batches of 100, synced once. ``raw-file`` does the same without sync.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import msgspec

from bench.adapter import Adapter
from bench.peers.raw_redis import ordered_id
from bench.recorder import record

BATCH = 100
IDLE_SECONDS = 0.002
FOLDERS = ("new", "pending", "running", "completed", "results")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class RawFile(Adapter):
    """os, without sync."""

    synced: ClassVar[bool] = False

    async def setup(self, directory: Path) -> None:
        self._root = directory / "raw"
        for name in FOLDERS:
            (self._root / name).mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
        self._events = os.open(self._root / "events", flags)

    async def enqueue(self, number: int) -> None:
        self._create([number])

    async def enqueue_concurrently(self, n: int, width: int) -> float:
        return await self.enqueue_one_by_one(n)

    async def enqueue_bulk(self, numbers: range) -> None:
        self._create(numbers)

    async def start_worker(self, processes: int) -> None:
        threading.Thread(target=self._work, daemon=True).start()

    async def finished(self) -> int:
        return len(os.listdir(self._root / "completed"))

    async def round_trip(self, number: int) -> None:
        (task_id,) = self._create([number])
        while not os.path.exists(self._root / "completed" / task_id):
            await asyncio.sleep(IDLE_SECONDS)

    def _create(self, numbers: Iterable[int]) -> list[str]:
        ids = [ordered_id() for _ in numbers]
        for task_id, number in zip(ids, numbers, strict=True):
            self._write("pending", task_id, _encode({"args": [number], "queue_name": "default"}))
        return ids

    def _write(self, folder: str, name: str, data: bytes) -> None:
        new = f"{self._root}/new/{name}"
        file = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
        os.write(file, data)
        if self.synced:
            os.fsync(file)
        os.close(file)
        os.rename(new, f"{self._root}/{folder}/{name}")

    def _work(self) -> None:
        while True:
            names = sorted(os.listdir(self._root / "pending"))
            for start in range(0, len(names), BATCH):
                self._run_all(names[start : start + BATCH])
            if not names:
                time.sleep(IDLE_SECONDS)

    def _run_all(self, names: list[str]) -> None:
        lines: list[str] = []
        for name in names:
            running = f"{self._root}/running/{name}"
            try:
                os.rename(f"{self._root}/pending/{name}", running)
            except FileNotFoundError:
                continue
            with open(running, "rb") as file:
                (number,) = _decode(file.read())["args"]
            record(number)
            self._write("results", name, _encode(number))
            os.rename(running, f"{self._root}/completed/{name}")
            now = time.time()
            lines += (f"STARTED {name} {now}\n", f"COMPLETED {name} {now}\n")
        os.write(self._events, "".join(lines).encode())
        if self.synced:
            os.fsync(self._events)


class RawFileSynced(RawFile):
    """os, each file synced before it gets its name."""

    synced = True
