"""Storing tasks in a caller's transaction, through the caller's own connection.

Whatever the driver raises reaches the caller as it is, who owns the transaction and decides whether
to run it again. Everything of one call happens within one savepoint, so that a call that failed
leaves the transaction usable, and without a trace of the call.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from omniq.exceptions import TaskExistsError, ValidationError
from omniq.models.task import Task
from omniq.storage.base import BaseEventStorage, Inserted
from omniq.storage.joining import ASYNCPG, PSYCOPG, Caller, Raw, enqueued_events, refused
from omniq.storage.postgres.database import IDENTITY, Database
from omniq.storage.postgres.errors import UNIQUE_VIOLATION, sqlstate_of
from omniq.storage.postgres.inserts import TaskInserts
from omniq.storage.postgres.stores import PostgreSQLEventStorage
from omniq.storage.postgres.wake import Wakes

if TYPE_CHECKING:
    from asyncpg import Connection

logger = logging.getLogger(__name__)

UNDO_SECONDS = 3.0
"""How long a caller's connection is waited for when a call was cut short."""
SAVEPOINT = "omniq_enqueue"
CHUNK = 1000
_TURNS = 4
_ACCEPTED = "asyncpg or psycopg 3, or a Session or Connection of SQLAlchemy over one of the two"
Again = Callable[[], Awaitable[str]]


class _Ends(NamedTuple):
    """The statements around a call: before it, after it, and after an error."""

    begin: str
    commit: str
    undo: tuple[str, ...]


_NESTED = _Ends(
    f"SAVEPOINT {SAVEPOINT}",
    f"RELEASE SAVEPOINT {SAVEPOINT}",
    (f"ROLLBACK TO SAVEPOINT {SAVEPOINT}", f"RELEASE SAVEPOINT {SAVEPOINT}"),
)
_OWN = _Ends("BEGIN", "COMMIT", ("ROLLBACK",))


class JoinedInserts:
    """The inserts of one queue that are part of somebody else's transaction."""

    def __init__(self, database: Database, inserts: TaskInserts) -> None:
        self._db, self._inserts = database, inserts
        self._known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    async def insert(
        self,
        caller: Caller,
        tasks: Sequence[Task],
        events: BaseEventStorage | None,
        now: datetime | None,
        again: Again,
    ) -> list[Inserted]:
        """Store tasks in the transaction of a caller; see `TaskStore.insert_within`.

        Args:
            caller: whose connection it is.
            tasks: checked.
            events: log ENQUEUED there, if that is in the same database.
            now: see `TaskStore.insert`.
            again: asks our own server anew which database it is.
        """
        raw = await caller.raw()
        connection = _adapted(raw, self._db.shown)
        await self._refuse_elsewhere(raw, connection, again)
        commits_itself = connection.ends() is _OWN
        stored, wakes = await self._insert_all(connection, tasks, events, now)
        if commits_itself:
            self._db.announce_late(wakes)
        elif wakes.ready or wakes.final:
            caller.after_commit(raw, lambda: self._db.announce_late(wakes))
        return stored

    async def _insert_all(
        self,
        connection: _Connected,
        tasks: Sequence[Task],
        events: BaseEventStorage | None,
        now: datetime | None,
    ) -> tuple[list[Inserted], Wakes]:
        """Insert within a savepoint; once more when an id was taken under our hands."""
        failure: Exception | None = None
        for _ in range(_TURNS):
            wakes = Wakes()
            try:
                async with _part(connection):
                    as_ours = cast("Connection[Any]", connection)
                    stored: list[Inserted] = []
                    for start in range(0, len(tasks), CHUNK):
                        part = tasks[start : start + CHUNK]
                        stored += await self._inserts.insert_within(as_ours, part, now, wakes)
                    await self._log(connection, tasks, stored, events)
                return stored, wakes
            except Exception as error:
                if sqlstate_of(error) != UNIQUE_VIOLATION:
                    raise
                failure = error
        raise TaskExistsError(
            "a task with one of these ids exists already, stored by a transaction that this one "
            "cannot see; run yours again"
        ) from failure

    async def _log(
        self,
        connection: _Connected,
        tasks: Sequence[Task],
        stored: Sequence[Inserted],
        events: BaseEventStorage | None,
    ) -> None:
        logged = enqueued_events(tasks, stored)
        if logged and isinstance(events, PostgreSQLEventStorage) and events.is_kept_in(self._db):
            await events.append_within(cast("Connection[Any]", connection), logged)

    async def _refuse_elsewhere(self, raw: Raw, connection: _Connected, again: Again) -> None:
        """Refuse a connection to another database than ours.

        Raises:
            ValidationError: it leads to another one.
        """
        real: Any = getattr(raw.connection, "_con", None) or raw.connection
        if self._known.get(real) == self._db.identity:
            return
        there = str(await connection.fetchval(IDENTITY))
        if there != self._db.identity and there != await again():
            name = await connection.fetchval("SELECT current_database()")
            raise ValidationError(
                "connection",
                f"it leads to another server or database ({name!r}) than that of the tasks, "
                f"{self._db.shown}; enqueue without it, or keep the tasks there",
            )
        self._known[real] = there


