"""Huey in files: without fsync, and lost when a worker is killed."""

from __future__ import annotations

import os
from pathlib import Path

from huey import FileHuey

from bench.peers.huey_sqlite import HueyFsync, run_noop


class HueyFile(HueyFsync):
    """FileHuey with one thread; its lock lets one work at a time."""

    async def setup(self, directory: Path) -> None:
        self._path = str(directory / "huey")
        self._huey = FileHuey("bench", path=self._path)
        self._noop = self._huey.task(name="noop")(run_noop)

    async def fill(self, n: int) -> None:
        for number in range(n):
            await self.enqueue(number)

    async def finished(self) -> int:
        results = Path(self._path, "results")
        return sum(len(files) for _, _, files in os.walk(results))
