"""Cron expressions where clocks are moved, and all that is no cron expression or time zone."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from omniq import crontab
from omniq.clock import from_micros, to_micros
from omniq.exceptions import ValidationError
from tests.unit.dst_table import (
    CASES,
    SHAPES,
    TRANSITIONS,
    Shape,
    expected_fires,
    moment_of,
    shown_around,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def fires_between(expression: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    fires: list[datetime] = []
    moment = crontab.next_match(expression, crontab.zone_of(zone), begin)
    while moment is not None and moment <= end:
        fires.append(moment)
        moment = crontab.next_match(expression, crontab.zone_of(zone), moment)
    return fires


def test_table_holds_four_real_transitions_of_ten_zones() -> None:
    """A table of moments at which nothing happens would prove nothing."""
    assert len(TRANSITIONS) == 10
    assert len(SHAPES) == 8
    for zone, transition in CASES:
        local, moment = crontab.zone_of(zone), moment_of(transition)
        before = (moment - timedelta(seconds=1)).astimezone(local).utcoffset()
        assert moment.astimezone(local).utcoffset() != before, (zone, transition)


@pytest.mark.parametrize(("zone", "transition"), CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.expression)
def test_fires_around_a_clock_change_are_exactly_those_of_the_oracle(
    zone: str, transition: str, shape: Shape
) -> None:
    """A job lost, doubled or stuck where clocks move is the classic failure of schedulers."""
    moments = list(shown_around(zone, transition))

    fires = fires_between(shape.expression, zone, moments[0], moments[-1])

    assert fires == expected_fires(zone, transition, shape)


@pytest.mark.parametrize(("zone", "transition"), CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.expression)
def test_next_match_does_not_depend_on_where_one_starts_to_look(
    zone: str, transition: str, shape: Shape
) -> None:
    """A scheduler restarted within a repeated or left-out hour must find the same fire times."""
    expected = expected_fires(zone, transition, shape)
    local = crontab.zone_of(zone)

    for after in list(shown_around(zone, transition))[::17]:
        position = bisect_right(expected, after)
        if position < len(expected):
            assert crontab.next_match(shape.expression, local, after) == expected[position]


def test_fixed_time_in_the_gap_fires_once_where_the_gap_ends() -> None:
    """A nightly job at 02:30 must run on the night that has no 02:30."""
    fires = fires_between(
        "30 2 * * *",
        "Europe/Berlin",
        datetime(2024, 3, 30, 12, tzinfo=UTC),
        datetime(2024, 4, 1, 12, tzinfo=UTC),
    )

    assert fires == [datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 4, 1, 0, 30, tzinfo=UTC)]


def test_fixed_time_in_the_repeated_hour_fires_once() -> None:
    """A nightly invoice run at 02:30 must not run twice in the night with two of them."""
    fires = fires_between(
        "30 2 * * *",
        "Europe/Berlin",
        datetime(2024, 10, 26, 12, tzinfo=UTC),
        datetime(2024, 10, 27, 12, tzinfo=UTC),
    )

    assert fires == [datetime(2024, 10, 27, 0, 30, tzinfo=UTC)]


def test_interval_like_expression_keeps_its_pace_through_the_repeated_hour() -> None:
    """A poll each quarter of an hour must not pause for an hour."""
    fires = fires_between(
        "*/15 * * * *",
        "Europe/Berlin",
        datetime(2024, 10, 26, 22, tzinfo=UTC),
        datetime(2024, 10, 27, 4, tzinfo=UTC),
    )

    assert {later - earlier for earlier, later in pairwise(fires)} == {timedelta(minutes=15)}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@yearly", "2027-01-01 00:00"),
        ("@annually", "2027-01-01 00:00"),
        ("@monthly", "2026-02-01 00:00"),
        ("@weekly", "2026-01-04 00:00"),
        ("@daily", "2026-01-02 00:00"),
        ("@midnight", "2026-01-02 00:00"),
        ("@Hourly", "2026-01-01 13:00"),
        ("0 9 * * mon-fri", "2026-01-02 09:00"),
        ("0 9 L * *", "2026-01-31 09:00"),
        ("0 9 * * FRI#2", "2026-01-09 09:00"),
        ("0 9 13 * 5", "2026-01-02 09:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
    ],
)
def test_aliases_and_extensions_name_their_moment(expression: str, expected: str) -> None:
    """People write these; each stands for one rule only."""
    assert crontab.next_match(expression, UTC, NOW) == moment_of(expected)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("0 0 31 2 *", "day-of-month"),
        ("0 0 * 2 MON#5", "does not fire within five years of 2026-01-01"),
        ("60 * * * *", "bad minute '60', it takes 0-59"),
        ("0 0 30 2 *", "bad day-of-month '30', it takes 1-31, as far as its months go"),
        ("0 0 * * fri-mon", "bad day-of-week 'fri-mon', it takes 0-7 or sun-sat, the lower one"),
        ("* 24 * * *", "bad hour"),
        ("* * * * 8", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("* * * *", "has 4 fields, not five"),
        ("", "has 0 fields"),
        ("0 * * * * *", "for seconds use an interval"),
        ("@reboot", "there are @yearly"),
        ("every day", "has 2 fields"),
        ("* " * 200, "longer than 256"),
        (None, "expected a text, got NoneType"),
        (5, "expected a text, got int"),
    ],
)
def test_bad_expression_is_refused_with_the_reason(expression: object, problem: str) -> None:
    """A schedule that can never fire must be refused when written, not discovered in a year."""
    with pytest.raises(ValidationError, match="cron_expression") as caught:
        crontab.checked_expression(expression, NOW)

    assert caught.value.field == "cron_expression"
    assert problem in caught.value.problem


@given(st.text(alphabet="0123456789*/,-#LWMONJAN@ \t", max_size=40) | st.text(max_size=40))
@example("0 0 * * 5L/2")
@example("0 0 LW/3 * *")
@example("0 0 * * MON#2/3")
def test_any_text_is_an_expression_or_a_validation_error(text: str) -> None:
    """Expressions come from users and from stored data; none may raise anything else."""
    try:
        normal = crontab.checked_expression(text, NOW)
    except ValidationError:
        return

    assert crontab.checked_expression(normal, NOW) == normal


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
    ],
)
def test_unknown_zone_is_refused_with_the_nearest_known(name: str, nearest: str) -> None:
    """The usual mistakes are a typo and the bare city."""
    with pytest.raises(ValidationError, match=f"did you mean '{nearest}'") as caught:
        crontab.checked_zone(name)

    assert caught.value.field == "timezone"


@pytest.mark.parametrize(
    "name",
    ["", "../../etc/passwd", "/etc/localtime", "a\0b", "Europe", "\ud800", "x" * 100_000, None, 1],
)
def test_hostile_zone_is_refused(name: object) -> None:
    """The name becomes a path below the zone data; whatever it is, it is a ValidationError."""
    with pytest.raises(ValidationError, match="timezone"):
        crontab.checked_zone(name)


@given(
    minute=st.sampled_from(["*", "*/7", "30", "0,59"]),
    hour=st.sampled_from(["*", "*/3", "0-3", "2,23"]),
    after=st.integers(to_micros(NOW) - 10**15, to_micros(NOW) + 10**15).map(from_micros),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]),
)
def test_zones_that_change_by_whole_hours_agree_with_cronsim(
    minute: str, hour: str, after: datetime, zone: str
) -> None:
    """Where cronsim handles the zone correctly, ours must not differ from it."""
    expression, local = f"{minute} {hour} * * *", crontab.zone_of(zone)
    theirs = (moment.astimezone(UTC) for moment in CronSim(expression, after.astimezone(local)))

    ours = crontab.next_match(expression, local, after)

    assert ours == next(moment for moment in theirs if moment > after)
