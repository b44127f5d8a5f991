"""Schedules as pure functions: which are valid, when they fire, what firing makes of them.

No clock and no I/O. Stores save what `checked_schedule` and `started` return, schedulers do what
`plan` says; `advanced` is the state afterwards.
"""

from __future__ import annotations

import math
from copy import copy
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeVar, get_args

from omniq import crontab
from omniq.clock import EPOCH, as_utc, check_moment, check_seconds, from_micros, to_micros
from omniq.exceptions import ValidationError
from omniq.ids import check_func, check_name, fire_id
from omniq.models.checks import checked_task, moment_or_none
from omniq.models.schedule import Misfire, Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import Task

LEAST_INTERVAL_SECONDS = 0.1
MAX_FIRES = 1000
"""The most fire times one `plan` holds; the rest follows in the next one."""

_JUST_BEFORE = timedelta(microseconds=1)
_LEAST_GAP = timedelta(seconds=LEAST_INTERVAL_SECONDS)
_RULE_FIELDS = {
    ScheduleType.CRON: "cron_expression",
    ScheduleType.INTERVAL: "interval_seconds",
    ScheduleType.ONCE: "start_at",
}
_Member = TypeVar("_Member", bound=StrEnum)


class Plan(NamedTuple):
    """What is to be done now: the fire times to make tasks for, and the next one to wait for.

    `next_run` is in the past when `MAX_FIRES` cut `fires` short, and None when nothing follows.
    """

    fires: tuple[datetime, ...]
    next_run: datetime | None


def checked_schedule(schedule: Schedule) -> Schedule:
    """Return a copy of `schedule` fit to be stored, its moments in UTC.

    Raises:
        ValidationError: a field is out of its range, is missing, or does not belong to this type
            of schedule; the error names it.
    """
    if not isinstance(schedule, Schedule):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
        raise ValidationError("schedule", f"expected a Schedule, got {type(schedule).__name__}")
    after = copy(schedule)
    check_name("id", after.id)
    check_func("func", after.func)
    _check_moments(after)
    _check_rule(after)
    _check_limits(after)
    _check_options(after)
    return after


