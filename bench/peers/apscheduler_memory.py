"""APScheduler 4 with its memory data store and its local event broker."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import cast

from apscheduler import AsyncScheduler, TaskDefaults
from apscheduler.datastores.memory import MemoryDataStore

from bench.adapter import Adapter
from bench.recorder import record

RESULTS_KEPT_FOR = timedelta(hours=1)


class APSchedulerMemory(Adapter):
    """APScheduler running up to 100 jobs at once, results kept."""

    async def setup(self, directory: Path) -> None:
        self._stack = AsyncExitStack()
        defaults = TaskDefaults(job_executor="async", max_running_jobs=None)
        scheduler = AsyncScheduler(task_defaults=defaults, max_concurrent_jobs=100)
        self._scheduler = await self._stack.enter_async_context(scheduler)
        await self._scheduler.configure_task("noop", func=run_noop)

    async def enqueue(self, number: int) -> None:
        await self._scheduler.add_job(
            "noop", args=[number], result_expiration_time=RESULTS_KEPT_FOR
        )

    async def start_worker(self, processes: int) -> None:
        await self._scheduler.start_in_background()

    async def finished(self) -> int:
        # There is no public count; a job leaves the store in the step that stores its result.
        store = cast("MemoryDataStore", self._scheduler.data_store)
        return len(store._job_results)  # pyright: ignore[reportPrivateUsage] - see above

    async def round_trip(self, number: int) -> None:
        await self._scheduler.run_job("noop", args=[number])

    async def teardown(self) -> None:
        await self._stack.aclose()


async def run_noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
