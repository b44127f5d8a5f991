"""Schedulers: each fire time becomes exactly one task, whoever fires, crashes or comes late."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from omniq import scheduler
from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.ids import fire_id
from omniq.models.event import EventType, TaskEvent
from omniq.models.schedule import ScheduleStatus
from omniq.models.task import Task
from omniq.scheduler import Scheduler
from omniq.storage.memory import MemoryEventStorage, MemoryQueue
from omniq.storage.values import Inserted
from tests.unit.dst_table import AFTER, BEFORE, SHAPES, TRANSITIONS, expected_fires, moment_of
from tests.unit.schedule_doubles import (
    MINUTE,
    T0,
    Schedules,
    each_minute,
    failing,
    fire_ids,
    ids_in,
)


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def schedules() -> Schedules:
    return Schedules()


async def test_due_schedule_makes_its_task_and_moves_on(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """The plain case: one fire time, one task, one event, the next fire time."""
    events = MemoryEventStorage()
    await schedules.save_schedule(each_minute(args=(1,), priority=2), now=T0)

    stored = await Scheduler(queue, schedules, events).fire_due(now=T0 + MINUTE)

    [task] = await queue.list_tasks()
    assert stored == [task.id] == fire_ids(1)
    assert (task.func, task.args, task.priority, task.schedule_id) == (
        "job",
        (1,),
        2,
        "each-minute",
    )
    [event] = await events.get_all_events()
    assert (event.task_id, event.event_type) == (task.id, EventType.ENQUEUED)
    state = await schedules.state()
    assert (state.run_count, state.last_run_at) == (1, T0 + MINUTE)
    assert state.next_run_at == T0 + 2 * MINUTE


async def test_nothing_is_made_before_its_time(queue: MemoryQueue, schedules: Schedules) -> None:
    """Early is as wrong as twice."""
    await schedules.save_schedule(each_minute(), now=T0)

    assert await Scheduler(queue, schedules).fire_due(now=T0 + 59 * MINUTE / 60) == []
    assert await ids_in(queue) == []


async def test_paused_schedule_makes_nothing(queue: MemoryQueue, schedules: Schedules) -> None:
    """Pausing is how people stop the damage of a bad job."""
    await schedules.save_schedule(each_minute(), now=T0)
    await schedules.pause_schedule("each-minute")

    assert await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE) == []


@pytest.mark.parametrize("zone", TRANSITIONS)
async def test_two_schedulers_on_one_store_make_each_fire_exactly_once(
    zone: str, queue: MemoryQueue, schedules: Schedules
) -> None:
    """Both read the same due schedules before either acts, all through a change of clocks."""
    shape, transition = SHAPES[0], TRANSITIONS[zone][2]
    begin, end = moment_of(transition) - BEFORE, moment_of(transition) + AFTER
    both_have_read = asyncio.Barrier(2)
    schedules.after_read = both_have_read.wait
    schedule = each_minute(cron_expression=shape.expression, timezone=zone)
    await schedules.save_schedule(schedule, now=begin)
    one, other = Scheduler(queue, schedules), Scheduler(queue, schedules)

    stored: list[str] = []
    now = begin
    while now < end:
        now += timedelta(minutes=10)
        for ids in await asyncio.gather(one.fire_due(now=now), other.fire_due(now=now)):
            stored += ids

    expected = [fire_id("each-minute", fire) for fire in expected_fires(zone, transition, shape)]
    assert sorted(stored) == sorted(expected) == await ids_in(queue)
    assert (await schedules.state()).run_count == len(expected)


async def test_crash_between_insert_and_advance_is_harmless(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """The task is there, the schedule is not moved: firing again must change only the latter."""
    await schedules.save_schedule(each_minute(), now=T0)
    schedules.before_replace = failing(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE)
    assert (await schedules.state()).run_count == 0

    schedules.before_replace = None
    stored = await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE)

    assert stored == []
    assert await ids_in(queue) == fire_ids(1)
    assert (await schedules.state()).run_count == 1


async def test_crash_before_insert_loses_nothing(queue: MemoryQueue, schedules: Schedules) -> None:
    """A scheduler that dies after reading must leave the fire time to the next."""
    await schedules.save_schedule(each_minute(), now=T0)
    schedules.after_read = failing(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE)

    schedules.after_read = None

    assert await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE) == fire_ids(1)


async def test_purged_task_of_an_advanced_schedule_is_not_made_again(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """Once its task is gone, only the schedule's state says that this time has been fired."""
    await schedules.save_schedule(each_minute(), now=T0)
    now = T0 + MINUTE
    await Scheduler(queue, schedules).fire_due(now=now)
    [task] = await queue.claim(["default"], worker_id="w", lease_token="t", now=now)
    await queue.complete(task, now=now)
    await queue.purge(now + MINUTE)

    assert await Scheduler(queue, schedules).fire_due(now=now) == []
    assert await ids_in(queue) == []


