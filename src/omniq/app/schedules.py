"""Schedules: made from task functions, declared by decorators, saved without losing state."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from copy import copy
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

import msgspec

from omniq import cron
from omniq.app.options import Duration, TaskOptions
from omniq.clock import check_moment, check_seconds, utcnow
from omniq.exceptions import ConfigError, StaleTaskError, ValidationError
from omniq.models.backend_configs import nearest
from omniq.models.schedule import Misfire, Schedule, ScheduleStatus, ScheduleType
from omniq.models.task import Task
from omniq.storage.base import BaseScheduleStorage

if TYPE_CHECKING:
    from omniq.registry import TaskFunction

_STATE = frozenset({"created_at", "status", "next_run_at", "last_run_at", "run_count", "revision"})
_DEFINITION = tuple(name for name in Schedule.__struct_fields__ if name not in _STATE)
_CAS_ATTEMPTS = 100
_ID_LIMIT = 128


class ScheduleOptions(TypedDict, total=False):
    """What can be said of a schedule besides its times. None counts as not given.

    Attributes:
        args, kwargs: the arguments of each task.
        schedule_id: its id; by default the name of the task.
        start_at, end_at: it fires no earlier, and no later.
        max_runs: it is completed after that many fires.
        misfire: what becomes of fire times nobody was there for: ``once`` (the latest of them is
            made up for), ``all`` or ``skip``.
        misfire_grace: how late a fire time may be noticed before it counts as missed.
    """

    args: tuple[Any, ...] | None
    kwargs: dict[str, Any] | None
    schedule_id: str | None
    start_at: datetime | None
    end_at: datetime | None
    max_runs: int | None
    misfire: Misfire | None
    misfire_grace: Duration | None


class DeclaredOptions(TaskOptions, ScheduleOptions, total=False):
    """What a schedule is declared with: options of its task and of itself."""


def split_options(options: DeclaredOptions) -> tuple[TaskOptions, ScheduleOptions]:
    """Return the options of the task and those of the schedule.

    Raises:
        TypeError: there is no option of that name.
    """
    known = (*TaskOptions.__annotations__, *ScheduleOptions.__annotations__, "timezone", "name")
    for name in options:
        if name not in known:
            raise TypeError(f"there is no option {name!r} of a schedule; {nearest(name, known)}")
    of_schedule = ScheduleOptions.__annotations__.keys()
    given = cast("dict[str, Any]", options)
    return (
        cast("TaskOptions", {key: given[key] for key in given.keys() - of_schedule}),
        cast("ScheduleOptions", {key: given[key] for key in given.keys() & of_schedule}),
    )


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """When a schedule fires: exactly one of a cron expression, an interval and a moment."""

    cron: str | None = None
    timezone: str = "UTC"
    every: Duration | None = None
    at: datetime | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `Schedule` that say so.

        Raises:
            ValidationError: none is given, or more than one; or a time zone nothing is read in.
        """
        given = [name for name in ("cron", "every", "at") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValidationError("schedule", f"give one of cron, every and at, not {given}")
        if self.cron is None and self.timezone != "UTC":
            raise ValidationError(
                "timezone",
                "only a cron expression is read in one; an interval has none, and `at` takes a "
                "datetime with its tzinfo",
            )
        if self.cron is not None:
            return {
                "schedule_type": ScheduleType.CRON,
                "cron_expression": self.cron,
                "timezone": self.timezone,
            }
        if self.every is not None:
            return {
                "schedule_type": ScheduleType.INTERVAL,
                "interval_seconds": check_seconds(
                    "every", self.every, least=cron.LEAST_INTERVAL_SECONDS
                ),
            }
        return {"schedule_type": ScheduleType.ONCE, "start_at": check_moment("at", self.at)}


def schedule_of(task: TaskFunction[..., Any], timing: Timing, options: ScheduleOptions) -> Schedule:
    """Return a schedule that makes tasks of this function under its options.

    Raises:
        ValidationError: a field is bad, the function does not take the arguments, or it has an
            option that makes no sense for many tasks.
    """
    args, kwargs = options.get("args") or (), options.get("kwargs") or {}
    made = task.make_task(*args, **kwargs)
    _refuse_single_use(task, made)
    lifetime = task.template.lifetime
    fields: dict[str, Any] = {"id": schedule_id_of(task.name)}
    fields |= _fields_of(options) | timing.fields()
    schedule = Schedule(
        func=task.name,
        args=tuple(args),
        kwargs=dict(kwargs),
        queue_name=made.queue_name,
        priority=made.priority,
        timeout_seconds=made.timeout_seconds,
        retry=made.retry,
        result_ttl_seconds=made.result_ttl_seconds,
        expires_seconds=None if lifetime is None else lifetime / timedelta(seconds=1),
        metadata=made.metadata,
        **fields,
    )
    return cron.checked_schedule(schedule)


def _refuse_single_use(task: TaskFunction[..., Any], made: Task) -> None:
    """Refuse options that fit one task only, or that a schedule does not carry."""
    single_use = {
        "run_at": made.run_at,
        "expires": made.expires_at is not None and task.template.lifetime is None,
        "unique_key": made.unique_key,
        "depends_on": made.depends_on,
        "task_id": not task.template.is_fresh,
        "connection": task.template.connection is not None,
    }
    for name, is_used in single_use.items():
        if is_used:
            raise ValidationError(name, f"cannot be set for the tasks of a schedule ({task.name})")


def schedule_id_of(task_name: str) -> str:
    """Return the id of a task's schedule: its name, with what an id may not hold replaced."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", task_name).lstrip("_.-").replace("..", "-")
    if safe == task_name and len(safe) <= _ID_LIMIT:
        return safe
    digest = hashlib.blake2b(task_name.encode(), digest_size=4).hexdigest()
    return f"{safe[: _ID_LIMIT - 9].rstrip('.')}-{digest}".lstrip("-")


class DeclaredSchedules:
    """The schedules an application declares in its code."""

    def __init__(self) -> None:
        self._by_id: dict[str, Schedule] = {}

    def __iter__(self) -> Iterator[Schedule]:
        return iter(list(self._by_id.values()))

    def declare(self, schedule: Schedule, *, is_named: bool) -> Schedule:
        """Add one. Without an id of its own, the second of a task is called ``…-2``, and so on.

        Raises:
            ConfigError: the id of its own is another one's.
        """
        after = copy(schedule)
        if is_named and self._is_other(after):
            raise ConfigError(
                f"the schedule id {after.id!r} is taken by one of {self._by_id[after.id].func}; "
                "give each its own `schedule_id=`"
            )
        number = 1
        while not is_named and self._is_other(after):
            number += 1
            after.id = f"{schedule.id[: _ID_LIMIT - 4]}-{number}"
        self._by_id[after.id] = after
        return after

    def forget(self, task_name: str) -> None:
        """Drop those of a task that is being defined (again)."""
        self._by_id = {key: item for key, item in self._by_id.items() if item.func != task_name}

    async def save(self, storage: BaseScheduleStorage, *, now: datetime | None = None) -> None:
        """Store all. What is stored unchanged stays as it is, paused or not, at its next time.

        A changed definition takes the place of the stored one: a paused schedule stays paused, a
        completed one starts anew.
        """
        for schedule in self:
            await _save(storage, schedule, now)

    def _is_other(self, schedule: Schedule) -> bool:
        known = self._by_id.get(schedule.id)
        return known is not None and not _same_definition(known, schedule)


async def _save(storage: BaseScheduleStorage, declared: Schedule, now: datetime | None) -> None:
    for _ in range(_CAS_ATTEMPTS):
        stored = await storage.get_schedule(declared.id)
        if stored is None:
            await storage.save_schedule(declared, now=now)
            return
        if _same_definition(stored, declared):
            return
        if await storage.replace(stored, _replacing(stored, declared, now)):
            return
    raise StaleTaskError(f"schedule {declared.id} kept changing; try again")


def _replacing(stored: Schedule, declared: Schedule, now: datetime | None) -> Schedule:
    """Return the declared schedule with the state it takes over from the stored one."""
    after = copy(declared)
    after.created_at, after.last_run_at = stored.created_at, stored.last_run_at
    if stored.status is ScheduleStatus.PAUSED:
        after.status = ScheduleStatus.PAUSED
    if stored.status is not ScheduleStatus.COMPLETED:
        after.run_count = stored.run_count
    return cron.started(after, now or utcnow()) if after.status is ScheduleStatus.ACTIVE else after


def _same_definition(one: Schedule, other: Schedule) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _DEFINITION)


def _fields_of(options: ScheduleOptions) -> dict[str, Any]:
    names = {"schedule_id": "id", "misfire_grace": "misfire_grace_seconds"}
    fields = {
        names.get(name, name): value
        for name, value in options.items()
        if value is not None and name not in {"args", "kwargs"}
    }
    if "misfire_grace_seconds" in fields:
        fields["misfire_grace_seconds"] = check_seconds(
            "misfire_grace", fields["misfire_grace_seconds"]
        )
    return fields