def next_fire(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first fire time strictly after `after`, in UTC; None when there is none.

    Nothing fires before `start_at` or after `end_at`. Interval schedules fire at `start_at` (or
    `created_at`) and whole numbers of intervals later, to the microsecond, however long ago.
    """
    after = as_utc(after)
    if schedule.start_at is not None:
        after = max(after, schedule.start_at - _JUST_BEFORE)
    fire_at = _next_of_rule(schedule, after)
    if fire_at is None or (schedule.end_at is not None and fire_at > schedule.end_at):
        return None
    return fire_at


def started(schedule: Schedule, now: datetime) -> Schedule:
    """Return a copy that waits for its first fire time after `now`; COMPLETED if there is none.

    A ONCE schedule that has not run yet waits for its moment even if that has passed, so that the
    misfire rule decides about it.
    """
    after = copy(schedule)
    is_unused = schedule.run_count == 0 and schedule.last_run_at is None
    waits = schedule.schedule_type is ScheduleType.ONCE and is_unused
    return _awaiting(after, schedule.start_at if waits else next_fire(schedule, now))


def advanced(
    schedule: Schedule, next_run: datetime | None, fires: tuple[datetime, ...] | None = None
) -> Schedule:
    """Return a copy as it is after firing: COMPLETED if `next_run` is None or `max_runs` reached.

    Args:
        fires: the fire times that tasks were made for, in order; its `next_run_at` if not given.
            Fire times passed over by the misfire rule do not count as runs.
    """
    if fires is None:
        fires = () if schedule.next_run_at is None else (schedule.next_run_at,)
    after = copy(schedule)
    after.run_count += len(fires)
    after.last_run_at = fires[-1] if fires else schedule.last_run_at
    return _awaiting(after, next_run)


def plan(schedule: Schedule, now: datetime) -> Plan:
    """Return which fire times of a schedule to make tasks for at `now`, and where to advance to.

    A fire time noticed later than `misfire_grace_seconds` was missed. Of those, ``once`` keeps the
    latest, ``all`` keeps each, ``skip`` keeps none; a fire time within the grace is always kept.
    The work is bounded however long nobody looked: `MAX_FIRES` at a time, and what is passed over
    is not enumerated.
    """
    first = schedule.next_run_at
    if first is None or _is_over(schedule, first):
        return Plan((), None)
    kept: list[datetime] = []
    late_before = now - timedelta(seconds=schedule.misfire_grace_seconds)
    if first < late_before and schedule.misfire != "all":
        latest = _latest_before(schedule, first, late_before)
        kept = [latest] if schedule.misfire == "once" else []
        first = next_fire(schedule, latest)
    left = _runs_left(schedule)
    while first is not None and first <= now and len(kept) < min(left, MAX_FIRES):
        kept.append(first)
        first = next_fire(schedule, first)
    return Plan(tuple(kept), first if len(kept) < left else None)


def task_for(schedule: Schedule, fire_at: datetime) -> Task:
    """Return the task of one fire. Its id is derived, so whoever fires makes the same task.

    It may not run before `fire_at`, even if the clock of the machine that makes it is ahead.
    """
    expires_at = None
    if schedule.expires_seconds is not None:
        expires_at = fire_at + timedelta(seconds=schedule.expires_seconds)
    return Task(
        func=schedule.func,
        args=schedule.args,
        kwargs=schedule.kwargs,
        id=fire_id(schedule.id, fire_at),
        queue_name=schedule.queue_name,
        priority=schedule.priority,
        created_at=fire_at,
        run_at=fire_at,
        expires_at=expires_at,
        timeout_seconds=schedule.timeout_seconds,
        retry=schedule.retry,
        result_ttl_seconds=schedule.result_ttl_seconds,
        metadata=schedule.metadata,
        schedule_id=schedule.id,
    )


def _next_of_rule(schedule: Schedule, after: datetime) -> datetime | None:
    match schedule.schedule_type:
        case ScheduleType.CRON:
            zone = crontab.zone_of(schedule.timezone)
            return crontab.next_match(schedule.cron_expression or "", zone, after)
        case ScheduleType.INTERVAL:
            anchor = schedule.start_at or schedule.created_at
            return _next_multiple(anchor, schedule.interval_seconds or 0.0, after)
        case ScheduleType.ONCE:
            moment = schedule.start_at
            return moment if moment is not None and moment > after else None


def _next_multiple(anchor: datetime, interval_seconds: float, after: datetime) -> datetime:
    interval = round(interval_seconds * 1_000_000)
    if interval <= 0:
        raise ValidationError("interval_seconds", f"{interval_seconds!r} is no interval")
    begin = to_micros(anchor)
    passed = (to_micros(after) - begin) // interval
    return from_micros(begin + max(0, passed + 1) * interval)


def _latest_before(schedule: Schedule, known: datetime, before: datetime) -> datetime:
    """Find the latest fire time before a moment, `known` being one: by halving, not counting."""
    low, high = known, before
    while high - low >= _LEAST_GAP:
        middle = low + (high - low) / 2
        fire_at = next_fire(schedule, middle)
        if fire_at is not None and fire_at < before:
            low = fire_at
        else:
            high = middle
    return low


def _runs_left(schedule: Schedule) -> float:
    return math.inf if schedule.max_runs is None else schedule.max_runs - schedule.run_count


def _is_over(schedule: Schedule, fire_at: datetime) -> bool:
    is_past_end = schedule.end_at is not None and fire_at > schedule.end_at
    return is_past_end or _runs_left(schedule) <= 0


def _awaiting(after: Schedule, next_run: datetime | None) -> Schedule:
    after.next_run_at = next_run
    if next_run is None or _is_over(after, next_run):
        after.next_run_at, after.status = None, ScheduleStatus.COMPLETED
    return after


def _check_moments(after: Schedule) -> None:
    after.created_at = check_moment("created_at", after.created_at)
    after.start_at = moment_or_none("start_at", after.start_at)
    after.end_at = moment_or_none("end_at", after.end_at)
    after.next_run_at = moment_or_none("next_run_at", after.next_run_at)
    after.last_run_at = moment_or_none("last_run_at", after.last_run_at)
    if after.start_at is not None and after.end_at is not None and after.end_at <= after.start_at:
        raise ValidationError(
            "end_at",
            f"{after.end_at.isoformat()} is not after start_at {after.start_at.isoformat()}",
        )


def _check_rule(after: Schedule) -> None:
    after.schedule_type = _member("schedule_type", ScheduleType, after.schedule_type)
    for kind, name in _RULE_FIELDS.items():
        is_given = getattr(after, name) is not None
        if kind is after.schedule_type and not is_given:
            raise ValidationError(name, f"a schedule of type {kind} needs it")
        if kind is not after.schedule_type and is_given and name != "start_at":
            raise ValidationError(
                name, f"has no meaning for a schedule of type {after.schedule_type}"
            )
    crontab.checked_zone(after.timezone)
    if after.cron_expression is not None:
        after.cron_expression = crontab.checked_expression(
            after.cron_expression, after.start_at or after.created_at
        )
    if after.interval_seconds is not None:
        after.interval_seconds = check_seconds(
            "interval_seconds", after.interval_seconds, least=LEAST_INTERVAL_SECONDS
        )


def _check_limits(after: Schedule) -> None:
    after.status = _member("status", ScheduleStatus, after.status)
    if after.max_runs is not None:
        _check_count("max_runs", after.max_runs, least=1)
    _check_count("run_count", after.run_count, least=0)
    if after.misfire not in get_args(Misfire):
        raise ValidationError(
            "misfire", f"{after.misfire!r} is not one of {', '.join(get_args(Misfire))}"
        )
    after.misfire_grace_seconds = check_seconds(
        "misfire_grace_seconds", after.misfire_grace_seconds
    )


def _check_options(after: Schedule) -> None:
    """Refuse what the tasks would be refused for, by asking for one."""
    if after.expires_seconds is not None:
        after.expires_seconds = check_seconds("expires_seconds", after.expires_seconds, least=0.001)
    for name in ("timeout_seconds", "result_ttl_seconds"):
        duration = getattr(after, name)
        if duration is not None:
            setattr(after, name, check_seconds(name, duration))
    after.args = checked_task(task_for(after, EPOCH)).args


def _member(field: str, kind: type[_Member], value: str) -> _Member:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(kind)
        raise ValidationError(field, f"{value!r:.80} is not one of {known}") from None


def _check_count(field: str, count: object, *, least: int) -> None:
    if type(count) is not int or count < least:
        raise ValidationError(field, f"{count!r:.80} is no integer of at least {least}")
