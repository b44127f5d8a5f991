# ruff: noqa: S101 - tests assert; a lease token is no password
"""What advancing, pausing and tidying schedules promise."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import Any

import pytest

from omniq import cron
from omniq.exceptions import NotFoundError, SyncInAsyncError
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.storage.base import BaseScheduleStorage
from omniq.testing.contract.samples import (
    MICROSECOND,
    at,
    missing_twins,
)
from omniq.testing.contract.schedules_samples import every, names, once, stored


class FiringContract:
    """Compare-and-swap: each fire time is passed once, by one scheduler."""

    async def test_advance_moves_to_the_next_fire_time(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """And counts one fire."""
        await schedules.save_schedule(every(10), now=at(1))

        assert await schedules.advance("s", at(10), at(20))

        found = await stored(schedules)
        assert (found.next_run_at, found.last_run_at, found.run_count) == (at(20), at(10), 1)

    async def test_advance_from_another_fire_time_is_lost(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """Somebody else fired it already; a repeated call does not count twice."""
        await schedules.save_schedule(every(10), now=at(1))
        assert await schedules.advance("s", at(10), at(20))
        before = await stored(schedules)

        assert not await schedules.advance("s", at(10), at(20))
        assert not await schedules.advance("s", at(20 + MICROSECOND), at(30))
        assert not await schedules.advance("ghost", at(10), at(20))

        assert await stored(schedules) == before

    async def test_advance_to_nothing_completes(self, schedules: BaseScheduleStorage) -> None:
        """No further fire time, no further fire."""
        await schedules.save_schedule(once(10), now=at(1))

        assert await schedules.advance("s", at(10), None)

        found = await stored(schedules)
        assert (found.status, found.next_run_at, found.run_count) == (
            ScheduleStatus.COMPLETED,
            None,
            1,
        )
        assert not await schedules.advance("s", at(10), at(20))

    async def test_advance_completes_after_the_last_run(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """`max_runs` counts."""
        await schedules.save_schedule(every(10, max_runs=2), now=at(1))

        assert await schedules.advance("s", at(10), at(20))
        assert await schedules.advance("s", at(20), at(30))

        assert (await stored(schedules)).status is ScheduleStatus.COMPLETED

    async def test_of_concurrent_schedulers_one_fires(self, schedules: BaseScheduleStorage) -> None:
        """Any number may run without a leader."""
        await schedules.save_schedule(every(10), now=at(1))

        answers = await asyncio.gather(*(schedules.advance("s", at(10), at(20)) for _ in range(20)))

        assert answers.count(True) == 1
        assert (await stored(schedules)).run_count == 1

    @pytest.mark.parametrize(
        "fields",
        [
            {"status": ScheduleStatus.PAUSED},
            {"next_run_at": at(10 + MICROSECOND)},
            {"next_run_at": None},
            {"run_count": 1},
            {"revision": "another"},
        ],
    )
    async def test_a_stale_replace_changes_nothing(
        self, schedules: BaseScheduleStorage, fields: dict[str, Any]
    ) -> None:
        """Each compared field alone makes the difference."""
        saved = await schedules.save_schedule(every(10), now=at(1))
        before = copy(saved)
        for name, value in fields.items():
            setattr(before, name, value)

        assert not await schedules.replace(before, cron.advanced(saved, at(20)))

        assert await stored(schedules) == saved

    async def test_a_definition_saved_meanwhile_is_not_overwritten(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """A scheduler that read the old one, of the same fire time, must look again."""
        seen = await schedules.save_schedule(every(10, args=(1,)), now=at(1))
        await schedules.save_schedule(every(10, args=(2,)), now=at(1))

        assert not await schedules.replace(seen, cron.advanced(seen, at(20)))

        assert (await stored(schedules)).args == (2,)
        assert await schedules.advance("s", at(10), at(20))
        assert (await stored(schedules)).args == (2,)

    async def test_a_definition_replaced_meanwhile_is_not_overwritten(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """The same by a swap that leaves the state as it was; so is a repeated swap lost."""
        seen = await schedules.save_schedule(every(10, args=(1,)), now=at(1))
        other = copy(seen)
        other.args = (2,)

        assert await schedules.replace(seen, other)
        assert not await schedules.replace(seen, cron.advanced(seen, at(20)))

        assert (await stored(schedules)).args == (2,)

    async def test_replace_writes_the_whole_schedule(self, schedules: BaseScheduleStorage) -> None:
        """If its state is as seen; one that is gone is not brought back."""
        saved = await schedules.save_schedule(every(10), now=at(1))
        after = copy(saved)
        after.args, after.run_count, after.last_run_at = ((1,),), 1, at(5)
        after.revision = "mine"

        assert await schedules.replace(saved, after)
        assert await stored(schedules) == after

        await schedules.delete_schedule("s")
        assert not await schedules.replace(after, saved)
        assert await schedules.list_schedules() == []

    async def test_ready_are_the_due_ones_earliest_first(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """From their very moment on; ties by id."""
        for schedule_id, seconds in (("a", 30.0), ("d", 10.0), ("b", 10.0), ("c", 20.0)):
            await schedules.save_schedule(once(seconds, schedule_id), now=at(1))

        assert await schedules.get_ready_schedules(now=at(10 - MICROSECOND)) == []
        assert names(await schedules.get_ready_schedules(now=at(10))) == ["b", "d"]
        assert names(await schedules.get_ready_schedules(now=at(99))) == ["b", "d", "c", "a"]

    async def test_only_active_schedules_are_ready(self, schedules: BaseScheduleStorage) -> None:
        """Neither paused nor completed ones."""
        for schedule_id in "abc":
            await schedules.save_schedule(once(10, schedule_id), now=at(1))
        await schedules.pause_schedule("a")
        await schedules.advance("b", at(10), None)

        assert names(await schedules.get_ready_schedules(now=at(99))) == ["c"]

    async def test_next_due_is_the_earliest_fire_time(self, schedules: BaseScheduleStorage) -> None:
        """Of the active ones; None when there is none."""
        assert await schedules.next_due() is None
        for schedule_id, seconds in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
            await schedules.save_schedule(once(seconds, schedule_id), now=at(1))
        assert await schedules.next_due() == at(10)

        await schedules.pause_schedule("a")
        await schedules.advance("b", at(20), None)

        assert await schedules.next_due() == at(30)


class PausingContract:
    """Pausing, resuming, tidying, and the two faces."""

    async def test_a_resumed_schedule_makes_up_for_nothing(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """It goes on with its next fire time after now."""
        await schedules.save_schedule(every(10), now=at(1))

        paused = await schedules.pause_schedule("s")
        assert paused.status is ScheduleStatus.PAUSED
        assert await stored(schedules) == paused
        resumed = await schedules.resume_schedule("s", now=at(35))

        assert (resumed.status, resumed.next_run_at) == (ScheduleStatus.ACTIVE, at(40))
        assert await stored(schedules) == resumed
        assert (resumed.run_count, resumed.last_run_at) == (0, None)

    async def test_a_resumed_single_fire_is_left_to_its_misfire_rule(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """It is not lost because it was paused at its moment."""
        await schedules.save_schedule(once(10), now=at(1))
        await schedules.pause_schedule("s")

        resumed = await schedules.resume_schedule("s", now=at(35))

        assert (resumed.status, resumed.next_run_at) == (ScheduleStatus.ACTIVE, at(10))

    async def test_pausing_twice_is_pausing(self, schedules: BaseScheduleStorage) -> None:
        """And resuming an active one changes nothing."""
        await schedules.save_schedule(every(10), now=at(1))

        assert await schedules.resume_schedule("s", now=at(55)) == await stored(schedules)
        first = await schedules.pause_schedule("s")

        assert await schedules.pause_schedule("s") == first

    async def test_a_paused_schedule_cannot_be_advanced(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """A scheduler that saw it active comes too late."""
        saved = await schedules.save_schedule(every(10), now=at(1))
        await schedules.pause_schedule("s")

        assert not await schedules.advance("s", at(10), at(20))
        assert not await schedules.replace(saved, cron.advanced(saved, at(20)))

    async def test_what_is_not_there_cannot_be_paused(self, schedules: BaseScheduleStorage) -> None:
        """Both calls say so."""
        for call in (schedules.pause_schedule, schedules.resume_schedule):
            with pytest.raises(NotFoundError, match="ghost"):
                await call("ghost")

    async def test_cleanup_deletes_what_is_over(self, schedules: BaseScheduleStorage) -> None:
        """Completed ones and paused ones past their end; an active one may still have to fire."""
        await schedules.save_schedule(once(10, "done"), now=at(1))
        await schedules.advance("done", at(10), None)
        for schedule_id, end in (("active", 50), ("paused", 50), ("later", 50 + MICROSECOND)):
            await schedules.save_schedule(every(10, schedule_id, end_at=at(end)), now=at(1))
        for schedule_id in ("paused", "later"):
            await schedules.pause_schedule(schedule_id)

        assert await schedules.cleanup_expired_schedules(now=at(50)) == 2

        assert names(await schedules.list_schedules()) == ["active", "later"]

    async def test_every_coroutine_has_a_twin(self, schedules: BaseScheduleStorage) -> None:
        """By one rule of names; a twin never blocks a loop."""
        assert missing_twins(schedules) == []
        with pytest.raises(SyncInAsyncError, match=r"await .*save_schedule"):
            schedules.save_schedule_sync(every(10))

    async def test_the_twins_do_the_same(self, schedules: BaseScheduleStorage) -> None:
        """From a thread without a loop, on the same store."""

        def work() -> list[Schedule]:
            schedules.save_schedule_sync(every(10), now=at(1))
            assert schedules.advance_sync("s", at(10), at(20))
            assert names(schedules.get_ready_schedules_sync(now=at(20))) == ["s"]
            schedules.pause_schedule_sync("s")
            return schedules.list_schedules_sync()

        assert await asyncio.to_thread(work) == await schedules.list_schedules()

    async def test_closing_twice_and_using_again_is_fine(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """Every method opens the store on first use."""
        await schedules.connect()
        saved = await schedules.save_schedule(every(10))
        await schedules.disconnect()
        await schedules.disconnect()

        assert await schedules.list_schedules() == [saved]

    async def test_two_objects_fire_once(
        self, schedules: BaseScheduleStorage, second: BaseScheduleStorage
    ) -> None:
        """The store keeps the fence."""
        await schedules.save_schedule(every(10), now=at(1))

        assert await second.advance("s", at(10), at(20))
        assert not await schedules.advance("s", at(10), at(20))
        await schedules.disconnect()
        assert (await stored(second)).run_count == 1
