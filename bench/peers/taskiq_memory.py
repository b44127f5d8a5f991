"""taskiq's InMemoryBroker.

It creates an asyncio task for each message at once. Enqueuing never yields to the loop here, so the
tasks of a drain begin only when the drain does.
"""

from __future__ import annotations

from pathlib import Path

from taskiq import InMemoryBroker

from bench.adapter import Adapter
from bench.recorder import record


class TaskiqMemory(Adapter):
    """taskiq in memory; it keeps all results (its default keeps the last 100)."""

    async def setup(self, directory: Path) -> None:
        self._broker = InMemoryBroker(max_stored_results=-1)
        self._noop = self._broker.register_task(run_noop, task_name="noop")
        await self._broker.startup()

    async def enqueue(self, number: int) -> None:
        await self._noop.kiq(number)

    async def start_worker(self, processes: int) -> None:
        """Do nothing: the broker runs what it is sent."""

    async def finished(self) -> int:
        return len(self._broker.result_backend.results)

    async def round_trip(self, number: int) -> None:
        sent = await self._noop.kiq(number)
        await sent.wait_result(check_interval=0.001)

    async def teardown(self) -> None:
        await self._broker.shutdown()


async def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
