"""A queue that counts how it is asked, and workers by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

from omniq import OmniQ, Task, TaskHandle, lifecycle
from omniq.models import TaskResult
from omniq.moving.parking import MOVE
from omniq.storage.memory import MemoryQueue, MemoryResultStorage


class CountingQueue(MemoryQueue):
    """Counts how often, and for how many, it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[int] = []
        self.waits = 0

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        if task_ids != [MOVE]:  # the look of the watch whether the store moves
            self.looks.append(len(task_ids))
        return await super()._get(task_ids)

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        self.waits += 1
        await super()._wait_final(task_ids, timeout)


class CountingResults(MemoryResultStorage):
    """Counts how often it is asked; the first `sees_nothing` times, nothing is there yet."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = self.sees_nothing = 0

    async def _get(self, task_ids: list[str], now: Any) -> list[TaskResult | None]:
        self.looks += 1
        if self.looks <= self.sees_nothing:
            return [None] * len(task_ids)
        return await super()._get(task_ids, now)


async def enqueue(app: OmniQ, **fields: Any) -> TaskHandle[Any]:
    return await app.enqueue_task(Task(func="f", **fields))


async def claim(app: OmniQ, limit: int = 1) -> list[Task]:
    return await app.task_queue.claim(["default"], worker_id="w", lease_token="k", limit=limit)


async def finish(
    app: OmniQ, outcome: lifecycle.Outcome, result: TaskResult | None = None, **fields: Any
) -> TaskHandle[Any]:
    """Run a task to this end, as a worker would: the result first."""
    handle = await enqueue(app, **fields)
    (held,) = await claim(app)
    if result is not None:
        result.task_id, result.claim_count = held.id, held.claim_count
        await app.result_storage.set(result)
    await app.task_queue.settle(held, outcome)
    return handle


def success(value: Any = 5, **fields: Any) -> TaskResult:
    return TaskResult(task_id="?", result=value, **fields)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it holds."""
    while not condition():  # noqa: ASYNC110 - of stores that have no event to wait for
        await asyncio.sleep(0)
