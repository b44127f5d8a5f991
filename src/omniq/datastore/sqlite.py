"""A data store in an SQLite file: processes of one machine share it, without a server.

The tables stand beside those of a task queue, in the same file if so wished.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from omniq.clock import to_micros, utcnow
from omniq.datastore.connection import BaseConnection, Strings, Text
from omniq.datastore.sqlite_lists import SQLiteLists
from omniq.storage.factory import StorageBackendFactory

if TYPE_CHECKING:
    from omniq.storage.sqlite import Database
    from omniq.storage.sqlite.threads import Transaction

R = TypeVar("R")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS {queue} (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    item TEXT NOT NULL,
    receipt TEXT,
    leased_until INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS {queue}_waiting ON {queue} (key, position) WHERE receipt IS NULL;
CREATE INDEX IF NOT EXISTS {queue}_leased ON {queue} (key, leased_until)
    WHERE receipt IS NOT NULL;
CREATE TABLE IF NOT EXISTS {cache} (
    key TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    ends_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {cache}_ending ON {cache} (ends_at) WHERE ends_at IS NOT NULL
"""


class SQLiteConnection(BaseConnection):
    """The way to an SQLite file, made by the first use.

    Args:
        url: ``sqlite:///file.db``, with the options of the SQLite backend.

    Raises:
        ConfigError: the URL makes no sense.
    """

    def __init__(self, url: str) -> None:
        backend: Any = StorageBackendFactory.create_backend(url, "sqlite")
        self.database: Database = backend.database
        namespace = self.database.namespace
        self._tables = {
            "queue": f"{namespace}_datastore_queue",
            "cache": f"{namespace}_datastore_cache",
        }

    def __repr__(self) -> str:
        return f"SQLiteConnection({str(self.database.path)!r})"

    async def read(self, job: Callable[[sqlite3.Connection], R]) -> R:
        """Run a job that only reads, and return what it returned."""
        await self.ensure_connection()
        return await self.database.read(job)

    async def write(self, job: Callable[[Transaction], R]) -> R:
        """Run a job in a transaction, and return what it returned."""
        await self.ensure_connection()
        return await self.database.write(job)

    def sql(self, text: str) -> str:
        """Return a statement with the names of the tables filled in."""
        return text.format(**self._tables)

    def lists(self, prefix: str) -> SQLiteLists:
        """Return the lists under a prefix."""
        return SQLiteLists(prefix, self)

    def strings(self, prefix: str) -> SQLiteStrings:
        """Return the strings under a prefix."""
        return SQLiteStrings(prefix, self)

    async def _open(self) -> None:
        await self.database.open(self)

        def create(transaction: Transaction) -> None:
            for statement in self.sql(_SCHEMA).split(";"):
                transaction.connection.execute(statement)

        await self.database.write(create)

    async def _close(self) -> None:
        await self.database.close(self)


class SQLiteStrings(Strings):
    """Strings as rows. See `Strings`."""

    def __init__(self, prefix: str, connection: SQLiteConnection) -> None:
        super().__init__(prefix)
        self._connection = connection
        sql = connection.sql
        self._set = sql("INSERT OR REPLACE INTO {cache} (key, text, ends_at) VALUES (?, ?, ?)")
        self._get = sql("SELECT text, ends_at FROM {cache} WHERE key = ?")
        self._delete = sql("DELETE FROM {cache} WHERE key = ? RETURNING ends_at")
        self._expire = sql("DELETE FROM {cache} WHERE ends_at <= ?")

    async def set(self, texts: Mapping[str, str], ttl_seconds: float | None) -> None:
        """See `Strings.set`."""

        def job(transaction: Transaction) -> None:
            now = _now_micros()
            ends_at = None if ttl_seconds is None else now + int(ttl_seconds * 1_000_000)
            rows = [(self.key(name), text, ends_at) for name, text in texts.items()]
            transaction.connection.execute(self._expire, (now,))
            transaction.connection.executemany(self._set, rows)

        await self._connection.write(job)

    async def get(self, names: Sequence[str]) -> list[Text | None]:
        """See `Strings.get`."""

        def job(connection: sqlite3.Connection) -> list[Text | None]:
            now = _now_micros()
            found = (connection.execute(self._get, (self.key(name),)).fetchone() for name in names)
            return [row[0] if row and _lasts(row[1], now) else None for row in found]

        return await self._connection.read(job)

    async def delete(self, name: str) -> bool:
        """See `Strings.delete`."""

        def job(transaction: Transaction) -> bool:
            row = transaction.connection.execute(self._delete, (self.key(name),)).fetchone()
            return row is not None and _lasts(row[0], _now_micros())

        return await self._connection.write(job)

    async def exists(self, name: str) -> bool:
        """See `Strings.exists`."""
        (text,) = await self.get((name,))
        return text is not None


def _now_micros() -> int:
    """Return the present moment as the tables keep it."""
    return to_micros(utcnow())


def _lasts(ends_at: int | None, now: int) -> bool:
    return ends_at is None or ends_at > now
