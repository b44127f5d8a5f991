"""Schedules go to the target one by one, and whoever dies on the way loses none."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from omniq.backend.memory import MemoryBackend
from omniq.models import Schedule, ScheduleStatus, ScheduleType
from omniq.moving.parking import MOVE, is_mark
from omniq.moving.queue import MovingQueue
from omniq.moving.stores import MovingSchedules, frozen, thawed
from omniq.scheduler import Scheduler
from tests.moving.dying import DiedError, die_at, live_again

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WRITES = ("_add", "_save", "_replace", "_delete")


def interval(schedule_id: str, **fields: Any) -> Schedule:
    return Schedule(
        schedule_type=ScheduleType.INTERVAL,
        func="f",
        id=schedule_id,
        interval_seconds=60,
        start_at=NOON,
        misfire="all",
        **fields,
    )


def as_defined(schedule: Schedule) -> Schedule:
    """The schedule without its revision, which is another with each write."""
    return msgspec.structs.replace(schedule, revision="")


async def die_and_go_on(step: int, *, after: bool) -> bool:
    """Let whoever carries schedules die at this write, if there is one; another one goes on."""
    here, there = (MemoryBackend().get_schedule_storage() for _ in range(2))
    ticking = await here.save_schedule(interval("ticking", metadata={"by": "me"}), now=NOON)
    resting = await here.save_schedule(interval("resting", end_at=NOON + timedelta(1)), now=NOON)
    resting = await here.pause_schedule("resting")
    has_died = die_at(step, WRITES, here, there, after=after)
    with suppress(DiedError):
        await MovingSchedules(here, there).carry()
    live_again(WRITES, here, there)

    await here.cleanup_expired_schedules(now=NOON + timedelta(hours=1))
    carried = await MovingSchedules(here, there).list_schedules()
    assert [as_defined(item) for item in carried] == [as_defined(resting), as_defined(ticking)]
    assert await there.list_schedules() == carried
    assert await here.list_schedules() == []
    return has_died()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_whoever_carries_schedules_may_die_at_any_write(after: bool) -> None:
    """The next one takes up where it was; a cleanup in between deletes none on its way."""
    step = 1
    while await die_and_go_on(step, after=after):
        step += 1

    assert step > 8


@pytest.mark.parametrize("stale_first", [True, False])
async def test_two_schedulers_on_two_stores_fire_each_time_once(stale_first: bool) -> None:
    """One has not heard of the move yet: ids are derived from the times, and the source decides."""
    source, target = MemoryBackend(), MemoryBackend()
    old, new = source.get_task_queue(), target.get_task_queue()
    here, there = source.get_schedule_storage(), target.get_schedule_storage()
    for storage in (here, there):
        await storage.save_schedule(interval("ticking"), now=NOON)
    schedulers = [Scheduler(old, here), Scheduler(MovingQueue(old, new), there)]
    if not stale_first:
        schedulers.reverse()

    fired = [await item.fire_due(now=NOON + timedelta(minutes=2)) for item in schedulers]

    assert [len(ids) for ids in fired] == [2, 0]
    tasks = [*await old.list_tasks(), *await new.list_tasks()]
    assert sorted(task.id for task in tasks if not is_mark(task)) == sorted(fired[0])


async def test_nobody_changes_a_frozen_schedule() -> None:
    """A change meant for the schedule would be lost with it."""
    storage = MemoryBackend().get_schedule_storage()
    schedule = await storage.save_schedule(interval("a"), now=NOON)
    left = frozen(schedule)
    assert await storage.replace(schedule, left)

    assert not await storage.replace(schedule, schedule)
    assert await storage.get_ready_schedules(now=NOON + timedelta(days=1)) == []
    assert MOVE in left.metadata
    assert left.status is ScheduleStatus.PAUSED
    assert as_defined(thawed(left)) == as_defined(schedule)
