"""What happened to a task, and when."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from omniq.clock import as_utc, utcnow


class EventType(StrEnum):
    """The events OmniQ itself logs. ``"started"`` and ``"STARTED"`` both read as STARTED."""

    ENQUEUED = "ENQUEUED"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETRYING = "RETRYING"
    SNOOZED = "SNOOZED"
    RELEASED = "RELEASED"
    PARKED = "PARKED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REQUEUED = "REQUEUED"
    LEASE_LOST = "LEASE_LOST"


_KNOWN: dict[str, EventType] = {member.value: member for member in EventType}


def read_event_type(value: str) -> EventType | str:
    """Return the known event type of that name in any case, or the string itself: a custom type."""
    return _KNOWN.get(value) or _KNOWN.get(value.upper()) or value


class TaskEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One line of a task's history.

    Attributes:
        task_id: the task it is about.
        event_type: an `EventType`, or any other string for a custom event.
        timestamp: when it happened (naive is read as UTC).
        message: one line for people.
        details: plain data for programs.
        worker_id: who saw it.
    """

    task_id: str
    event_type: EventType | str
    timestamp: datetime = msgspec.field(default_factory=utcnow)
    message: str | None = None
    details: dict[str, Any] = {}
    worker_id: str | None = None

    def __post_init__(self) -> None:
        if type(self.event_type) is not EventType:
            self.event_type = read_event_type(self.event_type)
        if self.timestamp.tzinfo is None:
            self.timestamp = as_utc(self.timestamp)
