"""OmniQ: the same task queue on every store.

All public names are here; each is imported from its module when first used, so that
``import omniq`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omniq.core import OmniQ as OmniQ
    from omniq.exceptions import Cancel as Cancel
    from omniq.exceptions import CapabilityError as CapabilityError
    from omniq.exceptions import ConfigError as ConfigError
    from omniq.exceptions import DuplicateTaskError as DuplicateTaskError
    from omniq.exceptions import LeaseLostError as LeaseLostError
    from omniq.exceptions import NotFoundError as NotFoundError
    from omniq.exceptions import OmniQError as OmniQError
    from omniq.exceptions import PayloadTooLargeError as PayloadTooLargeError
    from omniq.exceptions import ResultError as ResultError
    from omniq.exceptions import ResultExpiredError as ResultExpiredError
    from omniq.exceptions import ResultTimeoutError as ResultTimeoutError
    from omniq.exceptions import Retry as Retry
    from omniq.exceptions import SchemaError as SchemaError
    from omniq.exceptions import SerializationError as SerializationError
    from omniq.exceptions import Snooze as Snooze
    from omniq.exceptions import StaleTaskError as StaleTaskError
    from omniq.exceptions import StorageError as StorageError
    from omniq.exceptions import StorageUnavailableError as StorageUnavailableError
    from omniq.exceptions import SyncInAsyncError as SyncInAsyncError
    from omniq.exceptions import TaskCancelledError as TaskCancelledError
    from omniq.exceptions import TaskExistsError as TaskExistsError
    from omniq.exceptions import TaskExpiredError as TaskExpiredError
    from omniq.exceptions import TaskFailedError as TaskFailedError
    from omniq.exceptions import UnknownTaskError as UnknownTaskError
    from omniq.exceptions import ValidationError as ValidationError
    from omniq.handle import TaskHandle as TaskHandle
    from omniq.models import ErrorInfo as ErrorInfo
    from omniq.models import EventType as EventType
    from omniq.models import ResultStatus as ResultStatus
    from omniq.models import RetryPolicy as RetryPolicy
    from omniq.models import Schedule as Schedule
    from omniq.models import ScheduleStatus as ScheduleStatus
    from omniq.models import ScheduleType as ScheduleType
    from omniq.models import Task as Task
    from omniq.models import TaskEvent as TaskEvent
    from omniq.models import TaskResult as TaskResult
    from omniq.models import TaskStatus as TaskStatus
    from omniq.registry import Registry as Registry
    from omniq.registry import TaskFunction as TaskFunction
    from omniq.serialization import serializable as serializable
    from omniq.worker import TaskContext as TaskContext
    from omniq.worker import Worker as Worker
    from omniq.worker import current_task as current_task

    __version__: str

_MODULES = {
    "omniq.core": "OmniQ",
    "omniq.exceptions": (
        "Cancel CapabilityError ConfigError DuplicateTaskError LeaseLostError NotFoundError "
        "OmniQError PayloadTooLargeError ResultError ResultExpiredError ResultTimeoutError Retry "
        "SchemaError SerializationError Snooze StaleTaskError StorageError "
        "StorageUnavailableError SyncInAsyncError TaskCancelledError TaskExistsError "
        "TaskExpiredError TaskFailedError UnknownTaskError ValidationError"
    ),
    "omniq.handle": "TaskHandle",
    "omniq.models": (
        "ErrorInfo EventType ResultStatus RetryPolicy Schedule ScheduleStatus ScheduleType Task "
        "TaskEvent TaskResult TaskStatus"
    ),
    "omniq.registry": "Registry TaskFunction",
    "omniq.serialization": "serializable",
    "omniq.worker": "TaskContext Worker current_task",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll] - one list of names, above


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
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 10 ms

    try:
        return version("omniq-tasks")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "0+unknown"
