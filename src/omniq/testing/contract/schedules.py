# ruff: noqa: S101 - tests assert
"""What a schedule storage must do."""

from __future__ import annotations

import asyncio
import inspect
from copy import copy
from typing import Any

import pytest

from omniq import cron
from omniq.backend.base import BaseBackend
from omniq.exceptions import NotFoundError, SerializationError, SyncInAsyncError, ValidationError
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import RetryPolicy
from omniq.storage.base import BaseScheduleStorage
from omniq.testing.contract.samples import (
    HOSTILE_NAMES,
    MICROSECOND,
    NAMES,
    NOW,
    UNSTORABLE,
    VALUES,
    at,
)


def every(seconds: float, schedule_id: str = "s", **fields: Any) -> Schedule:
    """Return a schedule that fires every so many seconds from `NOW` on."""
    known = {"func": "job", "id": schedule_id, "start_at": NOW, "created_at": NOW}
    return Schedule(
        schedule_type=ScheduleType.INTERVAL, interval_seconds=seconds, **{**known, **fields}
    )


def once(seconds: float, schedule_id: str = "s", **fields: Any) -> Schedule:
    """Return a schedule that fires once, so many seconds after `NOW`."""
    known = {"func": "job", "id": schedule_id, "start_at": at(seconds), "created_at": NOW}
    return Schedule(schedule_type=ScheduleType.ONCE, **{**known, **fields})


def names(found: list[Schedule]) -> list[str]:
    """Return the ids of schedules, in order."""
    return [schedule.id for schedule in found]


async def stored(schedules: BaseScheduleStorage, schedule_id: str = "s") -> Schedule:
    """Return a schedule that must be there."""
    schedule = await schedules.get_schedule(schedule_id)
    assert schedule is not None
    return schedule


