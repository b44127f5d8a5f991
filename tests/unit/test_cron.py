"""When schedules fire, what becomes of missed fire times, and what is no schedule."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq import cron
from omniq.clock import from_micros, to_micros
from omniq.ids import fire_id
from omniq.models.schedule import Misfire, Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import RetryPolicy, TaskStatus

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def schedule_of(rule: dict[str, Any], options: dict[str, Any]) -> Schedule:
    fields: dict[str, Any] = {"func": "job", "created_at": T0}
    return Schedule(**(fields | rule | options))


def cron_schedule(expression: str = "* * * * *", **options: Any) -> Schedule:
    rule = {"schedule_type": ScheduleType.CRON, "cron_expression": expression}
    return schedule_of(rule, options)


def interval_schedule(seconds: float = 60.0, **options: Any) -> Schedule:
    rule = {"schedule_type": ScheduleType.INTERVAL, "interval_seconds": seconds}
    return schedule_of(rule, options)


def once_schedule(at: datetime | None = T0, **options: Any) -> Schedule:
    return schedule_of({"schedule_type": ScheduleType.ONCE, "start_at": at}, options)


def due_schedule(**options: Any) -> Schedule:
    """A schedule that fires each minute and waits for 00:01."""
    waiting: dict[str, Any] = {"next_run_at": T0 + MINUTE}
    return cron_schedule(**(waiting | options))


def minutes(*numbers: int) -> tuple[datetime, ...]:
    return tuple(T0 + number * MINUTE for number in numbers)


moments = st.integers(to_micros(T0) - 10**15, to_micros(T0) + 10**15).map(from_micros)
intervals = st.integers(100_000, 10**13).map(lambda micros: micros / 1_000_000)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Chatham"])
expressions = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 9 * * mon-fri", "@monthly", "5 */5 1 * *"]
)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    start_at = draw(st.none() | moments)
    if draw(st.booleans()):
        schedule = cron_schedule(draw(expressions), timezone=draw(zones), start_at=start_at)
    else:
        schedule = interval_schedule(draw(intervals), start_at=start_at, created_at=draw(moments))
    schedule.end_at = draw(st.none() | moments)
    return schedule


@given(schedules(), moments)
def test_fire_times_increase_strictly_and_stay_within_start_and_end(
    schedule: Schedule, after: datetime
) -> None:
    """A fire time that repeats would halt the scheduler; one outside would break a promise."""
    for _ in range(5):
        fire_at = cron.next_fire(schedule, after)
        if fire_at is None:
            break

        assert fire_at > after
        assert fire_at.tzinfo is UTC
        assert schedule.start_at is None or fire_at >= schedule.start_at
        assert schedule.end_at is None or fire_at <= schedule.end_at
        assert schedule.interval_seconds is None or fire_at >= anchor_of(schedule)
        after = fire_at


def anchor_of(schedule: Schedule) -> datetime:
    return schedule.start_at or schedule.created_at


@given(schedules(), moments, st.floats(0, 1, exclude_max=True))
def test_no_fire_time_lies_between_a_moment_and_its_next_fire(
    schedule: Schedule, after: datetime, part: float
) -> None:
    """Schedulers that look at different moments must agree on what comes next."""
    fire_at = cron.next_fire(schedule, after)
    if fire_at is not None:
        between = after + (fire_at - after) * part
        expected = fire_at if between < fire_at else cron.next_fire(schedule, fire_at)

        assert cron.next_fire(schedule, between) == expected


@given(intervals, moments, moments)
def test_interval_is_anchored_to_the_microsecond(
    seconds: float, anchor: datetime, after: datetime
) -> None:
    """Adding up intervals drifts; multiples of them, in whole microseconds, cannot."""
    interval = round(seconds * 1_000_000)

    fire_at = cron.next_fire(interval_schedule(seconds, start_at=anchor), after)

    assert fire_at is not None
    assert (to_micros(fire_at) - to_micros(anchor)) % interval == 0
    assert fire_at == anchor or fire_at - after <= timedelta(microseconds=interval)


def test_interval_that_has_no_binary_fraction_does_not_drift_in_ten_years() -> None:
    """0.1 is no binary fraction: summed up in floating point it would be off by now."""
    schedule = interval_schedule(0.1)
    later = T0 + timedelta(days=3650)

    assert cron.next_fire(schedule, later) == later + timedelta(milliseconds=100)
    assert cron.next_fire(schedule, later + timedelta(milliseconds=99)) == later + timedelta(
        milliseconds=100
    )


@given(schedules(), moments)
def test_started_waits_for_the_next_fire_or_is_completed(schedule: Schedule, now: datetime) -> None:
    """What `started` promises is what firing will find."""
    after = cron.started(schedule, now)

    assert after.next_run_at == cron.next_fire(schedule, now)
    assert (after.status is ScheduleStatus.COMPLETED) == (after.next_run_at is None)


def test_start_and_end_are_fire_times_themselves() -> None:
    """`start_at` and `end_at` are inclusive, as people read "from 9:00 to 9:02"."""
    schedule = cron_schedule(start_at=T0, end_at=T0 + 2 * MINUTE)

    assert cron.next_fire(schedule, T0 - HOUR) == T0
    assert cron.next_fire(schedule, T0 + MINUTE) == T0 + 2 * MINUTE
    assert cron.next_fire(schedule, T0 + 2 * MINUTE) is None


def test_once_fires_at_its_moment_only() -> None:
    """One fire, no second."""
    assert cron.next_fire(once_schedule(), T0 - HOUR) == T0
    assert cron.next_fire(once_schedule(), T0) is None


def test_once_in_the_past_that_never_ran_is_started_at_its_moment() -> None:
    """A reminder saved a second too late must be sent late, not be dropped in silence."""
    after = cron.started(once_schedule(), T0 + HOUR)

    assert after.next_run_at == T0
    assert after.status is ScheduleStatus.ACTIVE


def test_once_that_ran_is_not_started_again() -> None:
    """Saving or resuming a finished reminder must not send it again."""
    after = cron.started(once_schedule(run_count=1, last_run_at=T0), T0 + HOUR)

    assert after.next_run_at is None
    assert after.status is ScheduleStatus.COMPLETED


def test_started_schedule_without_runs_left_is_completed() -> None:
    """`max_runs` holds across pause and resume."""
    assert (
        cron.started(cron_schedule(max_runs=2, run_count=2), T0).status is ScheduleStatus.COMPLETED
    )


def test_advanced_counts_the_fire_and_waits_for_the_next() -> None:
    """The state after a fire, as stores keep it; the schedule that was read stays as it was."""
    before = due_schedule(max_runs=3)

    after = cron.advanced(before, T0 + 2 * MINUTE)

    assert (after.run_count, after.last_run_at, after.next_run_at) == (1, *minutes(1, 2))
    assert after.status is ScheduleStatus.ACTIVE
    assert (before.run_count, before.next_run_at) == (0, T0 + MINUTE)


@pytest.mark.parametrize(
    ("options", "next_run"),
    [({}, None), ({"max_runs": 1}, T0 + 2 * MINUTE), ({"end_at": T0 + MINUTE}, T0 + 2 * MINUTE)],
)
def test_advanced_is_completed_when_nothing_follows(
    options: dict[str, Any], next_run: datetime | None
) -> None:
    """COMPLETED schedules are never looked at again, so they must hold no next fire time."""
    after = cron.advanced(due_schedule(**options), next_run)

    assert (after.status, after.next_run_at) == (ScheduleStatus.COMPLETED, None)
    assert after.run_count == 1


def test_advanced_counts_the_tasks_made_not_the_times_passed_over() -> None:
    """`max_runs=3` means three tasks, whatever was missed in between."""
    none = cron.advanced(due_schedule(), T0 + HOUR, ())
    three = cron.advanced(due_schedule(), T0 + HOUR, minutes(1, 2, 3))

    assert (none.run_count, none.last_run_at) == (0, None)
    assert (three.run_count, three.last_run_at) == (3, T0 + 3 * MINUTE)


@pytest.mark.parametrize(
    ("misfire", "late", "fires"),
    [
        ("once", timedelta(0), minutes(1)),
        ("skip", timedelta(0), minutes(1)),
        ("all", timedelta(0), minutes(1)),
        ("once", 30 * timedelta(seconds=1), minutes(1)),
        ("skip", 60 * timedelta(seconds=1), minutes(1, 2)),
        ("once", 61 * timedelta(seconds=1), minutes(1, 2)),
        ("skip", 61 * timedelta(seconds=1), minutes(2)),
        ("once", 10 * MINUTE, minutes(9, 10, 11)),
        ("skip", 10 * MINUTE, minutes(10, 11)),
        ("all", 10 * MINUTE, minutes(*range(1, 12))),
    ],
)
def test_misfire_rule_decides_about_times_noticed_later_than_the_grace(
    misfire: Misfire, late: timedelta, fires: tuple[datetime, ...]
) -> None:
    """A minute of grace: what is noticed within it counts as on time, exactly a minute included."""
    now = T0 + MINUTE + late

    plan = cron.plan(due_schedule(misfire=misfire), now)

    assert plan.fires == fires
    assert plan.next_run == cron.next_fire(due_schedule(), now)


@pytest.mark.parametrize(("misfire", "fires"), [("once", (T0,)), ("all", (T0,)), ("skip", ())])
def test_missed_once_schedule_follows_its_misfire_rule(
    misfire: Misfire, fires: tuple[datetime, ...]
) -> None:
    """Whether a reminder may come an hour late is for its owner to say."""
    schedule = cron.started(once_schedule(misfire=misfire), T0 + HOUR)

    assert cron.plan(schedule, T0 + HOUR) == cron.Plan(fires, None)


def test_nothing_is_due_before_the_next_fire_time() -> None:
    """A scheduler whose clock is behind must neither fire nor move on."""
    assert cron.plan(due_schedule(), T0) == cron.Plan((), T0 + MINUTE)


@pytest.mark.parametrize(
    "over",
    [{"next_run_at": None}, {"end_at": T0}, {"max_runs": 2, "run_count": 2}],
)
def test_schedule_that_is_over_plans_nothing(over: dict[str, Any]) -> None:
    """Its definition may have been narrowed after its next fire time was stored."""
    assert cron.plan(due_schedule(**over), T0 + HOUR) == cron.Plan((), None)


def test_plan_stops_at_max_runs_and_at_the_end() -> None:
    """Making up for missed times must not exceed what was asked for."""
    assert cron.plan(due_schedule(misfire="all", max_runs=3), T0 + HOUR) == cron.Plan(
        minutes(1, 2, 3), None
    )
    assert cron.plan(due_schedule(misfire="all", end_at=T0 + 2 * MINUTE), T0 + HOUR) == cron.Plan(
        minutes(1, 2), None
    )


def test_making_up_for_all_is_done_in_bounded_steps_that_lose_nothing() -> None:
    """A week of missed minutes must not become one giant batch, nor a hole."""
    schedule, now = due_schedule(misfire="all"), T0 + timedelta(days=2)
    fires: list[datetime] = []
    while schedule.next_run_at is not None and schedule.next_run_at <= now:
        plan = cron.plan(schedule, now)
        assert 0 < len(plan.fires) <= cron.MAX_FIRES
        fires += plan.fires
        schedule = cron.advanced(schedule, plan.next_run, plan.fires)

    assert tuple(fires) == minutes(*range(1, 2881))
    assert schedule.run_count == 2880


@pytest.mark.parametrize("misfire", ["once", "skip"])
@pytest.mark.parametrize(
    "rule",
    [due_schedule(), interval_schedule(0.1, next_run_at=T0, misfire_grace_seconds=1)],
    ids=["cron", "interval"],
)
def test_ten_missed_years_are_not_enumerated(
    rule: Schedule, misfire: Misfire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schedule forgotten for years must not block the scheduler when it comes back."""
    looked: list[datetime] = []
    next_fire = cron.next_fire

    def counting(schedule: Schedule, after: datetime) -> datetime | None:
        looked.append(after)
        return next_fire(schedule, after)

    monkeypatch.setattr(cron, "next_fire", counting)
    schedule = copy(rule)
    schedule.misfire = misfire
    cron.plan(schedule, T0 + timedelta(days=3650))

    assert len(looked) < 60


