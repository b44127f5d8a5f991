"""pgqueuer on asyncpg (at least once). It keeps no results: its log says that a job succeeded."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.core.completion import CompletionWatcher
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

BATCH = 100
SETTLED = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"


class PgQueuerPostgres(Adapter):
    """pgqueuer, claiming a hundred at a time."""

    async def setup(self, directory: Path) -> None:
        self._connection: Any = await asyncpg.connect(os.environ[URL_VARIABLE])
        self._driver = AsyncpgDriver(self._connection)
        self._queries = Queries(self._driver)
        if not await self._connection.fetchval("SELECT to_regclass('pgqueuer')"):
            await self._queries.install()
        self._work: asyncio.Task[None] | None = None

    async def enqueue(self, number: int) -> None:
        await self._queries.enqueue("noop", b"%d" % number)

    async def enqueue_bulk(self, numbers: range) -> None:
        payloads: list[bytes | None] = [b"%d" % number for number in numbers]
        await self._queries.enqueue(["noop"] * len(numbers), payloads, [0] * len(numbers))

    async def start_worker(self, processes: int) -> None:
        connection: Any = await asyncpg.connect(os.environ[URL_VARIABLE])
        queuer = PgQueuer(AsyncpgDriver(connection))
        queuer.entrypoint("noop")(run_noop)
        self._work = asyncio.create_task(queuer.run(batch_size=BATCH))

    async def finished(self) -> int:
        return int(await self._connection.fetchval(SETTLED))

    async def round_trip(self, number: int) -> None:
        watcher = CompletionWatcher(
            self._driver, queries=self._queries, debounce=timedelta(milliseconds=1)
        )
        async with watcher:
            (job_id,) = await self._queries.enqueue("noop", b"%d" % number)
            await watcher.wait_for(job_id)

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._connection.terminate()


async def run_noop(job: Any) -> None:
    """Note the run; the task of every benchmark."""
    record(int(job.payload))
