"""What is no schedule, and that the error says which field is to blame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from omniq.cron import checked_schedule
from omniq.exceptions import ValidationError
from omniq.models.schedule import Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import RetryPolicy

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CRON = {"schedule_type": ScheduleType.CRON, "cron_expression": "0 9 * * *"}
INTERVAL = {"schedule_type": ScheduleType.INTERVAL, "interval_seconds": 60.0}
ONCE = {"schedule_type": ScheduleType.ONCE, "start_at": T0}


def schedule_of(*parts: dict[str, Any]) -> Schedule:
    fields: dict[str, Any] = {"func": "job", "created_at": T0}
    for part in parts:
        fields.update(part)
    return Schedule(**fields)


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (CRON, {"id": "../x"}),
        (CRON, {"id": ""}),
        (CRON, {"func": "os system"}),
        (CRON, {"queue_name": "a/b"}),
        (CRON, {"schedule_type": "hourly"}),
        (CRON, {"status": "asleep"}),
        (CRON, {"cron_expression": None}),
        (CRON, {"cron_expression": "0 0 31 2 *"}),
        (CRON, {"timezone": "Europe/Berln"}),
        (CRON, {"interval_seconds": 60.0}),
        (INTERVAL, {"interval_seconds": None}),
        (INTERVAL, {"interval_seconds": 0.05}),
        (INTERVAL, {"interval_seconds": -1.0}),
        (INTERVAL, {"interval_seconds": float("nan")}),
        (INTERVAL, {"interval_seconds": float("inf")}),
        (INTERVAL, {"interval_seconds": True}),
        (INTERVAL, {"interval_seconds": "60"}),
        (INTERVAL, {"cron_expression": "* * * * *"}),
        (ONCE, {"start_at": None}),
        (ONCE, {"start_at": "tomorrow"}),
        (ONCE, {"interval_seconds": 1.0}),
        (CRON, {"start_at": T0.replace(year=1969)}),
        (CRON, {"created_at": None}),
        (CRON, {"end_at": T0.replace(year=2901)}),
        (CRON, {"next_run_at": 5}),
        (CRON, {"last_run_at": "x"}),
        (CRON, {"max_runs": 0}),
        (CRON, {"max_runs": True}),
        (CRON, {"max_runs": 1.5}),
        (CRON, {"run_count": -1}),
        (CRON, {"misfire": "twice"}),
        (CRON, {"misfire": []}),
        (CRON, {"misfire_grace_seconds": -1}),
        (CRON, {"misfire_grace_seconds": None}),
        (CRON, {"priority": "high"}),
        (CRON, {"timeout_seconds": 0.0}),
        (CRON, {"result_ttl_seconds": -1.0}),
        (CRON, {"expires_seconds": 0.0}),
        (CRON, {"args": 5}),
        (CRON, {"kwargs": {1: 2}}),
        (CRON, {"metadata": []}),
        (CRON, {"retry": 3}),
    ],
    ids=lambda value: "-".join(f"{key}={item}" for key, item in value.items()),
)
def test_bad_field_is_refused_by_name(rule: dict[str, Any], bad: dict[str, Any]) -> None:
    """A schedule is written once and runs for years; what is wrong must be said at once."""
    with pytest.raises(ValidationError) as caught:
        checked_schedule(schedule_of(rule, bad))

    assert caught.value.field == next(iter(bad))


def test_end_before_start_is_refused() -> None:
    """Such a schedule would be over before it began."""
    with pytest.raises(ValidationError, match="end_at"):
        checked_schedule(schedule_of(CRON, {"start_at": T0, "end_at": T0}))


def test_bad_retry_policy_is_refused_by_the_name_of_its_field() -> None:
    """The checks are those of a task, so that each task of the schedule will be accepted."""
    with pytest.raises(ValidationError) as caught:
        checked_schedule(schedule_of(CRON, {"retry": RetryPolicy(max_retries=-1)}))

    assert caught.value.field == "retry.max_retries"


def test_what_is_no_schedule_is_refused() -> None:
    """A dict from a configuration file is the usual mistake."""
    with pytest.raises(ValidationError, match="expected a Schedule, got dict"):
        checked_schedule(cast("Schedule", {}))


def test_checked_copy_is_normal_and_leaves_the_original_alone() -> None:
    """Stores compare moments and durations; there must be one spelling of each."""
    east = timezone(timedelta(hours=2))
    original = schedule_of(
        INTERVAL,
        {
            "schedule_type": "interval",
            "status": "paused",
            "interval_seconds": timedelta(minutes=1),
            "timeout_seconds": timedelta(seconds=5),
            "expires_seconds": 30,
            "start_at": datetime(2026, 1, 1, 2, tzinfo=east),
            "end_at": datetime(2026, 1, 2),  # noqa: DTZ001 - naive on purpose
            "args": [1, 2],
        },
    )

    after = checked_schedule(original)

    assert (after.schedule_type, after.status) == (ScheduleType.INTERVAL, ScheduleStatus.PAUSED)
    assert type(after.status) is ScheduleStatus
    assert (after.interval_seconds, after.timeout_seconds, after.expires_seconds) == (
        60.0,
        5.0,
        30.0,
    )
    assert type(after.expires_seconds) is float
    assert (after.start_at, after.end_at) == (T0, T0 + timedelta(days=1))
    assert after.args == (1, 2)
    assert original.args == cast("tuple[Any, ...]", [1, 2])


def test_blanks_of_an_expression_are_normalised_and_aliases_kept() -> None:
    """Two spellings of one rule must not look like a changed schedule."""
    spaced = schedule_of(CRON, {"cron_expression": " 0\t9  * * * "})
    alias = schedule_of(CRON, {"cron_expression": "@daily"})

    assert checked_schedule(spaced).cron_expression == "0 9 * * *"
    assert checked_schedule(alias).cron_expression == "@daily"