@given(schedules(), moments, st.integers(0, 10**6), st.sampled_from(["once", "skip", "all"]))
def test_plan_agrees_with_counting(
    schedule: Schedule, begin: datetime, seconds: int, misfire: Misfire
) -> None:
    """The quick way to the latest missed fire time must find what walking there finds."""
    schedule, now = cron.started(schedule, begin), begin + timedelta(seconds=seconds)
    schedule.misfire, schedule.misfire_grace_seconds = misfire, 90.0
    due = due_by_counting(schedule, now)
    if due is None:
        return
    missed = [fire for fire in due if (now - fire).total_seconds() > 90.0]
    kept = {"once": missed[-1:], "skip": [], "all": missed}[misfire]

    plan = cron.plan(schedule, now)

    assert plan.fires == (*kept, *due[len(missed) :])
    assert plan.next_run == (cron.next_fire(schedule, now) if schedule.next_run_at else None)


@given(st.integers(100, 5_000), st.integers(0, 10**9))
def test_latest_missed_time_of_a_short_interval_is_found_exactly(
    interval: int, milliseconds: int
) -> None:
    """Fire times a tenth of a second apart are the closest the search must tell apart."""
    schedule = interval_schedule(interval / 1000, next_run_at=T0, misfire_grace_seconds=0)
    latest = T0 + timedelta(milliseconds=milliseconds // interval * interval)

    plan = cron.plan(schedule, latest + timedelta(milliseconds=1))

    assert plan == cron.Plan((latest,), latest + timedelta(milliseconds=interval))


def due_by_counting(schedule: Schedule, now: datetime) -> list[datetime] | None:
    due: list[datetime] = []
    fire_at = schedule.next_run_at
    while fire_at is not None and fire_at <= now:
        due.append(fire_at)
        fire_at = cron.next_fire(schedule, fire_at)
        if len(due) > 300:
            return None
    return due


def test_task_of_a_fire_carries_the_options_and_a_derived_id() -> None:
    """The id is what makes two schedulers' tasks one; the moments are those of the fire."""
    retry = RetryPolicy(max_retries=2)
    options: dict[str, Any] = {
        "queue_name": "q",
        "priority": 3,
        "timeout_seconds": 9.0,
        "retry": retry,
    }
    schedule = due_schedule(
        args=(1,),
        kwargs={"a": 2},
        metadata={"m": 3},
        expires_seconds=30.0,
        result_ttl_seconds=5.0,
        **options,
    )

    task = cron.task_for(schedule, T0)

    assert task.id == fire_id(schedule.id, T0)
    assert (task.func, task.args, task.kwargs, task.metadata) == ("job", (1,), {"a": 2}, {"m": 3})
    assert {name: getattr(task, name) for name in options} == options
    assert (task.created_at, task.run_at, task.schedule_id) == (T0, T0, schedule.id)
    assert task.expires_at == T0 + timedelta(seconds=30)
    assert (task.result_ttl_seconds, task.status) == (5.0, TaskStatus.PENDING)
