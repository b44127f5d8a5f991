"""What the queue on an object store costs, in requests: the table of docs/file_storage.md."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import Task
from omniq.storage.base import Change, Lease
from omniq.storage.objectstore.queue import ObjectQueue
from omniq.storage.objectstore.schedules import ObjectScheduleStorage
from omniq.testing.contract.samples import claim, insert, make_tasks
from tests.unit.object_doubles import DictDriver, DictStore

ONE_PUT, ONE_GET = {"put": 1}, {"get": 1}


@pytest.fixture
def driver() -> DictDriver:
    return DictDriver(DictStore())


@pytest.fixture
async def queue(driver: DictDriver) -> AsyncIterator[ObjectQueue]:
    """A queue with tasks, its requests counted from here."""
    async with ObjectQueue(driver) as queue:
        await insert(queue, *make_tasks(200))
        driver.requests.clear()
        yield queue


def cost(driver: DictDriver) -> dict[str, int]:
    """Return the requests since last asked."""
    spent = dict(driver.requests)
    driver.requests.clear()
    return spent


async def test_each_call_is_one_request_however_many_tasks_it_is_about(
    queue: ObjectQueue, driver: DictDriver
) -> None:
    """Enqueue, claim, renew, finish: one write each, for one task or a thousand."""
    await queue.enqueue(Task(func="f", queue_name="other"))
    assert cost(driver) == ONE_PUT
    await queue.enqueue_many([Task(func="f", queue_name="other") for _ in range(1000)])
    assert cost(driver) == ONE_PUT
    tasks = await queue.claim(["default"], worker_id="w", lease_token="k", limit=100)
    assert cost(driver) == ONE_PUT
    held = await queue.extend([Lease(one.id, 1, "k") for one in tasks])
    assert len(held) == 100
    assert cost(driver) == ONE_PUT
    ends = [lifecycle.settle(task, lifecycle.Completed(), utcnow()) for task in held]
    assert all(await queue.swap([Change(*pair) for pair in zip(held, ends, strict=True)]))
    assert cost(driver) == ONE_PUT


async def test_calls_at_the_same_time_share_a_request(
    queue: ObjectQueue, driver: DictDriver
) -> None:
    """A hundred coroutines that enqueue pay for one write, or two if the first was under way."""
    await asyncio.gather(*(queue.enqueue(Task(func="f")) for _ in range(100)))

    assert Counter(cost(driver)).total() <= 2


async def test_a_read_is_one_small_request(queue: ObjectQueue, driver: DictDriver) -> None:
    """Whatever is read: all tasks are in memory, the request asks whether that is all."""
    await queue.get_task("a")
    assert cost(driver) == ONE_GET
    assert len(await queue.find(limit=200)) == 200
    assert cost(driver) == ONE_GET
    await queue.counts()
    assert cost(driver) == ONE_GET


async def test_a_claim_that_finds_nothing_is_one_small_request(
    queue: ObjectQueue, driver: DictDriver
) -> None:
    """It writes nothing."""
    assert await claim(queue, "empty") == []

    assert cost(driver) == ONE_GET


async def test_a_write_that_comes_second_costs_four_requests(
    queue: ObjectQueue, driver: DictDriver
) -> None:
    """The one that lost, one for what came first, one to see that it is all, the one that wins."""
    other_driver = DictDriver(driver.store)
    async with ObjectQueue(other_driver) as other:
        await other.enqueue(Task(func="f"))

        await queue.enqueue(Task(func="f"))

    assert cost(driver) == {"put": 2, "get": 2}


async def test_opening_costs_few_requests(driver: DictDriver) -> None:
    """One listing of snapshots, the segments since, one write to learn the time of the store."""
    async with ObjectQueue(driver):
        assert cost(driver) == {"list": 2, "get": 1, "put": 1}
    async with ObjectScheduleStorage(driver):
        assert cost(driver) == {"list": 1, "get": 1}


async def test_the_poll_of_a_scheduler_is_one_small_request(driver: DictDriver) -> None:
    """However many schedules there are."""
    async with ObjectScheduleStorage(driver) as schedules:
        for n in range(20):
            await schedules.save_schedule(
                Schedule(
                    schedule_type=ScheduleType.INTERVAL, interval_seconds=60, func="f", id=f"s{n}"
                )
            )
        cost(driver)

        await schedules.next_due()

        assert cost(driver) == ONE_GET
