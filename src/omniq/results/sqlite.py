"""The specified home of `SQLiteResultStorage`."""

from omniq.storage.sqlite import AsyncSQLiteResultStorage, SQLiteResultStorage

__all__ = ["AsyncSQLiteResultStorage", "SQLiteResultStorage"]
