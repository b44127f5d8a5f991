"""Looking up tasks and results: what many handles ask at once becomes one question."""

from __future__ import annotations

import asyncio

from omniq.coalesce import Coalescer
from omniq.models.result import TaskResult
from omniq.models.task import Task
from omniq.storage.base import BaseQueue, BaseResultStorage


class Lookups:
    """Batched reads of one application. Ids must have been checked."""

    def __init__(self, queue: BaseQueue, results: BaseResultStorage) -> None:
        self._tasks: Coalescer[str, Task | None] = Coalescer(queue.get)
        self._results: Coalescer[str, TaskResult | None] = Coalescer(results.get_many)

    async def task(self, task_id: str) -> Task | None:
        """Return the task of this id, or None."""
        return await self._tasks.submit(task_id)

    async def result(self, task_id: str) -> TaskResult | None:
        """Return the result of this task, or None."""
        return await self._results.submit(task_id)

    def begin_result(self, task_id: str) -> asyncio.Future[TaskResult | None]:
        """Begin what `result` does; the future tells when it is done, and may be cancelled."""
        return self._results.begin(task_id)