async def test_schedules_read_too_long_ago_are_not_fired(
    queue: MemoryQueue, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that was stopped for a day must not act on what it read before."""
    await schedules.save_schedule(each_minute(), now=T0)
    monkeypatch.setattr(scheduler, "READ_VALID_SECONDS", -1.0)

    assert await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE) == []


async def test_schedule_paused_while_it_is_fired_stays_paused(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """Moving on by compare-and-swap must not undo what somebody else decided meanwhile."""
    await schedules.save_schedule(each_minute(), now=T0)

    async def pause() -> None:
        schedules.after_read = None
        await schedules.pause_schedule("each-minute")

    schedules.after_read = pause
    await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE)

    assert (await schedules.state()).status is ScheduleStatus.PAUSED


async def test_missed_times_are_made_up_for_once_and_said_so(
    queue: MemoryQueue, schedules: Schedules, caplog: pytest.LogCaptureFixture
) -> None:
    """After an outage one run of the latest time is due, and the log tells of the others."""
    await schedules.save_schedule(each_minute(misfire_grace_seconds=0), now=T0)

    stored = await Scheduler(queue, schedules).fire_due(now=T0 + 90.5 * MINUTE)

    state = await schedules.state()
    assert stored == fire_ids(90)
    assert (state.run_count, state.next_run_at) == (1, T0 + 91 * MINUTE)
    assert "schedule each-minute: fire times from 2026-01-01 00:01" in caplog.text


async def test_skipped_times_move_the_schedule_on_without_a_run(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """Otherwise the schedule would stay due for ever and stand still."""
    await schedules.save_schedule(each_minute(misfire="skip", misfire_grace_seconds=0), now=T0)

    assert await Scheduler(queue, schedules).fire_due(now=T0 + 90.5 * MINUTE) == []

    state = await schedules.state()
    assert (state.run_count, state.last_run_at) == (0, None)
    assert state.next_run_at == T0 + 91 * MINUTE


async def test_all_missed_times_are_made_up_for_by_two_schedulers_without_doubles(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """Catching up takes several steps; two at it must make each task once."""
    await schedules.save_schedule(each_minute(misfire="all"), now=T0)
    schedules.after_read = asyncio.Barrier(2).wait
    one, other = Scheduler(queue, schedules), Scheduler(queue, schedules)
    now = T0 + 2500 * MINUTE

    stored: list[str] = []
    for _ in range(3):
        for ids in await asyncio.gather(one.fire_due(now=now), other.fire_due(now=now)):
            stored += ids

    assert sorted(stored) == sorted(fire_ids(*range(1, 2501))) == await ids_in(queue)
    assert (await schedules.state()).run_count == 2500


async def test_schedule_is_completed_by_its_last_run(
    queue: MemoryQueue, schedules: Schedules
) -> None:
    """`max_runs` is exact, however many times were missed."""
    await schedules.save_schedule(each_minute(misfire="all", max_runs=2), now=T0)

    assert await Scheduler(queue, schedules).fire_due(now=T0 + 9 * MINUTE) == fire_ids(1, 2)
    assert (await schedules.state()).status is ScheduleStatus.COMPLETED


async def test_broken_schedule_is_logged_by_id_and_does_not_hinder_the_others(
    queue: MemoryQueue, schedules: Schedules, caplog: pytest.LogCaptureFixture
) -> None:
    """One schedule stored by another version must not silence all of them."""
    await schedules.put(each_minute(id="broken", timezone="Moon/Base", next_run_at=T0))
    await schedules.save_schedule(each_minute(), now=T0)

    stored = await Scheduler(queue, schedules).fire_due(now=T0 + MINUTE)

    assert stored == fire_ids(1)
    assert "schedule broken cannot fire" in caplog.text
    assert "Moon/Base" in caplog.text
    assert [vars(record)["schedule_id"] for record in caplog.records] == ["broken"]
    assert (await schedules.state("broken")).next_run_at == T0


async def test_schedule_whose_insert_failed_stays_due(
    schedules: Schedules, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The schedule may only move on when its task is safely stored."""
    queue = MemoryQueue()
    await schedules.save_schedule(each_minute(), now=T0)
    scheduled = Scheduler(queue, schedules)

    async def no_room(tasks: list[Task], now: datetime | None) -> list[Inserted]:
        raise StorageUnavailableError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_insert", no_room)
        assert await scheduled.fire_due(now=T0 + MINUTE) == []

    assert "schedule each-minute cannot fire: disk full" in caplog.text
    assert await scheduled.fire_due(now=T0 + MINUTE) == fire_ids(1)


async def test_events_that_cannot_be_written_do_not_stop_tasks(
    queue: MemoryQueue, schedules: Schedules, caplog: pytest.LogCaptureFixture
) -> None:
    """History is worth less than the job."""
    await schedules.save_schedule(each_minute(), now=T0)

    class Broken(MemoryEventStorage):
        async def _append(self, events: list[TaskEvent]) -> None:
            raise StorageError("read-only")

    assert await Scheduler(queue, schedules, Broken()).fire_due(now=T0 + MINUTE) == fire_ids(1)
    assert "read-only" in caplog.text
