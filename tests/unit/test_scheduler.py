"""Schedulers: each fire time becomes exactly one task, whoever fires, crashes or comes late."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omniq import cron, scheduler
from omniq.clock import utcnow
from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.ids import fire_id
from omniq.models.event import EventType, TaskEvent
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import RetryPolicy, Task
from omniq.scheduler import Scheduler
from omniq.storage.memory import MemoryEventStorage, MemoryQueue, MemoryScheduleStorage
from omniq.storage.taskstore import Inserted
from tests.unit.dst_table import AFTER, BEFORE, SHAPES, TRANSITIONS, expected_fires, moment_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NEVER_AGAIN = RetryPolicy(delay_seconds=3600.0, max_delay_seconds=3600.0)
AT_ONCE = RetryPolicy(delay_seconds=0.0)


class Schedules(MemoryScheduleStorage):
    """Schedules whose reads and swaps a test can hold up or let fail."""

    def __init__(self) -> None:
        super().__init__()
        self.after_read: Callable[[], Awaitable[object]] | None = None
        self.before_replace: Callable[[], Awaitable[object]] | None = None

    async def put(self, schedule: Schedule) -> None:
        """Store a schedule as another version might have, unchecked."""
        await self._save(schedule)

    async def state(self, schedule_id: str = "each-minute") -> Schedule:
        found = await self.get_schedule(schedule_id)
        assert found is not None
        return found

    async def _ready(self, now: datetime) -> list[Schedule]:
        ready = await super()._ready(now)
        if self.after_read is not None:
            await self.after_read()
        return ready

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        if self.before_replace is not None:
            await self.before_replace()
        return await super()._replace(before, after)


def failing(error: BaseException) -> Callable[[], Awaitable[object]]:
    async def fail() -> None:
        raise error

    return fail


def each_minute(**options: Any) -> Schedule:
    fields: dict[str, Any] = {
        "schedule_type": ScheduleType.CRON,
        "cron_expression": "* * * * *",
        "func": "job",
        "id": "each-minute",
        "created_at": T0,
    }
    return Schedule(**(fields | options))


def fire_ids(*numbers: int, schedule_id: str = "each-minute") -> list[str]:
    return [fire_id(schedule_id, T0 + number * MINUTE) for number in numbers]


async def ids_in(queue: MemoryQueue) -> list[str]:
    return sorted(task.id for task in await queue.list_tasks())


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
