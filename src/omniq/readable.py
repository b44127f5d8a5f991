"""What is stored, as text for people: on the command line and on the dashboard."""

from __future__ import annotations

from datetime import datetime

from omniq.clock import utcnow
from omniq.models.schedule import Schedule

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def printable(text: str) -> str:
    """Return a text without what could act on a terminal or mislead an eye.

    Control characters, and those that turn the direction of writing, become ``\ufffd``.
    """
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def shown_moment(moment: datetime) -> str:
    """Return a moment to the second, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"


def ago(moment: datetime | None) -> str | None:
    """Return how long ago (or ahead) a moment is, in the largest fitting unit."""
    if moment is None:
        return None
    seconds = (utcnow() - moment).total_seconds()
    text = f"{abs(seconds):.0f} s"
    for size, unit in _UNITS:
        if abs(seconds) >= 2 * size:
            text = f"{abs(seconds) / size:.0f} {unit}"
            break
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def timing(schedule: Schedule) -> str:
    """Return when a schedule fires, in words."""
    if schedule.cron_expression is not None:
        return f"{schedule.cron_expression} ({schedule.timezone})"
    if schedule.interval_seconds is not None:
        return f"every {schedule.interval_seconds:g} s"
    return f"once at {schedule.start_at:%Y-%m-%d %H:%M:%S}" if schedule.start_at else "-"
