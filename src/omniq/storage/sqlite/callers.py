"""Storing tasks in a caller's transaction, through the caller's own connection.

Whatever SQLite says there reaches the caller as it is, who owns the transaction. The whole call is
one function, run where the connection lives, within a savepoint: one that failed leaves no trace.

That connection does not take the lock file around our writes: it may hold SQLite's own lock
already, for which our writer waits with the file in its hand. So that no commit overlaps a
checkpoint all the same, it is told to make none, and ours hold SQLite's write lock; see ADR 3.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from omniq.exceptions import ValidationError
from omniq.models.task import Task
from omniq.serialization import RecordCodec
from omniq.storage.base import BaseEventStorage, Inserted
from omniq.storage.joining import AIOSQLITE, SQLITE3, Caller, Raw, enqueued_events, refused
from omniq.storage.parents import parents_wanted, refuse_missing
from omniq.storage.sqlite.database import Database
from omniq.storage.sqlite.stores import SQLiteEventStorage
from omniq.storage.sqlite.threads import Transaction
from omniq.storage.sqlite.writes import TaskWrites

SAVEPOINT = "omniq_enqueue"
_ACCEPTED = "sqlite3 or aiosqlite, or a Session or Connection of SQLAlchemy over one of the two"


class _Request(NamedTuple):
    """What a call stores."""

    tasks: Sequence[Task]
    payloads: list[bytes]
    events: SQLiteEventStorage | None
    now: datetime


class JoinedWrites:
    """The inserts of one queue that are part of somebody else's transaction."""

    def __init__(self, database: Database, codec: RecordCodec, writes: TaskWrites) -> None:
        self._db, self._codec, self._writes = database, codec, writes

    async def insert(
        self,
        caller: Caller,
        tasks: Sequence[Task],
        events: BaseEventStorage | None,
        now: datetime,
    ) -> list[Inserted]:
        """Store tasks in the transaction of a caller; see `TaskStore.insert_within`."""
        kept_here = isinstance(events, SQLiteEventStorage) and events.is_kept_in(self._db)
        request = _Request(
            tasks,
            [self._codec.encode(task) for task in tasks],
            events if kept_here and isinstance(events, SQLiteEventStorage) else None,
            now,
        )
        raw = await caller.raw()
        if raw.package == SQLITE3:
            stored, transaction = self._insert(raw.connection, request)
        elif raw.package == AIOSQLITE:
            stored, transaction = await self._insert_in_thread(raw, request)
        else:
            raise refused(raw, repr(str(self._db.path)), _ACCEPTED)
        caller.after_commit(raw, lambda: self._db.announce(transaction))
        return stored

    async def _insert_in_thread(
        self, raw: Raw, request: _Request
    ) -> tuple[list[Inserted], Transaction]:
        """Run the insert in the thread of an aiosqlite connection, nothing in between.

        Its public methods run one statement each, between which other coroutines get their turn.
        """
        run_there = getattr(raw.connection, "_execute", None)
        connection = getattr(raw.connection, "_conn", None)
        if run_there is None or connection is None:
            raise ValidationError(
                "connection", "this aiosqlite connection is closed, or of a version not known here"
            )
        result: tuple[list[Inserted], Transaction] = await run_there(
            self._insert, connection, request
        )
        return result

    def _insert(
        self, connection: sqlite3.Connection, request: _Request
    ) -> tuple[list[Inserted], Transaction]:
        with _plain(connection):
            self._refuse_elsewhere(connection)
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            with _part(connection):
                return self._insert_part(Transaction(connection), request)

    def _insert_part(
        self, transaction: Transaction, request: _Request
    ) -> tuple[list[Inserted], Transaction]:
        wanted = parents_wanted(request.tasks)
        if wanted:
            query = (
                f"SELECT id FROM {self._db.tables.task} "  # noqa: S608 - checked name
                "WHERE id IN (SELECT value FROM json_each(?))"
            )
            rows = transaction.connection.execute(query, (json.dumps(wanted),))
            refuse_missing(wanted, {task_id for (task_id,) in rows})
        stored = self._writes.insert(transaction, request.tasks, request.payloads, request.now)
        logged = enqueued_events(request.tasks, stored)
        if logged and request.events is not None:
            request.events.write_rows(transaction, request.events.rows(logged))
        return stored, transaction

    def _refuse_elsewhere(self, connection: sqlite3.Connection) -> None:
        """Refuse a connection to another file than ours.

        Raises:
            ValidationError: its main database is another one.
        """
        files = {row[1]: row[2] for row in connection.execute("PRAGMA database_list")}
        there = files["main"]
        if not there or not _is_same(Path(there), self._db.path):
            raise ValidationError(
                "connection",
                f"it leads to {there or 'a database in memory'}, while the tasks are kept in "
                f"{self._db.path}; enqueue without it, or keep both in one file",
            )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


@contextmanager
def _plain(connection: sqlite3.Connection) -> Generator[None]:
    """Let rows be tuples and texts be str for a while, whatever the caller has set."""
    kept: tuple[Any, Any] = (connection.row_factory, connection.text_factory)
    connection.row_factory, connection.text_factory = None, str
    try:
        yield
    finally:
        connection.row_factory, connection.text_factory = kept


@contextmanager
def _part(connection: sqlite3.Connection) -> Generator[None]:
    """Run the block as part of the caller's transaction, which is begun if need be.

    On a connection that commits by itself and is in none, it is a transaction of its own. A
    savepoint alone will not do there: outside of a transaction, its release commits.
    """
    was_inside = connection.in_transaction
    if not was_inside:
        connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"SAVEPOINT {SAVEPOINT}")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # else SQLite has rolled it back: a full disk
            connection.execute(f"ROLLBACK TO {SAVEPOINT}")
            connection.execute(f"RELEASE {SAVEPOINT}")
            if not was_inside:
                connection.execute("ROLLBACK")
        raise
    connection.execute(f"RELEASE {SAVEPOINT}")
    if not was_inside and _commits_by_itself(connection):
        connection.execute("COMMIT")


def _commits_by_itself(connection: sqlite3.Connection) -> bool:
    """Whether statements are transactions of their own: by the setting of 3.12, or the old one."""
    chosen = getattr(connection, "autocommit", None)
    return chosen if isinstance(chosen, bool) else connection.isolation_level is None
