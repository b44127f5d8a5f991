"""The result storages of all backends by their specified names; this loads no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omniq.storage.lazy import class_homes, load_class
from omniq.storage.results import BaseResultStorage

if TYPE_CHECKING:
    from omniq.storage.file import AsyncFileResultStorage, FileResultStorage
    from omniq.storage.memory import AsyncMemoryResultStorage, MemoryResultStorage
    from omniq.storage.nats import NATSResultStorage, NatsResultStorage
    from omniq.storage.postgres import PostgreSQLResultStorage, PostgresResultStorage
    from omniq.storage.redis import RedisResultStorage
    from omniq.storage.sqlite import AsyncSQLiteResultStorage, SQLiteResultStorage

__all__ = [
    "AsyncFileResultStorage",
    "AsyncMemoryResultStorage",
    "AsyncSQLiteResultStorage",
    "BaseResultStorage",
    "FileResultStorage",
    "MemoryResultStorage",
    "NATSResultStorage",
    "NatsResultStorage",
    "PostgreSQLResultStorage",
    "PostgresResultStorage",
    "RedisResultStorage",
    "SQLiteResultStorage",
]

_HOMES = class_homes("ResultStorage")


def __getattr__(name: str) -> Any:
    return load_class(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