class _Connected(ABC):
    """A caller's connection, spoken to as one of ours."""

    def __init__(self, raw: Raw) -> None:
        self._connection, self.is_async = raw.connection, raw.is_async

    @abstractmethod
    async def fetch(self, query: str, *values: Any) -> Sequence[Any]:
        """Run one statement; return its rows."""

    async def fetchval(self, query: str, *values: Any) -> Any:
        """Run one statement; return the first value of its first row."""
        return (await self.fetch(query, *values))[0][0]

    async def execute(self, query: str, *values: Any) -> None:
        """Run one statement."""
        await self.fetch(query, *values)

    async def conclude(self, statement: str) -> None:
        """Run a short statement to its end, also when this call is cancelled meanwhile.

        Cut short, it would leave open whether it was done, and what it guards half done.
        """
        if not self.is_async:
            await self.execute(statement)
            return
        task = asyncio.ensure_future(self.execute(statement))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=UNDO_SECONDS)
            if not task.cancel() and not task.cancelled():
                task.exception()  # seen
            raise

    @abstractmethod
    def ends(self) -> _Ends:
        """Return what to put around a call, as things stand."""

    @abstractmethod
    def is_closed(self) -> bool:
        """Whether the connection is lost."""

    @abstractmethod
    def abandon(self) -> None:
        """Close the connection without a word to the server."""


class _Asyncpg(_Connected):
    async def fetch(self, query: str, *values: Any) -> Sequence[Any]:
        if not values:
            return cast("Sequence[Any]", await self._connection.fetch(query))
        return cast("Sequence[Any]", await self._connection.fetch(query, *values))

    async def execute(self, query: str, *values: Any) -> None:
        await self._connection.execute(query, *values)

    def ends(self) -> _Ends:
        return _NESTED if self._connection.is_in_transaction() else _OWN

    def is_closed(self) -> bool:
        return bool(self._connection.is_closed())

    def abandon(self) -> None:
        self._connection.terminate()


class _Psycopg(_Connected):
    """Of either face. Our parameters are those of the server (``$1``), so its raw cursors serve."""

    def __init__(self, raw: Raw) -> None:
        super().__init__(raw)
        if raw.connection.pgconn.pipeline_status:
            raise ValidationError(
                "connection",
                "it is in pipeline mode, where no answer can be waited for; enqueue "
                "before or after `with connection.pipeline()`",
            )
        self._cursor, self._row = _psycopg_parts(raw)

    async def fetch(self, query: str, *values: Any) -> Sequence[Any]:
        given = [list(value) if isinstance(value, tuple) else value for value in values]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - columns of any type
        cursor = self._cursor(self._connection, row_factory=self._row)
        if self.is_async:
            async with cursor:
                await cursor.execute(query, given, prepare=False)
                return await cursor.fetchall() if cursor.description else []
        with cursor:
            cursor.execute(query, given, prepare=False)
            return cursor.fetchall() if cursor.description else []

    def ends(self) -> _Ends:
        is_idle = self._connection.info.transaction_status == 0
        return _OWN if is_idle and self._connection.autocommit else _NESTED

    def is_closed(self) -> bool:
        return bool(self._connection.closed)

    def abandon(self) -> None:
        self._connection.pgconn.finish()


def _psycopg_parts(raw: Raw) -> tuple[Any, Any]:
    try:
        from psycopg import AsyncRawCursor, RawCursor
        from psycopg.rows import tuple_row
    except ImportError as error:
        raise ValidationError("connection", "this psycopg is too old; 3.2 will do") from error
    return (AsyncRawCursor if raw.is_async else RawCursor), tuple_row


def _adapted(raw: Raw, shown: str) -> _Connected:
    if raw.package == ASYNCPG:
        return _Asyncpg(raw)
    if raw.package == PSYCOPG:
        return _Psycopg(raw)
    raise refused(raw, shown, _ACCEPTED)


@asynccontextmanager
async def _part(connection: _Connected) -> AsyncGenerator[None]:
    """Run the block as a part of the transaction that leaves no trace when it fails.

    On a connection that is in none and commits by itself, it is a transaction of its own.
    """
    ends = connection.ends()
    try:
        await connection.conclude(ends.begin)
    except asyncio.CancelledError:
        await _undo(connection, ends)
        raise
    try:
        yield
    except BaseException:
        await _undo(connection, ends)
        raise
    await connection.conclude(ends.commit)


async def _undo(connection: _Connected, ends: _Ends) -> None:
    """Take a part back. What went wrong there is not told: the caller sees why it was taken back.

    Where the server refuses, the whole transaction is lost already. A connection that does not
    answer is closed, so that nobody commits what should have been taken back.
    """
    if connection.is_closed():
        return
    try:
        async with asyncio.timeout(UNDO_SECONDS) if connection.is_async else nullcontext():
            for statement in ends.undo:
                await connection.execute(statement)
    except BaseException as error:
        if sqlstate_of(error) is None:
            connection.abandon()
        if not isinstance(error, Exception):
            raise
        logger.debug("a part of a transaction was not taken back: %s", error)
