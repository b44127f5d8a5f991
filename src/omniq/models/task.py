"""The task: an immutable request and the mutable state of its runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from omniq.clock import utcnow
from omniq.exceptions import ValidationError
from omniq.ids import new_id, stable_name

if TYPE_CHECKING:
    ExceptionName = str | type[BaseException]
else:
    ExceptionName = str

Backoff = Literal["fixed", "linear", "exponential"]
OnParentFailure = Literal["cancel", "release"]


class TaskStatus(StrEnum):
    """Where a task stands. `TaskStatus("processing")` reads as RUNNING."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    __hash__ = str.__hash__  # of text, as equality is; that of enumerations is a call in Python

    @property
    def is_final(self) -> bool:
        """Whether no run follows unless somebody asks for it."""
        return self in FINAL_STATUSES

    @classmethod
    def _missing_(cls, value: object) -> TaskStatus | None:
        text = str(value).lower()
        aliases = {"processing": cls.RUNNING, "queued": cls.PENDING, "canceled": cls.CANCELLED}
        return next((member for member in cls if member.value == text), aliases.get(text))


DAMAGED = "omniq.damaged"
"""Key in the metadata of a task whose stored request cannot be read; its value says why."""
FINAL_STATUSES = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.EXPIRED}
)
LIVE_STATUSES = frozenset(TaskStatus) - FINAL_STATUSES


def exception_name(kind: type[BaseException]) -> str:
    """Return the name an exception class is stored and matched under: ``module.QualName``."""
    return stable_name(kind)


class RetryPolicy(msgspec.Struct, kw_only=True, omit_defaults=True):
    """When a failed attempt is tried again, and how long after.

    Attributes:
        max_retries: attempts after the first; 0 fails at once.
        delay_seconds: the base delay.
        backoff: ``fixed`` (delay), ``linear`` (delay x n), ``exponential`` (delay x factor^(n-1)).
        factor: growth of the exponential backoff.
        max_delay_seconds: cap of every delay.
        jitter: draw the delay evenly from 0 to its value ("full jitter", so that tasks that
            failed together do not return together).
        retry_on: only these exceptions (classes, or names as ``module.QualName``) and their
            subclasses are retried; empty means all.
    """

    max_retries: int = 0
    delay_seconds: float = 1.0
    backoff: Backoff = "exponential"
    factor: float = 2.0
    max_delay_seconds: float = 3600.0
    jitter: bool = False
    retry_on: tuple[ExceptionName, ...] = ()

    def __post_init__(self) -> None:
        if self.retry_on:
            self.retry_on = _exception_names(self.retry_on)


def _exception_names(given: object) -> tuple[str, ...]:
    """Return the names of one or several exceptions, each given as a class or a name."""
    is_one = not isinstance(given, tuple | list | set | frozenset)
    return tuple(map(_exception_name, (given,) if is_one else cast("list[object]", given)))


def _exception_name(given: object) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, type) and issubclass(given, BaseException):
        return exception_name(given)
    raise ValidationError("retry.retry_on", f"{given!r} is neither an exception class nor a name")


class Task(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One unit of work. The library itself never changes a `Task` in place; it makes copies.

    The request, fixed once enqueued:
        func: registered name of the function; `args` and `kwargs` are its arguments.
        id: unique; a UUIDv7 unless given.
        queue_name, priority: higher priority runs first; ties by `created_at`, then `id`.
        run_at: not before this moment.
        expires_at: a task not started by then becomes EXPIRED; lifted when it is requeued later.
        timeout_seconds: longest run of one attempt.
        retry: the `RetryPolicy`.
        result_ttl_seconds: how long the result is kept; None means the app's default, 0 not at all.
        unique_key: at most one live task of a queue holds a key.
        depends_on: ids of parents that must finish first; `on_parent_failure` says what a parent
            that did not complete means: ``cancel`` this task, or ``release`` it all the same.
        metadata: plain data carried along.
        schedule_id: the schedule that made it.

    The state of its runs, changed only through the storage contract:
        status, attempt (from 1, counted at claim), claim_count and lease_token (the fence),
        due_at (when it may be claimed: `run_at`, the retry time, or the end of the lease),
        lost_leases (claims that ended without a word), worker_id, cancel_requested,
        waiting_for (parents unfinished), progress (0 to 1), error (why the last run did not
        complete), started_at, finished_at.
    """

    func: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    id: str = msgspec.field(default_factory=new_id)
    queue_name: str = "default"
    priority: int = 0
    created_at: datetime = msgspec.field(default_factory=utcnow)
    run_at: datetime | None = None
    expires_at: datetime | None = None
    timeout_seconds: float | None = None
    retry: RetryPolicy | None = None
    result_ttl_seconds: float | None = None
    unique_key: str | None = None
    depends_on: tuple[str, ...] = ()
    on_parent_failure: OnParentFailure = "cancel"
    metadata: dict[str, Any] = {}
    schedule_id: str | None = None

    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 0
    claim_count: int = 0
    lease_token: str | None = None
    due_at: datetime | None = None
    lost_leases: int = 0
    worker_id: str | None = None
    cancel_requested: bool = False
    waiting_for: int = 0
    progress: float | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether the task is COMPLETED, FAILED, CANCELLED or EXPIRED."""
        return self.status in FINAL_STATUSES


copied: Callable[[Task], Task] = methodcaller("__copy__")
"""Returns a shallow copy of a task: `copy.copy` without its search for how to copy."""

STATE_FIELDS = (
    "status",
    "attempt",
    "claim_count",
    "lease_token",
    "due_at",
    "lost_leases",
    "worker_id",
    "cancel_requested",
    "waiting_for",
    "progress",
    "error",
    "started_at",
    "finished_at",
    "expires_at",
)
"""The mutable part of a `Task`; all other fields never change after the insert."""
