"""Two who carry the same schedule at once: whatever one does while the other hesitates, stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omniq.backend.memory import MemoryBackend
from omniq.models import Schedule, ScheduleStatus, ScheduleType
from omniq.moving.stores import MovingSchedules
from omniq.scheduler import Scheduler
from omniq.storage.base import BaseScheduleStorage
from omniq.storage.memory import MemoryQueue
from tests.moving.dying import live_again

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
CALLS = ("_add", "_delete", "_get", "_list", "_replace", "_save")
Deed = Callable[[BaseScheduleStorage], Awaitable[object]]


def every(seconds: float) -> Schedule:
    return Schedule(
        schedule_type=ScheduleType.INTERVAL,
        func="f",
        id="ticking",
        interval_seconds=seconds,
        start_at=NOON,
    )


def hesitate_at(
    step: int, meanwhile: Callable[[MovingSchedules], Awaitable[None]], *stores: Any
) -> Callable[[], bool]:
    """Before the n-th call, let somebody else do all of `meanwhile`; return whether it came."""
    left = [step]

    def hesitating(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def late(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                live_again(CALLS, *stores)
                await meanwhile(MovingSchedules(*stores))
            return await call(*arguments)

        return late

    for store in stores:
        for name in CALLS:
            setattr(store, name, hesitating(getattr(store, name)))
    return lambda: left[0] <= 0


async def edit(schedules: BaseScheduleStorage) -> None:
    """Save another rule for it."""
    await schedules.save_schedule(every(3600), now=NOON)


async def fire(schedules: BaseScheduleStorage) -> None:
    """Make the task of its first fire time, of which nothing is known any more afterwards."""
    fired = await Scheduler(MemoryQueue(), schedules).fire_due(now=NOON + timedelta(seconds=60))
    assert len(fired) == 1


async def delete(schedules: BaseScheduleStorage) -> None:
    """Delete it."""
    assert await schedules.delete_schedule("ticking")


async def pause(schedules: BaseScheduleStorage) -> None:
    """Let it rest."""
    await schedules.pause_schedule("ticking")


async def is_as_left_by(deed: Deed, schedules: BaseScheduleStorage) -> bool:
    """Whether what the deed did is still so."""
    found = [
        one
        for one in await schedules.list_schedules()
        if one.status is not ScheduleStatus.COMPLETED
    ]
    if deed is delete:
        return found == []
    (one,) = found
    kept: dict[Deed, bool] = {
        edit: (one.interval_seconds, one.status) == (3600, ScheduleStatus.ACTIVE),
        fire: (one.run_count, one.next_run_at) == (1, NOON + timedelta(seconds=120)),
        pause: one.status is ScheduleStatus.PAUSED,
    }
    return kept[deed]


@pytest.mark.parametrize("follows", [True, False], ids=["by a follower", "in the target"])
@pytest.mark.parametrize("deed", [edit, fire, delete, pause])
async def test_what_is_done_while_another_carrier_hesitates_stays(
    deed: Deed, follows: bool
) -> None:
    """At whatever call it hesitates, in either store: it brings back nothing as it was."""

    async def meanwhile(schedules: MovingSchedules) -> None:
        await schedules.carry()
        await deed(schedules if follows else there)

    step, is_met = 0, True
    while is_met:
        step += 1
        here, there = (MemoryBackend().get_schedule_storage() for _ in range(2))
        await here.save_schedule(every(60), now=NOON)
        was_met = hesitate_at(step, meanwhile, here, there)
        await MovingSchedules(here, there).carry()
        is_met = was_met()
        if is_met:
            await MovingSchedules(here, there).carry()
            assert await is_as_left_by(deed, there), f"after hesitating at call {step}"
            assert await here.list_schedules() == []

    assert step > 5
