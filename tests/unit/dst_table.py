"""Moments at which clocks were moved, and what cron expressions must do there: an oracle.

The oracle shares nothing with the library but the time zone data: it walks minute by minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
BEFORE, AFTER = timedelta(hours=4), timedelta(hours=27)
"""What the oracle looks at, around a transition: the next night is part of it."""

TRANSITIONS = {
    "Europe/Berlin": (
        "2024-03-31 01:00",
        "2024-10-27 01:00",
        "2025-03-30 01:00",
        "2025-10-26 01:00",
    ),
    "America/New_York": (
        "2024-03-10 07:00",
        "2024-11-03 06:00",
        "2025-03-09 07:00",
        "2025-11-02 06:00",
    ),
    # Clocks jump from 24:00 to 01:00.
    "America/Sao_Paulo": (
        "2017-02-19 02:00",
        "2017-10-15 03:00",
        "2018-02-18 02:00",
        "2018-11-04 03:00",
    ),
    # By half an hour.
    "Australia/Lord_Howe": (
        "2024-04-06 15:00",
        "2024-10-05 15:30",
        "2025-04-05 15:00",
        "2025-10-04 15:30",
    ),
    # 12:45 hours ahead of UTC, changes at 02:45.
    "Pacific/Chatham": (
        "2024-04-06 14:00",
        "2024-09-28 14:00",
        "2025-04-05 14:00",
        "2025-09-27 14:00",
    ),
    # Back for Ramadan, forth after it.
    "Africa/Casablanca": (
        "2023-03-19 02:00",
        "2023-04-23 02:00",
        "2024-03-10 02:00",
        "2024-04-14 02:00",
    ),
    "Asia/Beirut": ("2024-03-30 22:00", "2024-10-26 21:00", "2025-03-29 22:00", "2025-10-25 21:00"),
    "America/Havana": (
        "2024-03-10 05:00",
        "2024-11-03 05:00",
        "2025-03-09 05:00",
        "2025-11-02 05:00",
    ),
    # By two hours.
    "Antarctica/Troll": (
        "2024-03-31 01:00",
        "2024-10-27 01:00",
        "2025-03-30 01:00",
        "2025-10-26 01:00",
    ),
    # The third leaves out a whole day.
    "Pacific/Apia": (
        "2011-04-02 14:00",
        "2011-09-24 14:00",
        "2011-12-30 10:00",
        "2012-03-31 14:00",
    ),
}
"""Per zone, the UTC moments of four transitions."""


class Shape(NamedTuple):
    """A cron expression, spelled out for the oracle."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    is_fixed: bool

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours


EVERY_HOUR = frozenset(range(24))
SHAPES = (
    Shape("*/10 * * * *", frozenset(range(0, 60, 10)), EVERY_HOUR, is_fixed=False),
    Shape("30 * * * *", frozenset({30}), EVERY_HOUR, is_fixed=False),
    Shape("5 */2 * * *", frozenset({5}), frozenset(range(0, 24, 2)), is_fixed=False),
    Shape("*/15 3 * * *", frozenset({0, 15, 30, 45}), frozenset({3}), is_fixed=False),
    Shape("*/20 0,1 * * *", frozenset({0, 20, 40}), frozenset({0, 1}), is_fixed=False),
    Shape("30 2 * * *", frozenset({30}), frozenset({2}), is_fixed=True),
    Shape("0 0 * * *", frozenset({0}), frozenset({0}), is_fixed=True),
    Shape("0,20,50 0-3 * * *", frozenset({0, 20, 50}), frozenset(range(4)), is_fixed=True),
)
CASES = [(zone, moment) for zone, moments in TRANSITIONS.items() for moment in moments]


def moment_of(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@cache
def shown_around(zone: str, transition: str) -> dict[datetime, datetime]:
    """Minute by minute around a transition: the UTC moment, and what clocks show."""
    local, middle = ZoneInfo(zone), moment_of(transition)
    moments = minutes(middle - BEFORE, middle + AFTER)
    return {moment: moment.astimezone(local).replace(tzinfo=None, fold=0) for moment in moments}


def expected_fires(zone: str, transition: str, shape: Shape) -> list[datetime]:
    """Return when the shape must fire around a transition, but for the very first minute."""
    shown = shown_around(zone, transition)
    begin = next(iter(shown))
    fires = _named(shown, shape) if shape.is_fixed else _shown(shown, shape)
    return sorted(fire for fire in fires if fire > begin)


def _shown(shown: dict[datetime, datetime], shape: Shape) -> set[datetime]:
    return {moment for moment, wall in shown.items() if shape.matches(wall)}


def _named(shown: dict[datetime, datetime], shape: Shape) -> set[datetime]:
    """Each matching local minute once: where it is shown first, else at the first minute after."""
    first: dict[datetime, datetime] = {}
    for moment, wall in shown.items():
        first.setdefault(wall, moment)
    fires: set[datetime] = set()
    for wall in minutes(min(first), max(first)):
        if shape.matches(wall):
            fires.add(first[wall] if wall in first else first[min(w for w in first if w > wall)])
    return fires


def minutes(begin: datetime, end: datetime) -> Iterator[datetime]:
    while begin <= end:
        yield begin
        begin += MINUTE
