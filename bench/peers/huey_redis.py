"""Huey on Redis (lost when a worker is killed, results kept)."""

from __future__ import annotations

import os
from pathlib import Path

from huey import RedisHuey

from bench.peers.huey_sqlite import HueyFsync, run_noop
from bench.servers import URL_VARIABLE


class HueyRedis(HueyFsync):
    """Huey with one thread, and a blocking read of its list."""

    async def setup(self, directory: Path) -> None:
        self._huey = RedisHuey("bench", url=os.environ[URL_VARIABLE])
        self._noop = self._huey.task(name="noop")(run_noop)

    async def fill(self, n: int) -> None:
        for number in range(n):
            await self.enqueue(number)
