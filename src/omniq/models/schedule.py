"""When tasks are made by the clock."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec

from omniq.clock import utcnow
from omniq.ids import new_id
from omniq.models.task import RetryPolicy

Misfire = Literal["once", "all", "skip"]


class ScheduleType(StrEnum):
    """What decides the fire times."""

    CRON = "cron"
    INTERVAL = "interval"
    ONCE = "once"


class ScheduleStatus(StrEnum):
    """Whether a schedule fires."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"


class Schedule(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A rule that enqueues a task at each of its fire times.

    Attributes:
        schedule_type: CRON, INTERVAL or ONCE.
        func, args, kwargs: what each task runs.
        id: unique; saving a schedule of a known id replaces it.
        cron_expression, timezone: for CRON; five fields or ``@daily`` and the like, read in the
            IANA time zone.
        interval_seconds: for INTERVAL; fire times are `start_at` + n x interval, without drift.
        start_at: for ONCE the moment itself; otherwise nothing fires earlier.
        end_at: nothing fires later.
        max_runs: completed after that many fires.
        misfire: what to do with fire times missed while nobody was there: ``once`` fires the
            latest of them, ``all`` each of them, ``skip`` none.
        misfire_grace_seconds: a fire time is missed when it is noticed later than this.
        queue_name, priority, timeout_seconds, retry, result_ttl_seconds, expires_seconds,
            metadata: given to each task.
        status, next_run_at, last_run_at, run_count: the state, advanced by compare-and-swap.
        revision: another with each write, so that a swap is lost to whatever came between.
    """

    schedule_type: ScheduleType
    func: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    id: str = msgspec.field(default_factory=new_id)
    cron_expression: str | None = None
    timezone: str = "UTC"
    interval_seconds: float | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    max_runs: int | None = None
    misfire: Misfire = "once"
    misfire_grace_seconds: float = 60.0

    queue_name: str = "default"
    priority: int = 0
    timeout_seconds: float | None = None
    retry: RetryPolicy | None = None
    result_ttl_seconds: float | None = None
    expires_seconds: float | None = None
    metadata: dict[str, Any] = {}

    created_at: datetime = msgspec.field(default_factory=utcnow)
    status: ScheduleStatus = ScheduleStatus.ACTIVE
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    run_count: int = 0
    revision: str = ""
