"""Events in object stores, beside the contract: what is read, damage, and what a call costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from omniq.models.event import EventType, TaskEvent
from omniq.storage.base import EventFilter
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.events import ObjectEventStorage

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)


@pytest.fixture
def events(driver: ObjectDriver) -> ObjectEventStorage:
    return ObjectEventStorage(driver)


def event(hours: float = 0, message: str | None = None) -> TaskEvent:
    moment = NOON + timedelta(hours=hours)
    return TaskEvent(task_id="a", event_type=EventType.STARTED, timestamp=moment, message=message)


async def test_a_batch_is_one_object_a_day(
    events: ObjectEventStorage, driver: ObjectDriver
) -> None:
    """In the folder of the day, by the moment of the event."""
    await events.append([event(), event(1), event(24), event(-13)])

    folders = [entry.key.rpartition("/")[0] for entry in await driver.list("events/")]

    assert folders == ["events/2024/01/14", "events/2024/01/15", "events/2024/01/16"]


async def test_a_query_reads_only_what_can_match(
    events: ObjectEventStorage, driver: ObjectDriver
) -> None:
    """Days and moments stand in the names."""
    for n in range(-48, 49):
        await events.append([event(n, str(n))])
    where = EventFilter(since=NOON, until=NOON + timedelta(hours=3))

    driver.requests.clear()
    found = await events.query(where)

    assert [one.message for one in found] == ["0", "1", "2"]
    assert driver.requests["get"] == 3
    assert driver.requests["list"] == 1


async def test_a_limited_query_reads_from_its_end(
    events: ObjectEventStorage, driver: ObjectDriver
) -> None:
    """The newest hundred of a million do not need the million."""
    for n in range(150):
        await events.append([event(n, str(n))])

    driver.requests.clear()
    newest = await events.query(limit=3, newest=True)
    oldest = await events.query(limit=3)

    assert [one.message for one in newest] == ["147", "148", "149"]
    assert [one.message for one in oldest] == ["0", "1", "2"]
    assert driver.requests["get"] == 128


async def test_overlapping_batches_come_in_one_order(events: ObjectEventStorage) -> None:
    """A batch that begins early may end late."""
    await events.append([event(0, "0"), event(9, "9")])
    for n in (1, 5, 3):
        await events.append([event(n, str(n))])
    await events.append([event(0.5, "half"), event(9, "9 too")])

    assert [one.message for one in await events.query()] == [
        *("0", "half", "1", "3", "5", "9", "9 too")
    ]
    assert [one.message for one in await events.query(limit=2)] == ["0", "half"]
    assert [one.message for one in await events.query(limit=2, newest=True)] == ["9", "9 too"]


async def test_purging_shortens_a_batch(events: ObjectEventStorage, driver: ObjectDriver) -> None:
    """What is younger stays, under the same name."""
    await events.append([event(n, str(n)) for n in range(4)])
    before = await driver.list("events/")

    assert await events.purge(NOON + timedelta(hours=2)) == 2

    assert [one.message for one in await events.query()] == ["2", "3"]
    assert [one.key for one in await driver.list("events/")] == [one.key for one in before]
    assert await events.purge(NOON + timedelta(hours=9)) == 2
    assert await driver.list("events/") == []


async def test_a_damaged_line_hides_no_other(
    events: ObjectEventStorage, driver: ObjectDriver
) -> None:
    """And what is no batch at all is left alone."""
    await events.append([event(n, str(n)) for n in range(3)])
    (entry,) = await driver.list("events/")
    stored = await driver.get(entry.key)
    assert stored is not None
    first, _, last = stored.data.splitlines()
    await driver.put(entry.key, first + b'\n{"torn\n' + last + b"\n")
    await driver.put("events/2024/01/15/readme.txt", b"hello")

    assert [one.message for one in await events.query()] == ["0", "2"]
    assert await events.purge(NOON + timedelta(days=1)) == 2
    assert await driver.get("events/2024/01/15/readme.txt") is not None


async def test_what_a_call_costs(events: ObjectEventStorage, driver: ObjectDriver) -> None:
    """The table of the documentation, for stores with conditional writes."""
    if not driver.is_conditional:
        pytest.skip("emulated conditions cost more")
    batch = [event(n / 10, str(n)) for n in range(50)]
    costs = {
        "append": (lambda: events.append(batch), {"put": 1}),
        "query": (events.query, {"list": 1, "get": 1}),
        "purge, nothing due": (lambda: events.purge(NOON - timedelta(hours=1)), {"list": 1}),
        "purge": (
            lambda: events.purge(NOON + timedelta(days=1)),
            {"list": 1, "get": 1, "delete": 1},
        ),
    }

    for name, (call, expected) in costs.items():
        driver.requests.clear()
        await call()
        assert driver.requests == expected, name
