# ruff: noqa: S101 - tests assert; a lease token is no password
"""What saving and finding schedules promise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from omniq.exceptions import SerializationError, ValidationError
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import RetryPolicy
from omniq.storage.base import BaseScheduleStorage
from omniq.testing.contract.samples import (
    HOSTILE_NAMES,
    NAMES,
    NOW,
    UNSTORABLE,
    VALUES,
    Call,
    at,
)
from omniq.testing.contract.schedules_samples import every, names, stored


class SavingContract:
    """Writing and reading schedules."""

    async def test_saving_returns_the_first_fire_time(self, schedules: BaseScheduleStorage) -> None:
        """What is returned is what is stored."""
        saved = await schedules.save_schedule(every(10), now=at(3))

        assert (saved.next_run_at, saved.status) == (at(10), ScheduleStatus.ACTIVE)
        assert await stored(schedules) == saved

    async def test_adding_changes_none_that_is_there(self, schedules: BaseScheduleStorage) -> None:
        """Whoever comes late with a copy of a schedule overwrites no change of it."""
        first, late = every(10), every(20)
        first.revision = "of its own"

        assert await schedules.add_schedule(first, now=at(3))
        added = await stored(schedules)
        assert not await schedules.add_schedule(late, now=at(3))

        assert await stored(schedules) == added
        assert (added.next_run_at, added.revision) == (at(10), "of its own")
        assert await schedules.delete_schedule(first.id)
        assert await schedules.add_schedule(late, now=at(3))
        assert (await stored(schedules)).interval_seconds == 20

    async def test_of_many_who_add_a_schedule_one_does(
        self, schedules: BaseScheduleStorage, second: BaseScheduleStorage
    ) -> None:
        """Through two objects, as from two processes."""
        asked = [every(seconds) for seconds in range(10, 20)]

        done = await asyncio.gather(
            *((second if n % 2 else schedules).add_schedule(one) for n, one in enumerate(asked))
        )

        (winner,) = [one for one, ok in zip(asked, done, strict=True) if ok]
        assert (await stored(schedules)).interval_seconds == winner.interval_seconds

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

        saved = await schedules.save_schedule(schedule)

        assert await stored(schedules, "nightly") == saved
        saved.revision = schedule.revision
        assert saved == schedule

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
        calls: list[Call] = [
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

    async def test_a_next_fire_time_that_is_given_is_kept(
        self, schedules: BaseScheduleStorage
    ) -> None:
        """So a schedule can be moved from store to store; None means to find it anew."""
        saved = await schedules.save_schedule(every(10, next_run_at=at(30)), now=at(1))
        assert saved.next_run_at == at(30)

        saved.next_run_at = None
        assert (await schedules.save_schedule(saved, now=at(55))).next_run_at == at(60)

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
