"""Every error OmniQ raises.

OmniQError
├── ValidationError (ValueError)      refused before anything was stored; `.field` names the culprit
│   ├── SerializationError            a value that cannot be stored or read back
│   └── PayloadTooLargeError          arguments or a result over the limit
├── ConfigError (ValueError)          a URL, option or combination that makes no sense
├── SyncInAsyncError (RuntimeError)   a `_sync` twin called where an event loop runs
├── UnknownTaskError (LookupError)    no registered function of that name
├── NotFoundError (LookupError)       no task, result or schedule of that id
├── StorageError                      the store said no; `__cause__` is the driver's error
│   ├── StorageUnavailableError       locked, unreachable, read-only, full: may work later
│   ├── SchemaError                   the store was written by another version
│   ├── CapabilityError               this backend does not promise what was asked
│   ├── TaskExistsError               the id is taken
│   ├── DuplicateTaskError            a live task holds the same unique_key
│   └── StaleTaskError                somebody else changed the task in between
├── LeaseLostError                    this run no longer holds its task
├── LifespanError                     what tasks share could not be opened, or broke
└── ResultError                       why `handle.result()` has no value
    ├── ResultTimeoutError (TimeoutError)
    ├── ResultExpiredError            finished, but the result is gone
    ├── TaskFailedError               `.error` holds type, message and traceback
    ├── TaskCancelledError
    └── TaskExpiredError

TaskSignal                            raised *by* a task to end its run in another way
├── Retry(delay)                      try again after `delay`; counts as a failed attempt
├── Snooze(delay)                     come back after `delay`; the attempt is given back
└── Cancel(reason)                    stop for good, as CANCELLED
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omniq.models.result import ErrorInfo


class OmniQError(Exception):
    """Base of every error of this library."""


class ValidationError(OmniQError, ValueError):
    """Input was refused before anything was stored; `field` names what was wrong."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.field, self.problem)


class SerializationError(ValidationError):
    """A value cannot be stored, or stored bytes cannot be read."""


class PayloadTooLargeError(ValidationError):
    """Arguments, metadata or a result are larger than the store accepts."""


class ConfigError(OmniQError, ValueError):
    """A URL, an option or a combination of them makes no sense."""


class SyncInAsyncError(OmniQError, RuntimeError):
    """A `_sync` method was called in a thread whose event loop it would block."""


class UnknownTaskError(OmniQError, LookupError):
    """No function of that name is registered."""


class NotFoundError(OmniQError, LookupError):
    """No task, result or schedule has that id."""


class StorageError(OmniQError):
    """The store failed or refused; the driver's error is the `__cause__`."""


class StorageUnavailableError(StorageError):
    """The store cannot answer now (locked, unreachable, read-only, full); a later try may work."""


class SchemaError(StorageError):
    """The store was laid out by another version of OmniQ."""


class CapabilityError(StorageError):
    """The backend does not promise what was asked of it."""


class TaskExistsError(StorageError):
    """A task with this id exists already."""


class DuplicateTaskError(StorageError):
    """A live task holds the same `unique_key`; its id is `task_id`."""

    def __init__(self, message: str, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class StaleTaskError(StorageError):
    """The task was changed by somebody else since it was read."""


class LeaseLostError(OmniQError):
    """This run no longer holds the lease of its task; nothing it writes is accepted."""


class LifespanError(OmniQError):
    """The application's `lifespan` failed, and its worker ended; the `__cause__` says why."""


class ResultError(OmniQError):
    """There is no value to return for this task; the subclass says why."""

    def __init__(self, task_id: str, message: str) -> None:
        super().__init__(message)
        self.task_id = task_id

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.task_id, str(self))


class ResultTimeoutError(ResultError, TimeoutError):
    """The task did not finish within the time given."""


class ResultExpiredError(ResultError):
    """The task completed, but its result was not kept or is gone."""


class TaskFailedError(ResultError):
    """The task failed for good; `error` holds type, message and traceback of the last attempt."""

    def __init__(self, task_id: str, message: str, error: ErrorInfo | None = None) -> None:
        super().__init__(task_id, message)
        self.error = error

    def __reduce__(self) -> tuple[type, tuple[str, str, ErrorInfo | None]]:  # type: ignore[override]  # one more item
        return type(self), (self.task_id, str(self), self.error)


class TaskCancelledError(ResultError):
    """The task was cancelled."""


class TaskExpiredError(ResultError):
    """The task's `expires` passed before it could run."""


class TaskSignal(Exception):  # noqa: N818 - a way to end a run, not an error
    """Base of what a task raises to end its run in another way than returning or failing."""


class Retry(TaskSignal):
    """Try again after `delay` (seconds or timedelta; None: by the task's retry policy).

    Counts as a failed attempt: when no retries are left, the task fails with `reason`.
    """

    def __init__(
        self, delay: float | timedelta | None = None, reason: str = "retry asked for"
    ) -> None:
        super().__init__(reason)
        self.delay = delay
        self.reason = reason


class Snooze(TaskSignal):
    """Come back after `delay` (seconds or timedelta). Does not count as an attempt."""

    def __init__(self, delay: float | timedelta, reason: str = "snoozed") -> None:
        super().__init__(reason)
        self.delay = delay
        self.reason = reason


class Cancel(TaskSignal):
    """Stop for good: the task becomes CANCELLED with `reason`."""

    def __init__(self, reason: str = "cancelled by the task itself") -> None:
        super().__init__(reason)
        self.reason = reason


TaskFailed = TaskFailedError
TaskCancelled = TaskCancelledError
TaskExpired = TaskExpiredError
ResultTimeout = ResultTimeoutError
