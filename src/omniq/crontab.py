"""Cron expressions in a time zone: when they match next (pure).

The rule is Debian's. An expression whose minute and hour are both fixed (``30 2 * * *``) names
moments of the local day: one that the clocks jump over fires where the gap ends, one that they
repeat fires the first time only. Any other (``*/15 * * * *``) fires whenever the local clock
shows a time that matches.

cronsim parses and does the calendar, always in naive local time. The time zone is handled here,
because cronsim 2.8 loses fire times where clocks move by half an hour (Lord Howe Island) and
never returns where offsets are no whole or half hours (Chatham Islands).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from omniq.exceptions import ValidationError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
LONGEST_EXPRESSION = 256
_VALID = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, as far as its months go, or L",
    "month": "1-12 or jan-dec",
    "day-of-week": "0-7 or sun-sat, the lower one first in a range; fri#2, friL",
}
_HOP = timedelta(days=1)
"""No zone moves its clocks twice within so short a time."""
_SECOND = timedelta(seconds=1)


def checked_expression(expression: object, reference: datetime) -> str:
    """Return a cron expression with its blanks normalised; an alias stays an alias.

    Raises:
        ValidationError: it is malformed, or matches no moment of the five years after `reference`.
    """
    if not isinstance(expression, str):
        raise _refusal(expression, f"expected a text, got {type(expression).__name__}")
    if len(expression) > LONGEST_EXPRESSION:
        raise _refusal(expression, f"longer than {LONGEST_EXPRESSION} characters")
    normal = " ".join(expression.split())
    first = next_match(normal, UTC, reference)
    if first is None or first - reference > timedelta(days=5 * 366):
        raise _refusal(expression, f"does not fire within five years of {reference:%Y-%m-%d}")
    return normal


def checked_zone(name: object) -> str:
    """Return `name` if this machine knows a time zone of that name.

    Raises:
        ValidationError: it does not; the error names the nearest one it knows.
    """
    if not isinstance(name, str):
        raise ValidationError("timezone", f"expected a text, got {type(name).__name__}")
    zone_of(name)
    return name


def zone_of(name: str) -> tzinfo:
    """Return the IANA time zone of this name. Raises ValidationError if there is none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValidationError("timezone", _unknown_zone(name)) from None


def next_match(expression: str, zone: tzinfo, after: datetime) -> datetime | None:
    """Return the first moment strictly after `after` (aware UTC) that matches, in UTC.

    None when nothing matches for fifty years.

    Raises:
        ValidationError: the expression is malformed.
    """
    fields = _fields(expression)
    try:
        if zone is UTC:
            return next(CronSim(" ".join(fields), after), None)
        if fields[0].startswith("*") or fields[1].startswith("*"):
            return _next_shown(" ".join(fields), zone, after)
        return _next_named(" ".join(fields), zone, after)
    except CronSimError as error:
        raise _refusal(expression, _malformed(str(error), fields)) from error


def _fields(expression: str) -> list[str]:
    if expression.startswith("@"):
        plain = ALIASES.get(expression.lower())
        if plain is None:
            raise _refusal(expression, f"unknown; there are {', '.join(ALIASES)}")
        return plain.split()
    fields = expression.split()
    if len(fields) != 5:
        raise _refusal(
            expression,
            f"has {len(fields)} fields, not five (minute hour day-of-month month day-of-week)"
            + ("; for seconds use an interval" if len(fields) == 6 else ""),
        )
    return fields


def _malformed(problem: str, fields: list[str]) -> str:
    """Return what cronsim says (``Bad hour``), with the field and what may stand there."""
    for (name, valid), field in zip(_VALID.items(), fields, strict=True):
        if problem.endswith(name):
            return f"{problem} {field!r}, it takes {valid}"
    return problem


def _next_named(expression: str, zone: tzinfo, after: datetime) -> datetime | None:
    """Find the next moment the expression names; in a repeated hour some have passed already."""
    for wall in CronSim(expression, _wall(zone, after)):
        moment = _first_at(zone, wall)
        if moment > after:
            return moment
    return None


def _first_at(zone: tzinfo, wall: datetime) -> datetime:
    """Find the first moment at which clocks show `wall`, or the end of the gap it lies in."""
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall(zone, moment) == wall:
        return moment
    before_gap = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change_of_offset(zone, before_gap, moment) or moment


def _next_shown(expression: str, zone: tzinfo, after: datetime) -> datetime | None:
    """Find the next moment whose local time matches, one stretch of constant offset at a time."""
    start, shown = after, _wall(zone, after)
    while True:
        wall = next(CronSim(expression, shown), None)
        if wall is None:
            return None
        moment = wall.replace(tzinfo=UTC) - _offset(zone, start)
        change = _change_of_offset(zone, start, moment)
        if change is None:
            return moment
        start, shown = change, _wall(zone, change) - _SECOND


def _change_of_offset(zone: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """Find the first moment in (after, until] at which the clocks have been moved."""
    offset = _offset(zone, after)
    low = after.replace(microsecond=0)
    while low < until:
        high = min(low + _HOP, until)
        if _offset(zone, high) != offset:
            return _bisected(zone, low, high)
        low = high
    return None


def _bisected(zone: tzinfo, low: datetime, high: datetime) -> datetime:
    """Find the second in (low, high] from which on the offset is that at `high`."""
    offset = _offset(zone, high)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        if _offset(zone, middle) == offset:
            high = middle
        else:
            low = middle
    return high


def _wall(zone: tzinfo, moment: datetime) -> datetime:
    """Return the naive local time that the clocks show."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return _wall(zone, moment) - moment.replace(tzinfo=None)


def _refusal(expression: object, problem: str) -> ValidationError:
    text = repr(expression)
    shown = text if len(text) <= 80 else text[:77] + "..."
    return ValidationError("cron_expression", f"{shown}: {problem[:1].lower()}{problem[1:]}")


def _unknown_zone(name: str) -> str:
    name = name[:64]
    known = available_timezones()
    if not known:
        return "this machine has no time zone data; install the package tzdata"
    places = {re.sub(r".*/", "", zone).lower(): zone for zone in sorted(known)}
    wanted = re.sub(r".*/", "", name.strip()).lower().replace(" ", "_")
    nearest = get_close_matches(name, known, 1, 0.8) or [
        places[place] for place in get_close_matches(wanted, places, 1, 0.0)
    ]
    return f"there is no time zone {name!r}; did you mean {nearest[0]!r}?"
