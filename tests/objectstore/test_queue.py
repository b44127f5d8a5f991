"""What a queue on an object store does beyond the contract: time, damage, size, promises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from omniq.exceptions import PayloadTooLargeError
from omniq.models.finding import Level
from omniq.models.task import DAMAGED, Task
from omniq.storage.file.location import locate
from omniq.storage.objectstore import queue as queue_module
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.queue import ObjectQueue
from omniq.storage.objectstore.schedules import ObjectScheduleStorage
from tests.unit.object_doubles import START, DictDriver, DictStore

MakeDriver = Callable[[], ObjectDriver]


@pytest.fixture
def make_driver() -> MakeDriver:
    """Return what makes drivers on one new, empty place in memory."""
    url = f"memory://omniq-{uuid4().hex}/jobs"
    return lambda: driver_of(locate(url))


async def test_now_is_the_time_of_the_store() -> None:
    """Machines whose clocks differ agree on when a task comes due and a lease ends."""
    store = DictStore()
    store.clock.seconds = 50.0
    async with ObjectQueue(DictDriver(store)) as queue:
        await queue.enqueue(Task(func="f", id="due", run_at=START + timedelta(seconds=40)))
        await queue.enqueue(Task(func="f", id="later", run_at=START + timedelta(hours=1)))

        tasks = await queue.claim(["default"], worker_id="w", lease_token="k", limit=9)
        told = await queue.store_time()

    assert [task.id for task in tasks] == ["due"]
    assert tasks[0].started_at is not None
    assert timedelta(0) <= tasks[0].started_at - START < timedelta(minutes=5)
    assert told is not None
    assert timedelta(0) <= told - START < timedelta(minutes=5)


async def test_clocks_that_hardly_differ_are_alike() -> None:
    """The store tells whole seconds: guessing from them would only add a second of error."""
    async with ObjectQueue(DictDriver(DictStore(), is_conditional=False)) as queue:
        assert await queue.store_time() is None


async def test_damage_is_reported_and_hides_no_other_task(make_driver: MakeDriver) -> None:
    """The doctor names the object, so that somebody can look at it."""
    driver = make_driver()
    async with ObjectQueue(driver) as queue:
        await queue.enqueue_many([Task(func="f", id=name) for name in ("first", "second", "third")])
    (entry,) = await driver.list("tasks/.log/")
    stored = await driver.get(entry.key)
    assert stored is not None
    await driver.put(entry.key, stored.data.replace(b"second", b"sXcond"))
    await driver.close()

    async with ObjectQueue(make_driver()) as queue:
        assert [task.id for task in await queue.list_tasks()] == ["first", "third"]
        found = await queue.findings()

    (finding,) = [one for one in found if one.level is Level.BROKEN]
    assert entry.key in finding.text
    assert "sXcond" in finding.text


async def test_arguments_that_cannot_be_read_fail_their_task_alone(make_driver: MakeDriver) -> None:
    """Pickled ones where pickle is not read: the task says so when it runs."""
    driver = make_driver()
    async with ObjectQueue(driver, serialization_format="pickle") as queue:
        await queue.enqueue(Task(func="f", id="pickled", args=(1,)))
        await queue.enqueue(Task(func="f", id="plain"))

    async with ObjectQueue(make_driver()) as queue:
        pickled, plain = await queue.list_tasks()

    assert "pickle" in pickled.metadata[DAMAGED]
    assert plain.metadata == {}
    await driver.close()


async def test_too_much_for_one_object_is_refused_at_once(
    make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is stored, and with what to do."""
    monkeypatch.setattr(queue_module, "MOST_BYTES", 10_000)
    async with ObjectQueue(make_driver()) as queue:
        with pytest.raises(PayloadTooLargeError, match="enqueue fewer at once"):
            await queue.enqueue_many([Task(func="f", args=("x" * 3_000,)) for _ in range(4)])

        assert await queue.list_tasks() == []


async def test_what_a_store_promises_is_told(make_driver: MakeDriver) -> None:
    """One process where there are no conditions; a slower pace, as requests cost money."""
    async with ObjectQueue(make_driver()) as queue, ObjectScheduleStorage(make_driver()) as plans:
        for component in (queue, plans):
            assert not component.capabilities.shared
            assert not component.capabilities.durable
            assert component.capabilities.heartbeat_seconds == 10
            assert component.capabilities.lease_seconds == 60
            assert component.capabilities.poll_seconds == 5


async def test_compressed_arguments_come_back(make_driver: MakeDriver) -> None:
    """Whoever reads them, and whether it compresses or not."""
    text = "again and again " * 500
    async with ObjectQueue(make_driver(), compression="zlib") as queue:
        await queue.enqueue_many([Task(func="f", id="a", args=(text,)), Task(func="f", args=(1,))])

    driver = make_driver()
    async with ObjectQueue(driver) as queue:
        task = await queue.get_task("a")
        (entry,) = await driver.list("tasks/.log/")

    assert task is not None
    assert task.args == (text,)
    assert entry.size < 2_000
