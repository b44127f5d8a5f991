"""The specified home of `SQLiteEventStorage`."""

from omniq.storage.sqlite import AsyncSQLiteEventStorage, SQLiteEventStorage

__all__ = ["AsyncSQLiteEventStorage", "SQLiteEventStorage"]
