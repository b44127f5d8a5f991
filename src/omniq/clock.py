"""Moments and durations: always aware UTC, always whole microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from omniq.exceptions import ValidationError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_YEAR = 1970
LATEST_YEAR = 2900
LONGEST_DELAY = timedelta(days=3653)
"""No task may be asked to wait longer than ten years."""


def utcnow() -> datetime:
    """Return the current moment, aware and in UTC."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Return whole microseconds since 1970 for an aware moment, exactly."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(micros: int) -> datetime:
    """Return the aware UTC moment that many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=micros)


def as_utc(moment: datetime) -> datetime:
    """Read a naive moment as UTC and convert an aware one to UTC."""
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def check_moment(field: str, moment: object) -> datetime:
    """Return `moment` as aware UTC.

    Raises:
        ValidationError: it is not a datetime, or lies outside the years 1970 to 2900.
    """
    if not isinstance(moment, datetime):
        raise ValidationError(field, f"expected a datetime, got {type(moment).__name__}")
    if not _EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        span = f"{_EARLIEST_YEAR} to {LATEST_YEAR}"
        raise ValidationError(field, f"year {moment.year} is outside {span}")
    return moment if moment.tzinfo is UTC else as_utc(moment)


def check_seconds(field: str, duration: object, *, least: float = 0.0) -> float:
    """Return a duration given in seconds or as a timedelta as seconds.

    Raises:
        ValidationError: not a number, not finite, below `least` or over ten years.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise ValidationError(
            field, f"expected seconds or a timedelta, got {type(duration).__name__}"
        )
    longest = LONGEST_DELAY.total_seconds()
    if not least <= seconds <= longest:
        raise ValidationError(
            field, f"{seconds:g} seconds is not between {least:g} and {longest:,.0f} (ten years)"
        )
    return seconds