class SavingContract:
    """Writing and reading schedules."""

    async def test_saving_returns_the_first_fire_time(self, schedules: BaseScheduleStorage) -> None:
        """What is returned is what is stored."""
        saved = await schedules.save_schedule(every(10), now=at(3))

        assert (saved.next_run_at, saved.status) == (at(10), ScheduleStatus.ACTIVE)
        assert await stored(schedules) == saved

    async def test_every_field_comes_back(self, schedules: BaseScheduleStorage) -> None:
        """Rule, request and state."""
        schedule = Schedule(
            schedule_type=ScheduleType.CRON,
            func="pkg.mod:job",
            args=(1, "b"),
            kwargs={"c": [3]},
            id="nightly",
            cron_expression="*/5 2 * * mon-fri",
            timezone="Europe/Berlin",
            start_at=at(-0.000001),
            end_at=at(86_400),
            max_runs=9,
            misfire="all",
            misfire_grace_seconds=1.5,
            queue_name="q",
            priority=-3,
            timeout_seconds=2.5,
            retry=RetryPolicy(max_retries=2, backoff="linear"),
            result_ttl_seconds=60.0,
            expires_seconds=5.0,
            metadata={"m": 1},
            created_at=at(-5),
            status=ScheduleStatus.PAUSED,
            next_run_at=at(7),
            last_run_at=at(-7),
            run_count=4,
        )

        assert await schedules.save_schedule(schedule) == schedule

        assert await stored(schedules, "nightly") == schedule

    @pytest.mark.parametrize("kind", VALUES)
    async def test_values_of_every_type_come_back_the_same(
        self, schedules: BaseScheduleStorage, kind: str
    ) -> None:
        """Arguments, keywords and metadata."""
        value = VALUES[kind]
        await schedules.save_schedule(
            every(10, args=(value,), kwargs={"k": value}, metadata={"m": value})
        )

        found = await stored(schedules)

        for one in (found.args[0], found.kwargs["k"], found.metadata["m"]):
            assert (one, type(one)) == (value, type(value))

    @pytest.mark.parametrize("kind", UNSTORABLE)
    async def test_a_value_that_cannot_be_stored_is_refused(
        self, schedules: BaseScheduleStorage, kind: str
    ) -> None:
        """Nothing is stored; one stored before stays."""
        await schedules.save_schedule(every(10, "a"))

        for schedule_id in ("a", "b"):
            with pytest.raises(SerializationError):
                await schedules.save_schedule(every(20, schedule_id, args=(UNSTORABLE[kind],)))

        (found,) = await schedules.list_schedules()
        assert (found.id, found.interval_seconds) == ("a", 10)

    @pytest.mark.parametrize(
        "fields",
        [
            {"func": "no name"},
            {"interval_seconds": 0},
            {"interval_seconds": None},
            {"cron_expression": "* * * * *"},
            {"timezone": "Mars/Olympus"},
            {"max_runs": 0},
            {"misfire": "sometimes"},
            {"queue_name": "a/b"},
            {"end_at": at(-1)},
        ],
    )
    async def test_a_bad_field_is_refused(
        self, schedules: BaseScheduleStorage, fields: dict[str, Any]
    ) -> None:
        """Before anything is stored."""
        bad = every(10)
        for name, value in fields.items():
            setattr(bad, name, value)

        with pytest.raises(ValidationError):
            await schedules.save_schedule(bad)

        assert await schedules.list_schedules() == []

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    async def test_hostile_ids_are_refused_everywhere(
        self, schedules: BaseScheduleStorage, name: str
    ) -> None:
        """No id ever reaches a path, a key or a statement of the store."""
        bad: Any = HOSTILE_NAMES[name]
        calls = [
            lambda: schedules.save_schedule(every(10, bad)),
            lambda: schedules.get_schedule(bad),
            lambda: schedules.delete_schedule(bad),
            lambda: schedules.advance(bad, NOW, None),
            lambda: schedules.pause_schedule(bad),
            lambda: schedules.resume_schedule(bad),
        ]

        for call in calls:
            with pytest.raises(ValidationError):
                await call()

        assert await schedules.list_schedules() == []

    async def test_every_allowed_id_works(self, schedules: BaseScheduleStorage) -> None:
        """Also those that differ by case only; the list is by id."""
        allowed = [*NAMES, "A", "con.txt"]
        for name in allowed:
            await schedules.save_schedule(every(10, name))

        assert names(await schedules.list_schedules()) == sorted(allowed)

    async def test_saving_again_replaces(self, schedules: BaseScheduleStorage) -> None:
        """A schedule of a known id is another version of it."""
        await schedules.save_schedule(every(10))

        await schedules.save_schedule(every(99, args=(1,)), now=at(1))

        found = await stored(schedules)
        assert (found.interval_seconds, found.args, found.next_run_at) == (99, (1,), at(99))
        assert len(await schedules.list_schedules()) == 1

    async def test_list_is_by_status(self, schedules: BaseScheduleStorage) -> None:
        """Or all."""
        await schedules.save_schedule(every(10, "b"))
        await schedules.save_schedule(every(10, "a"))
        await schedules.pause_schedule("a")

        assert names(await schedules.list_schedules()) == ["a", "b"]
        assert names(await schedules.list_schedules("paused")) == ["a"]
        assert names(await schedules.list_schedules(ScheduleStatus.COMPLETED)) == []

    async def test_delete_says_whether_there_was_one(self, schedules: BaseScheduleStorage) -> None:
        """Deleting twice is no error."""
        await schedules.save_schedule(every(10))

        assert await schedules.delete_schedule("s")
        assert not await schedules.delete_schedule("s")
        assert await schedules.get_schedule("s") is None

    async def test_changing_a_schedule_changes_nothing_stored(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """Neither the one given nor one got."""
        schedule = every(10, kwargs={"k": [1]})
        saved = await schedules.save_schedule(schedule, now=NOW)
        schedule.kwargs["k"].append(2)
        schedule.priority = 9
        (await stored(schedules)).kwargs["k"].append(3)

        found = await stored(schedules)
        assert (found.kwargs, found.priority, found.id) == ({"k": [1]}, 0, saved.id)


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

        answers = await asyncio.gather(
            *(schedules.advance("s", at(10), at(20)) for _ in range(20))
        )

        assert answers.count(True) == 1
        assert (await stored(schedules)).run_count == 1

    @pytest.mark.parametrize(
        "fields",
        [
            {"status": ScheduleStatus.PAUSED},
            {"next_run_at": at(10 + MICROSECOND)},
            {"next_run_at": None},
            {"run_count": 1},
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

    async def test_replace_writes_the_whole_schedule(self, schedules: BaseScheduleStorage) -> None:
        """If its state is as seen; one that is gone is not brought back."""
        saved = await schedules.save_schedule(every(10), now=at(1))
        after = copy(saved)
        after.args, after.run_count, after.last_run_at = ((1,),), 1, at(5)

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
        """Completed ones and those whose end has passed."""
        await schedules.save_schedule(once(10, "done"), now=at(1))
        await schedules.advance("done", at(10), None)
        await schedules.save_schedule(every(10, "ended", end_at=at(50)), now=at(1))
        await schedules.save_schedule(every(10, "goes-on"), now=at(1))

        assert await schedules.cleanup_expired_schedules(now=at(50)) == 2

        assert names(await schedules.list_schedules()) == ["goes-on"]

    async def test_every_coroutine_has_a_twin(self, schedules: BaseScheduleStorage) -> None:
        """By one rule of names; a twin never blocks a loop."""
        missing = [
            name
            for name, method in inspect.getmembers(type(schedules), inspect.iscoroutinefunction)
            if not name.startswith("_") and not hasattr(schedules, f"{name}_sync")
        ]

        assert missing == []
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


@pytest.mark.asyncio
class ScheduleContract(SavingContract, FiringContract, PausingContract):
    """Subclass this. `schedules` is new and empty; `second` is another object on that store."""

    @pytest.fixture
    def schedules(self, backend: BaseBackend) -> BaseScheduleStorage:
        """The schedule storage under test."""
        return backend.get_schedule_storage()

    @pytest.fixture
    def second(self, second_backend: BaseBackend) -> BaseScheduleStorage:
        """Another object on the same store; skipped where stores are not shared."""
        return second_backend.get_schedule_storage()
