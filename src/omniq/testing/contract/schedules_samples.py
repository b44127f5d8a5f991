# ruff: noqa: S101 - tests assert
"""Schedules the contract is tested with."""

from __future__ import annotations

from typing import Any

from omniq.models.schedule import Schedule, ScheduleType
from omniq.storage.base import BaseScheduleStorage
from omniq.testing.contract.samples import NOW, at


def every(seconds: float, schedule_id: str = "s", **fields: Any) -> Schedule:
    """Return a schedule that fires every so many seconds from `NOW` on."""
    known: dict[str, Any] = {"interval_seconds": seconds, "start_at": NOW}
    return _schedule(ScheduleType.INTERVAL, schedule_id, known | fields)


def once(seconds: float, schedule_id: str = "s", **fields: Any) -> Schedule:
    """Return a schedule that fires once, so many seconds after `NOW`."""
    known: dict[str, Any] = {"start_at": at(seconds)}
    return _schedule(ScheduleType.ONCE, schedule_id, known | fields)


def names(found: list[Schedule]) -> list[str]:
    """Return the ids of schedules, in order."""
    return [schedule.id for schedule in found]


async def stored(schedules: BaseScheduleStorage, schedule_id: str = "s") -> Schedule:
    """Return a schedule that must be there."""
    schedule = await schedules.get_schedule(schedule_id)
    assert schedule is not None
    return schedule


def _schedule(kind: ScheduleType, schedule_id: str, fields: dict[str, Any]) -> Schedule:
    known: dict[str, Any] = {"func": "job", "created_at": NOW}
    return Schedule(schedule_type=kind, id=schedule_id, **(known | fields))
