"""The scheduler's loop: on time, idle for next to nothing, and not to be stopped by a failure."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from omniq import cron, scheduler
from omniq.clock import utcnow
from omniq.exceptions import StorageUnavailableError
from omniq.ids import fire_id
from omniq.models.event import TaskEvent
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import RetryPolicy
from omniq.scheduler import Scheduler
from omniq.storage.memory import MemoryEventStorage, MemoryQueue
from tests.unit.schedule_doubles import (
    T0,
    Schedules,
    each_minute,
    fire_ids,
    ids_in,
)

NEVER_AGAIN = RetryPolicy(delay_seconds=3600.0, max_delay_seconds=3600.0)
AT_ONCE = RetryPolicy(delay_seconds=0.0)


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def schedules() -> Schedules:
    return Schedules()


class Stopping(MemoryEventStorage):
    """Sets `stop` when a number of events has been logged."""

    def __init__(self, number: int = 1) -> None:
        super().__init__()
        self.stop = asyncio.Event()
        self.left = number

    async def _append(self, events: list[TaskEvent]) -> None:
        await super()._append(events)
        self.left -= len(events)
        if self.left <= 0:
            self.stop.set()


async def run(fires: Stopping, queue: MemoryQueue, schedules: Schedules) -> None:
    async with asyncio.timeout(20):
        await Scheduler(queue, schedules, fires).run(fires.stop)


def each_tenth(**options: Any) -> Schedule:
    rule = {"schedule_type": ScheduleType.INTERVAL, "cron_expression": None}
    return each_minute(**{**rule, "interval_seconds": 0.1, "created_at": utcnow(), **options})


async def test_run_fires_what_comes_due_and_ends_when_told(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """The loop of every worker: on time, in order, gone when asked."""
    await schedules.save_schedule(each_tenth())
    fires = Stopping(3)

    await run(fires, queue, schedules)

    schedule = await schedules.state()
    tasks = await queue.list_tasks()
    assert len(tasks) == schedule.run_count >= 3
    assert {task.id for task in tasks} == {
        fire_id("each-minute", schedule.created_at + n * timedelta(milliseconds=100))
        for n in range(1, len(tasks) + 1)
    }


async def test_run_survives_a_store_that_fails(
    queue: MemoryQueue,
    schedules: Schedules,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Servers restart and drivers have bugs; neither may end the scheduler for good."""
    monkeypatch.setattr(scheduler, "BACKOFF", AT_ONCE)
    await schedules.save_schedule(each_tenth())
    failures: list[Exception] = [StorageUnavailableError("no route"), RuntimeError("driver bug")]

    async def fail() -> None:
        if failures:
            raise failures.pop(0)

    schedules.after_read = fail
    await run(Stopping(), queue, schedules)

    assert len(await queue.list_tasks()) >= 1
    assert "schedules cannot be read; trying again in 0.0 s: no route" in caplog.text
    assert ["driver bug" in record.message for record in caplog.records if record.exc_info] == [
        True
    ]


async def test_run_leaves_a_broken_schedule_alone_while_others_keep_their_times(
    queue: MemoryQueue,
    schedules: Schedules,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A schedule that stays due must neither spin the loop nor flood the log."""
    monkeypatch.setattr(scheduler, "BACKOFF", NEVER_AGAIN)
    await schedules.put(each_minute(id="broken", timezone="Moon/Base", next_run_at=T0))
    await schedules.save_schedule(each_tenth())

    await run(Stopping(3), queue, schedules)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "schedule broken cannot fire" in caplog.text


async def test_idle_run_looks_once_a_second(
    queue: MemoryQueue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle scheduler must cost next to nothing, and still notice a new schedule soon."""
    pauses: list[float] = []

    async def note(stop: asyncio.Event, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            stop.set()

    monkeypatch.setattr(scheduler, "_sleep", note)
    await Scheduler(queue, schedules).run(asyncio.Event())

    assert pauses == [scheduler.IDLE_SECONDS] * 2


@pytest.mark.parametrize(
    ("due_in", "pause"), [(None, 1.0), (3600.0, 1.0), (0.25, 0.25), (0.0, 0.0), (-5.0, 0.0)]
)
def test_pause_ends_when_the_next_fire_is_due_or_after_a_second(
    due_in: float | None, pause: float
) -> None:
    """Sleeping longer would miss new schedules, sleeping past a fire time would be late."""
    due_at = None if due_in is None else T0 + timedelta(seconds=due_in)

    assert scheduler.pause_before(due_at, T0) == pause


async def test_setback_ends_with_success_or_when_the_schedule_is_gone(
    queue: MemoryQueue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schedule repaired while it is held must fire again, at the next try."""
    monkeypatch.setattr(scheduler, "BACKOFF", AT_ONCE)
    fires = Stopping()
    await schedules.put(each_minute(timezone="Moon/Base", next_run_at=T0))

    async def repair() -> None:
        schedules.after_read = None
        await schedules.save_schedule(cron.checked_schedule(each_minute(next_run_at=T0)))

    schedules.after_read = repair
    await run(fires, queue, schedules)

    assert fire_ids(0)[0] not in await ids_in(queue)
    assert (await schedules.state()).run_count >= 1
