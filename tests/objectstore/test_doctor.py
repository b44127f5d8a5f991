"""What the doctor says of damaged objects: each is named, and hides no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from omniq.backend.file import FileBackend
from omniq.clock import utcnow
from omniq.models.event import EventType, TaskEvent
from omniq.models.finding import Finding, Level
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import Task
from omniq.storage.file.location import Location
from omniq.storage.objectstore.driver import ObjectDriver
from tests.objectstore.shown import driver_of


@pytest.fixture
async def backend(location: Location) -> AsyncIterator[FileBackend]:
    async with FileBackend(repr(location), fs_kwargs=location.options, tree=False) as opened:
        yield opened


def bad(findings: list[Finding]) -> list[tuple[Level, str]]:
    return [(one.level, one.text) for one in findings if one.level is not Level.FINE]


async def only_key(driver: ObjectDriver, folder: str) -> str:
    """Return the key of the only object in a folder."""
    (entry,) = await driver.list(folder)
    return entry.key


async def damage(driver: ObjectDriver, key: str, what: bytes, by: bytes) -> None:
    stored = await driver.get(key)
    assert stored is not None
    assert what in stored.data
    await driver.put(key, stored.data.replace(what, by))


async def test_a_damaged_result_is_named_until_it_is_replaced(backend: FileBackend) -> None:
    """Its task can be run again; the others are there."""
    results, driver = backend.get_result_storage(), driver_of(backend)
    await results.set_many([TaskResult(task_id=one, result=one) for one in "ab"])
    assert not bad(await results.findings())
    await damage(driver, "results/success/a", b"{", b"\xff")

    ((level, text),) = bad(await results.findings())
    assert level is Level.BROKEN
    assert "results/success/a cannot be read" in text
    assert [one.task_id for one in await results.list_results()] == ["b"]

    await results.set(TaskResult(task_id="a", result=2, claim_count=1))
    assert not bad(await results.findings())
    assert await results.get_result("a") == 2


async def test_a_damaged_result_that_expires_is_set_aside(backend: FileBackend) -> None:
    """Nobody can tell whose it was to be, but somebody may want to look."""
    results, driver = backend.get_result_storage(), driver_of(backend)
    await results.store_result("a", 1, ttl=60)
    await damage(driver, "results/success/a", b"{", b"\xff")

    assert await results.purge(now=utcnow() + timedelta(hours=1)) == 1

    assert await only_key(driver, "results/.damaged/") == "results/.damaged/success~a"
    assert await driver.get("results/success/a") is None
    ((level, text),) = bad(await results.findings())
    assert level is Level.RISK
    assert "1 damaged records were set aside: results/.damaged/success~a" in text


async def test_a_damaged_event_is_named_and_set_aside_when_it_is_purged(
    backend: FileBackend,
) -> None:
    """Its line is kept; the events beside it are read until then."""
    events, driver = backend.get_event_storage(), driver_of(backend)
    await events.append([TaskEvent(task_id=one, event_type=EventType.STARTED) for one in "xyz"])
    key = await only_key(driver, "events/")
    await damage(driver, key, b'"y"', b"\xff")

    ((level, text),) = bad(await events.findings())
    assert level is Level.BROKEN
    assert f"line 2 of {key} cannot be read" in text
    assert [one.task_id for one in await events.get_all_events()] == ["x", "z"]

    assert await events.purge(utcnow() + timedelta(days=1)) == 2
    aside = await only_key(driver, "events/")
    assert aside.startswith("events/.damaged/")
    ((level, text),) = bad(await events.findings())
    assert level is Level.RISK
    assert aside in text


async def test_a_damaged_schedule_is_named(backend: FileBackend, location: Location) -> None:
    """As a damaged task is."""
    for name in ("often", "seldom"):
        await backend.get_schedule_storage().save_schedule(
            Schedule(id=name, func="f", schedule_type=ScheduleType.INTERVAL, interval_seconds=60)
        )
    await damage(driver_of(backend), f"schedules/.log/{1:012d}", b"often", b"0ften")

    async with FileBackend(repr(location), fs_kwargs=location.options, tree=False) as other:
        schedules = other.get_schedule_storage()
        found = bad(await schedules.findings())
        assert [one.id for one in await schedules.list_schedules()] == ["seldom"]

    assert any(level is Level.BROKEN and "0ften" in text for level, text in found)


async def test_how_far_the_tree_is_is_told(location: Location) -> None:
    """So that nobody takes what lags for what is."""
    async with FileBackend(repr(location), fs_kwargs=location.options) as backend:
        queue = backend.get_task_queue()
        await queue.enqueue(Task(func="f"))
        before = [one.text for one in await queue.findings()]
    async with FileBackend(repr(location), fs_kwargs=location.options) as backend:
        after = [one.text for one in await backend.get_task_queue().findings()]

    assert "no tree is published yet" in before
    assert "the tree shows commit 1 of 1" in after
