"""Of two calls made at once, each may fail: what is not waited for any more must not be told of."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from omniq import OmniQ, Task, TaskEvent
from omniq.exceptions import StorageUnavailableError
from omniq.models import TaskResult
from omniq.moving.parking import MOVE
from omniq.storage.base import BaseEventStorage, Inserted
from omniq.storage.memory import MemoryEventStorage, MemoryQueue, MemoryResultStorage
from omniq.waits import first_of

FAILED_FIRST, FAILED_THEN = "the first to fail", "the one that is raised"


class Order:
    """Lets one call fail before the other."""

    def __init__(self) -> None:
        self.is_on = False
        self.first = asyncio.Event()

    def fail_first(self) -> None:
        if self.is_on:
            self.first.set()
            raise StorageUnavailableError(FAILED_FIRST)

    async def fail_then(self) -> None:
        if self.is_on:
            await self.first.wait()
            for _ in range(3):
                await asyncio.sleep(0)  # until the other's future has its exception
            raise StorageUnavailableError(FAILED_THEN)


class FailingQueue(MemoryQueue):
    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    def logs_with(self, events: BaseEventStorage) -> bool:
        return False

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        if task_ids != [MOVE]:  # the look of the watch whether the store moves
            await self.order.fail_then()
        return await super()._get(task_ids)

    async def _insert(self, tasks: list[Task], now: Any) -> list[Inserted]:
        await self.order.fail_then()
        return await super()._insert(tasks, now)

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        self.order.is_on = True


class FailingResults(MemoryResultStorage):
    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    async def _get(self, task_ids: list[str], now: Any) -> list[TaskResult | None]:
        self.order.fail_first()
        return await super()._get(task_ids, now)


class FailingEvents(MemoryEventStorage):
    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    async def _append(self, events: list[TaskEvent]) -> None:
        self.order.fail_first()
        await super()._append(events)


def app_of(order: Order) -> OmniQ:
    return OmniQ(
        tasks=FailingQueue(order),
        results=FailingResults(order),
        events=FailingEvents(order),
        schedules="memory://",
    )


async def let_go() -> None:
    """Let the loop drop what it holds, and Python the rest: then futures tell of their errors."""
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()


@pytest.fixture
async def told() -> list[str]:
    """What the loop is told of that nobody waited for."""
    found: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: found.append(said["message"]))
    return found


async def test_a_result_that_could_not_be_read_beside_its_task(told: list[str]) -> None:
    """Whoever waits gets the error of the task's look; that of the result's is not told as well."""
    order = Order()
    async with app_of(order) as app:
        handle = await app.enqueue("f")

        with pytest.raises(StorageUnavailableError, match=FAILED_THEN):
            await handle.result()

    await let_go()
    assert told == []


async def test_an_event_that_could_not_be_stored_beside_its_task(told: list[str]) -> None:
    """The same for who enqueues."""
    order = Order()
    async with app_of(order) as app:
        order.is_on = True

        with pytest.raises(StorageUnavailableError, match=FAILED_THEN):
            await app.enqueue("f")

        order.is_on = False
    await let_go()
    assert told == []


async def test_two_waits_that_fail_at_once(told: list[str]) -> None:
    """The first one's error is raised, and the other's is no news."""

    async def fail(message: str) -> None:
        raise StorageUnavailableError(message)

    with pytest.raises(StorageUnavailableError):
        await first_of(fail("one"), fail("two"))

    await let_go()
    assert told == []
