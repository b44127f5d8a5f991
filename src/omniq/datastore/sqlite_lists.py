"""Queues as rows of a table, the oldest position first."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from omniq.clock import to_micros, utcnow
from omniq.datastore.connection import Lists
from omniq.datastore.insist import insist
from omniq.storage.local.wake import READY

if TYPE_CHECKING:
    from omniq.datastore.sqlite import SQLiteConnection
    from omniq.storage.sqlite.threads import Transaction

R = TypeVar("R")
LONGEST_WAIT_SECONDS = 60.0

_PUSH = "INSERT INTO {queue} (key, item) VALUES (?, ?)"
_OLDEST = (
    "SELECT position, item FROM {queue} WHERE key = ? AND receipt IS NULL ORDER BY position LIMIT 1"
)
_REMOVE = "DELETE FROM {queue} WHERE position = ?"
_PUT_BACK = "INSERT OR IGNORE INTO {queue} (position, key, item) VALUES (?, ?, ?)"
_LENGTH = "SELECT count(*) FROM {queue} WHERE key = ? AND receipt IS NULL"
_CLEAR = "DELETE FROM {queue} WHERE key = ?"
_RECOVER = (
    "UPDATE {queue} SET receipt = NULL, leased_until = NULL"
    " WHERE key = ? AND receipt IS NOT NULL AND leased_until <= ?"
)
_LEASE = "UPDATE {queue} SET receipt = ?, leased_until = ? WHERE position = ?"
_NEXT_END = "SELECT min(leased_until) FROM {queue} WHERE key = ? AND receipt IS NOT NULL"
_FORGET = "DELETE FROM {queue} WHERE key = ? AND receipt = ?"
_RELEASE = "UPDATE {queue} SET receipt = NULL, leased_until = NULL WHERE key = ? AND receipt = ?"
_EXTEND = "UPDATE {queue} SET leased_until = ? WHERE key = ? AND receipt = ?"


class _Row:
    """What a job took, kept outside of it, so that it can be put back."""

    values: tuple[int, str, str] | None = None


class SQLiteLists(Lists):
    """Lists as rows. See `Lists`."""

    def __init__(self, prefix: str, connection: SQLiteConnection) -> None:
        super().__init__(prefix)
        self._connection = connection
        self._sql = connection.sql

    async def push(self, name: str, texts: Sequence[str]) -> None:
        """See `Lists.push`."""
        key, statement = self.key(name), self._sql(_PUSH)

        def job(transaction: Transaction) -> None:
            transaction.connection.executemany(statement, [(key, text) for text in texts])
            transaction.ready_queues.add(_wake_name(key))

        await self._connection.write(job)

    async def take(self, names: Sequence[str], seconds: float | None) -> tuple[str, str] | None:
        """See `Lists.take`."""
        keys = {self.key(name): name for name in names}

        async def attempt() -> tuple[tuple[str, str] | None, float]:
            return await self._take(keys), LONGEST_WAIT_SECONDS

        return await self._until_found(list(keys), seconds, attempt)

    async def length(self, name: str) -> int:
        """See `Lists.length`."""
        key, statement = self.key(name), self._sql(_LENGTH)

        def job(connection: sqlite3.Connection) -> int:
            return int(connection.execute(statement, (key,)).fetchone()[0])

        return await self._connection.read(job)

    async def clear(self, name: str) -> int:
        """See `Lists.clear`."""
        key = self.key(name)

        def job(transaction: Transaction) -> int:
            count = transaction.connection.execute(self._sql(_LENGTH), (key,)).fetchone()[0]
            transaction.connection.execute(self._sql(_CLEAR), (key,))
            return int(count)

        return await self._connection.write(job)

    async def lease(
        self, name: str, receipt: str, lease_seconds: float, seconds: float | None
    ) -> str | None:
        """See `Lists.lease`."""
        key = self.key(name)

        async def attempt() -> tuple[str | None, float]:
            try:
                return await self._lease(key, receipt, lease_seconds)
            except asyncio.CancelledError:
                await insist(lambda: self._release(name, receipt))
                raise

        return await self._until_found([key], seconds, attempt)

    async def settle(self, name: str, receipt: str, *, put_back: bool) -> bool:
        """See `Lists.settle`."""
        key, statement = self.key(name), self._sql(_RELEASE if put_back else _FORGET)

        def job(transaction: Transaction) -> bool:
            cursor = transaction.connection.execute(statement, (key, receipt))
            if put_back and cursor.rowcount:
                transaction.ready_queues.add(_wake_name(key))
            return cursor.rowcount > 0

        return await self._connection.write(job)

    async def extend(self, name: str, receipt: str, lease_seconds: float) -> bool:
        """See `Lists.extend`."""
        key, statement = self.key(name), self._sql(_EXTEND)

        def job(transaction: Transaction) -> bool:
            until = _now() + int(lease_seconds * 1_000_000)
            return transaction.connection.execute(statement, (until, key, receipt)).rowcount > 0

        return await self._connection.write(job)

    async def _until_found(
        self,
        keys: list[str],
        seconds: float | None,
        attempt: Callable[[], Coroutine[Any, Any, tuple[R | None, float]]],
    ) -> R | None:
        """Try until something is found or the time is up, sleeping until a push wakes us.

        An attempt returns what it found and the seconds after which another one may find more.
        """
        ends_at = time.monotonic() + (_FOR_EVER if seconds is None else seconds)
        closings = self._connection.closings
        await self._connection.ensure_connection()
        if seconds == 0:
            return (await attempt())[0]
        while True:
            hub = self._connection.database.hub
            with hub.register(READY, map(_wake_name, keys)) as waiting:
                found, pause = await attempt()
                left = ends_at - time.monotonic()
                if found is not None or left <= 0:
                    return found
                await waiting.wait(min(left, pause))
            self._connection.check_not_closed(closings)

    async def _take(self, keys: dict[str, str]) -> tuple[str, str] | None:
        """Take an item in a task of its own, which a cancellation does not reach."""
        if not await self._connection.read(lambda connection: self._is_any(connection, keys)):
            return None
        row = _Row()
        taking = asyncio.create_task(self._connection.write(lambda one: self._pop(one, keys, row)))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            await insist(lambda: self._restore(taking, row))
            raise

    def _is_any(self, connection: sqlite3.Connection, keys: dict[str, str]) -> bool:
        oldest = self._sql(_OLDEST)
        return any(connection.execute(oldest, (key,)).fetchone() for key in keys)

    def _pop(
        self, transaction: Transaction, keys: dict[str, str], row: _Row
    ) -> tuple[str, str] | None:
        row.values = None
        for key, name in keys.items():
            found = transaction.connection.execute(self._sql(_OLDEST), (key,)).fetchone()
            if found is not None:
                transaction.connection.execute(self._sql(_REMOVE), (found[0],))
                row.values = (found[0], key, found[1])
                return name, found[1]
        return None

    async def _restore(self, taking: asyncio.Task[tuple[str, str] | None], row: _Row) -> None:
        """Wait until the item is taken, and put it back to its place."""
        await asyncio.wait({taking})
        failed = not taking.cancelled() and taking.exception() is not None

        def job(transaction: Transaction) -> None:
            if row.values is not None and not failed:
                transaction.connection.execute(self._sql(_PUT_BACK), row.values)
                transaction.ready_queues.add(_wake_name(row.values[1]))

        # The job is run after the one that took the item, even if nobody waits for that any more.
        await self._connection.write(job)

    async def _lease(
        self, key: str, receipt: str, lease_seconds: float
    ) -> tuple[str | None, float]:
        """Return an item, or None and the seconds until the next lease ends."""
        pause = await self._connection.read(lambda connection: self._next_item(connection, key))
        if pause > 0:
            return None, pause

        def job(transaction: Transaction) -> str | None:
            connection, now = transaction.connection, _now()
            connection.execute(self._sql(_RECOVER), (key, now))
            found = connection.execute(self._sql(_OLDEST), (key,)).fetchone()
            if found is None:
                return None
            until = now + int(lease_seconds * 1_000_000)
            connection.execute(self._sql(_LEASE), (receipt, until, found[0]))
            return str(found[1])

        return await self._connection.write(job), 0.0

    def _next_item(self, connection: sqlite3.Connection, key: str) -> float:
        """Return the seconds until there may be an item without a push; 0: there is one now."""
        if connection.execute(self._sql(_OLDEST), (key,)).fetchone() is not None:
            return 0.0
        ends_at: int | None = connection.execute(self._sql(_NEXT_END), (key,)).fetchone()[0]
        if ends_at is None:
            return LONGEST_WAIT_SECONDS
        return max(0.0, min(LONGEST_WAIT_SECONDS, (ends_at - _now()) / 1_000_000))

    async def _release(self, name: str, receipt: str) -> None:
        await self.settle(name, receipt, put_back=True)


_FOR_EVER = 1e12


def _wake_name(key: str) -> str:
    """Return the name under which a queue is announced: of one line."""
    return f"datastore/{key}".replace("\n", " ")


def _now() -> int:
    return to_micros(utcnow())
