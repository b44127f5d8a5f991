"""All four components in an SQLite file; each class goes by two names, see `omniq.blocking`."""

from omniq.storage.sqlite.database import Database, Durability
from omniq.storage.sqlite.queue import AsyncSQLiteQueue, SQLiteQueue
from omniq.storage.sqlite.stores import (
    AsyncSQLiteEventStorage,
    AsyncSQLiteResultStorage,
    AsyncSQLiteScheduleStorage,
    SQLiteEventStorage,
    SQLiteResultStorage,
    SQLiteScheduleStorage,
)

__all__ = [
    "AsyncSQLiteEventStorage",
    "AsyncSQLiteQueue",
    "AsyncSQLiteResultStorage",
    "AsyncSQLiteScheduleStorage",
    "Database",
    "Durability",
    "SQLiteEventStorage",
    "SQLiteQueue",
    "SQLiteResultStorage",
    "SQLiteScheduleStorage",
]
