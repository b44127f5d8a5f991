"""OmniQ: the same task queue on every store.

All public names are here; each is imported from its module when first used, so that
``import omniq`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omniq.core import OmniQ
    from omniq.exceptions import (
        Cancel,
        CapabilityError,
        ConfigError,
        DuplicateTaskError,
        LeaseLostError,
        LifespanError,
        NotFoundError,
        OmniQError,
        PayloadTooLargeError,
        ResultError,
        ResultExpiredError,
        ResultTimeoutError,
        Retry,
        SchemaError,
        SerializationError,
        Snooze,
        StaleTaskError,
        StorageError,
        StorageUnavailableError,
        SyncInAsyncError,
        TaskCancelledError,
        TaskExistsError,
        TaskExpiredError,
        TaskFailedError,
        UnknownTaskError,
        ValidationError,
    )
    from omniq.handle import TaskHandle
    from omniq.migration import migrate, migrate_sync, move, move_sync
    from omniq.models import (
        ErrorInfo,
        EventType,
        ResultStatus,
        RetryPolicy,
        Schedule,
        ScheduleStatus,
        ScheduleType,
        Task,
        TaskEvent,
        TaskResult,
        TaskStatus,
    )
    from omniq.registry import (
        Registry,
        TaskFunction,
    )
    from omniq.serialization import serializable
    from omniq.worker import (
        StopReason,
        TaskContext,
        Worker,
        current_task,
    )

    __version__: str

__all__ = [
    "Cancel",
    "CapabilityError",
    "ConfigError",
    "DuplicateTaskError",
    "ErrorInfo",
    "EventType",
    "LeaseLostError",
    "LifespanError",
    "NotFoundError",
    "OmniQ",
    "OmniQError",
    "PayloadTooLargeError",
    "Registry",
    "ResultError",
    "ResultExpiredError",
    "ResultStatus",
    "ResultTimeoutError",
    "Retry",
    "RetryPolicy",
    "Schedule",
    "ScheduleStatus",
    "ScheduleType",
    "SchemaError",
    "SerializationError",
    "Snooze",
    "StaleTaskError",
    "StopReason",
    "StorageError",
    "StorageUnavailableError",
    "SyncInAsyncError",
    "Task",
    "TaskCancelledError",
    "TaskContext",
    "TaskEvent",
    "TaskExistsError",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskFunction",
    "TaskHandle",
    "TaskResult",
    "TaskStatus",
    "UnknownTaskError",
    "ValidationError",
    "Worker",
    "current_task",
    "migrate",
    "migrate_sync",
    "move",
    "move_sync",
    "serializable",
]

_MODULES = {
    "omniq.core": "OmniQ",
    "omniq.exceptions": (
        "Cancel CapabilityError ConfigError DuplicateTaskError LeaseLostError LifespanError "
        "NotFoundError OmniQError PayloadTooLargeError ResultError ResultExpiredError "
        "ResultTimeoutError Retry SchemaError SerializationError Snooze StaleTaskError "
        "StorageError StorageUnavailableError SyncInAsyncError TaskCancelledError TaskExistsError "
        "TaskExpiredError TaskFailedError UnknownTaskError ValidationError"
    ),
    "omniq.handle": "TaskHandle",
    "omniq.migration": "migrate migrate_sync move move_sync",
    "omniq.models": (
        "ErrorInfo EventType ResultStatus RetryPolicy Schedule ScheduleStatus ScheduleType Task "
        "TaskEvent TaskResult TaskStatus"
    ),
    "omniq.registry": "Registry TaskFunction",
    "omniq.serialization": "serializable",
    "omniq.worker": "StopReason TaskContext Worker current_task",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(import_module(home), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, "__version__"]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("omniq-tasks")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "0+unknown"
