"""The event storages of all backends by their specified names; this loads no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omniq.storage.events import BaseEventStorage
from omniq.storage.lazy import class_homes, load_class

if TYPE_CHECKING:
    from omniq.storage.file import AsyncFileEventStorage, FileEventStorage
    from omniq.storage.memory import AsyncMemoryEventStorage, MemoryEventStorage
    from omniq.storage.nats import NATSEventStorage, NatsEventStorage
    from omniq.storage.postgres import PostgresEventStorage, PostgreSQLEventStorage
    from omniq.storage.redis import RedisEventStorage
    from omniq.storage.sqlite import AsyncSQLiteEventStorage, SQLiteEventStorage

__all__ = [
    "AsyncFileEventStorage",
    "AsyncMemoryEventStorage",
    "AsyncSQLiteEventStorage",
    "BaseEventStorage",
    "FileEventStorage",
    "MemoryEventStorage",
    "NATSEventStorage",
    "NatsEventStorage",
    "PostgreSQLEventStorage",
    "PostgresEventStorage",
    "RedisEventStorage",
    "SQLiteEventStorage",
]

_HOMES = class_homes("EventStorage")


def __getattr__(name: str) -> Any:
    return load_class(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
