"""DBOS on PostgreSQL: durable workflows, their results kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
from dbos import DBOS

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

QUEUE = "bench"
POLL_SECONDS = 0.01
SETTLED = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"


class DBOSPostgres(Adapter):
    """DBOS, its queue polled far more often than by default."""

    async def setup(self, directory: Path) -> None:
        url = os.environ[URL_VARIABLE].replace("postgresql://", "postgresql+psycopg://")
        config: Any = {
            "name": "bench",
            "system_database_url": url,
            "log_level": "ERROR",
            "application_version": "1",
        }
        DBOS(config=config)
        self._noop: Any = DBOS.workflow(name="noop")(run_noop)
        self._is_launched = False

    async def enqueue(self, number: int) -> None:
        await self._send(number)

    async def start_worker(self, processes: int) -> None:
        await self._launch()

    async def finished(self) -> int:
        with psycopg.connect(os.environ[URL_VARIABLE]) as connection:
            row = connection.execute(SETTLED).fetchone()
        return int(row[0]) if row else 0

    async def round_trip(self, number: int) -> None:
        handle = await self._send(number)
        await handle.get_result(polling_interval_sec=POLL_SECONDS)

    async def teardown(self) -> None:
        DBOS.destroy(workflow_completion_timeout_sec=0)

    async def _send(self, number: int) -> Any:
        if not self._is_launched:
            DBOS.listen_queues([])
            await self._launch()
        return await DBOS.enqueue_workflow_async(QUEUE, self._noop, number)

    async def _launch(self) -> None:
        self._is_launched = True
        DBOS.launch()
        await DBOS.register_queue_async(QUEUE, polling_interval_sec=POLL_SECONDS)


async def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
