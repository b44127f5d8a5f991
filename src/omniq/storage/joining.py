"""Whose transaction a task is stored in: recognising a caller's connection and reaching its driver.

Nothing is imported to recognise a connection: the names of its classes tell, as whoever has one has
its library too. What is done with a connection that blocks is written as a coroutine as well, one
that never waits: `unsuspended` runs it in the caller's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from omniq.exceptions import CapabilityError, ValidationError
from omniq.models.event import EventType, TaskEvent
from omniq.models.task import Task

if TYPE_CHECKING:
    from omniq.storage.component import Component
    from omniq.storage.values import Inserted

R = TypeVar("R")
Wake = Callable[[], None]

ASYNCPG, PSYCOPG, SQLITE3, AIOSQLITE, SQLALCHEMY = (
    "asyncpg",
    "psycopg",
    "sqlite3",
    "aiosqlite",
    "sqlalchemy",
)
_KINDS = {
    (ASYNCPG, "Connection"): True,
    (ASYNCPG, "PoolConnectionProxy"): True,
    (PSYCOPG, "Connection"): False,
    (PSYCOPG, "AsyncConnection"): True,
    (SQLITE3, "Connection"): False,
    (AIOSQLITE, "Connection"): True,
    (SQLALCHEMY, "Connection"): False,
    (SQLALCHEMY, "Session"): False,
    (SQLALCHEMY, "scoped_session"): False,
    (SQLALCHEMY, "AsyncConnection"): True,
    (SQLALCHEMY, "AsyncSession"): True,
    (SQLALCHEMY, "async_scoped_session"): True,
}
"""By package and class: whether its methods are coroutines."""
_ACCEPTED = (
    "an asyncpg, psycopg 3, sqlite3 or aiosqlite Connection, "
    "or a Session or Connection of SQLAlchemy, of either face"
)
_WAKES = "omniq.wakes"
_BUFFERED = {"stream_results": False}


class Raw(NamedTuple):
    """The connection of a driver."""

    package: str
    is_async: bool
    connection: Any


class Caller:
    """A connection, or a session, in whose transaction tasks are to be stored.

    Attributes:
        given: the thing itself.
        is_async: whether its methods are coroutines.
        shown: what it is, for messages.

    Raises:
        ValidationError: it is nothing of the kind.
    """

    def __init__(self, given: object) -> None:
        package, self._name, self.is_async = _kind_of(given)
        self.given: Any = given
        self._package = package
        self.shown = f"{package} {self._name}"

    def require(self, *, is_async: bool) -> None:
        """Refuse a connection of the other face.

        Raises:
            ValidationError: it waits where coroutines are called for, or the other way round.
        """
        if self.is_async == is_async:
            return
        how = "await enqueue(…)" if self.is_async else "enqueue_sync(…)"
        face = "is asynchronous" if self.is_async else "blocks"
        raise ValidationError(
            "connection", f"this {self.shown} {face}: use {how}, or give one of the other face"
        )

    async def raw(self) -> Raw:
        """Return the connection of the driver, its transaction begun if SQLAlchemy keeps it."""
        if self._package != SQLALCHEMY:
            return Raw(self._package, self.is_async, self.given)
        given = self.given() if self._name.endswith("scoped_session") else self.given
        has_sessions = self._name.lower().endswith("session")
        if self.is_async:
            connection = await given.connection() if has_sessions else given
            await connection.exec_driver_sql("SELECT 1", execution_options=_BUFFERED)
            driver = (await connection.get_raw_connection()).driver_connection
        else:
            connection = given.connection() if has_sessions else given
            connection.exec_driver_sql("SELECT 1", execution_options=_BUFFERED).close()
            driver = connection.connection.driver_connection
        package, _, is_async = _kind_of(driver)
        return Raw(package, is_async, driver)

    def after_commit(self, raw: Raw, wake: Wake) -> None:
        """Call `wake` after the transaction has ended, where that can be noticed."""
        if self._name.lower().endswith("session"):
            _after_session(self._session(), wake)
        elif raw.package == ASYNCPG:
            _after_asyncpg(raw.connection, wake)

    def _session(self) -> Any:
        given = self.given() if self._name.endswith("scoped_session") else self.given
        return getattr(given, "sync_session", given)


def require_transactions(store: Component) -> None:
    """Refuse a store that cannot take part in a transaction.

    Raises:
        CapabilityError: it is one.
    """
    if not store.capabilities.transactions:
        raise CapabilityError(
            f"{store!r} has no transactions that a connection of yours could share; enqueue after "
            "your commit, or keep the tasks in PostgreSQL or SQLite, beside your data"
        )


def caller_of(store: Component, connection: object, *, is_async: bool) -> Caller:
    """Return the caller whose connection this is, fit for a call of this face.

    Raises:
        CapabilityError: the store has no transactions.
        ValidationError: it is no connection, or one of the other face.
    """
    require_transactions(store)
    caller = Caller(connection)
    caller.require(is_async=is_async)
    return caller


def unsuspended(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return what a coroutine returns that never waits for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking connection was waited for")


def enqueued_events(tasks: Sequence[Task], stored: Sequence[Inserted]) -> list[TaskEvent]:
    """Return what is to be logged of tasks that were just stored."""
    return [
        TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED)
        for task, item in zip(tasks, stored, strict=True)
        if item.stored
    ]


def refused(raw: Raw, shown: str, kinds: str) -> ValidationError:
    """Return the error for a connection of another kind of database than the tasks'."""
    return ValidationError(
        "connection",
        f"a connection of {raw.package} cannot store tasks kept in {shown}; give one of {kinds}",
    )


def _kind_of(given: object) -> tuple[str, str, bool]:
    for kind in type(given).__mro__:
        package = kind.__module__.partition(".")[0]
        is_async = _KINDS.get((package, kind.__name__))
        if is_async is not None:
            return package, kind.__name__, is_async
    kind = type(given)
    raise ValidationError(
        "connection",
        f"{kind.__module__}.{kind.__qualname__} is no connection known here; give {_ACCEPTED}",
    )


# Noticing the end of a transaction


def _after_session(session: Any, wake: Wake) -> None:
    """Wake after the outermost commit of a session of SQLAlchemy; forget it after a rollback."""
    from sqlalchemy import event

    wakes: list[Wake] = session.info.setdefault(_WAKES, [])
    wakes.append(wake)
    if not event.contains(session, "after_commit", _session_committed):
        event.listen(session, "after_commit", _session_committed)
        event.listen(session, "after_transaction_end", _session_ended)


def _session_committed(session: Any) -> None:
    if session.in_nested_transaction():
        return  # of a savepoint: the whole may still be rolled back
    for wake in session.info.pop(_WAKES, ()):
        wake()


def _session_ended(session: Any, ended: Any) -> None:
    """Forget what was not committed: rolled back, or the session closed without a word."""
    if ended.parent is None:
        session.info.pop(_WAKES, None)


_waiting: WeakKeyDictionary[Any, list[Wake]] = WeakKeyDictionary()


def _after_asyncpg(connection: Any, wake: Wake) -> None:
    """Wake once a connection of asyncpg has left its transaction, whichever way."""
    real: Any = getattr(connection, "_con", None) or connection  # of a pool
    if not real.is_in_transaction():
        wake()
        return
    wakes = _waiting.get(real)
    if wakes is not None:
        wakes.append(wake)
        return
    _waiting[real] = [wake]

    def look(_query: object) -> None:
        if real.is_closed() or not real.is_in_transaction():
            real.remove_query_logger(look)
            for each in _waiting.pop(real, ()):
                each()

    real.add_query_logger(look)
