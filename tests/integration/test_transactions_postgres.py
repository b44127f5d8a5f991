"""A caller's transaction in PostgreSQL: locks, snapshots, servers, and waking after the commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from omniq import OmniQ, Task
from omniq.exceptions import CapabilityError, TaskExistsError, ValidationError
from omniq.storage.postgres import Database, PostgresQueue
from omniq.storage.postgres import queue as queue_module
from omniq.storage.postgres.wake import Wakes
from omniq.testing.waiting import wait_until
from tests.integration.callers import POSTGRES, Unit
from tests.servers.postgres import FAST, postgres, postgres_url, schema


@pytest.fixture
async def app() -> AsyncIterator[OmniQ]:
    async with OmniQ(f"{postgres_url()}?schema={schema()}") as opened:
        yield opened


@pytest.fixture
async def connection() -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(postgres_url())
    yield opened
    await opened.close()


async def held_up(app: OmniQ, connection: Any) -> bool:
    """Whether this connection waits for a lock of another one."""
    blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
    observer = await asyncpg.connect(postgres_url())
    try:
        return bool(await observer.fetchval(blocked, connection.get_server_pid()))
    finally:
        await observer.close()


# Locks and snapshots


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_key_in_an_open_transaction_is_waited_for(
    app: OmniQ, connection: asyncpg.Connection[Any], end: str
) -> None:
    """Who comes second learns which of the two is to stand when the first has decided."""
    async with POSTGRES["asyncpg"](postgres_url()) as first, connection.transaction():
        (standing,) = await first.enqueue(app, Task(func="f", unique_key="k"))
        second = asyncio.create_task(
            app.enqueue_task(Task(func="f", unique_key="k"), connection=connection)
        )
        await wait_until(lambda: held_up(app, connection), description="the second is held up")
        await getattr(first, end)()
        handle = await second

    assert (handle == standing) is (end == "commit")
    assert [task.id for task in await app.list_tasks()] == [handle.id]


async def test_a_lock_timeout_leaves_the_transaction_usable(
    app: OmniQ, connection: asyncpg.Connection[Any]
) -> None:
    """Who does not want to wait for another's key says so to the server."""
    async with POSTGRES["asyncpg"](postgres_url()) as first:
        await first.enqueue(app, Task(func="f", unique_key="k"))
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '50ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await app.enqueue_task(Task(func="f", unique_key="k"), connection=connection)
            await app.enqueue_task(Task(func="f", id="mine"), connection=connection)

    assert [task.id for task in await app.list_tasks()] == ["mine"]


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_strict_isolation_says_what_must_be_run_again(
    app: OmniQ, connection: asyncpg.Connection[Any], isolation: Any
) -> None:
    """A key taken since the snapshot cannot be looked at: the driver's own error says so."""
    failures = 0
    handle = None
    while handle is None:
        try:
            async with connection.transaction(isolation=isolation):
                await connection.fetchval("SELECT count(*) FROM pg_class")  # the snapshot
                if not failures:
                    await app.enqueue_task(Task(func="f", id="first", unique_key="k"))
                handle = await app.enqueue_task(
                    Task(func="f", unique_key="k"), connection=connection
                )
        except asyncpg.SerializationError:
            failures += 1
            assert failures < 10  # others of the server may get in the way of a repetition, too

    assert failures
    assert handle.id == "first"


async def test_an_id_taken_since_the_snapshot_is_known(
    app: OmniQ, connection: asyncpg.Connection[Any]
) -> None:
    """It has even ended, unseen; the transaction is none the worse for asking."""
    async with connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT count(*) FROM pg_class")
        await app.enqueue_task(Task(func="f", id="known"))
        await app.cancel("known")

        with pytest.raises(TaskExistsError, match="cannot see"):
            await app.enqueue_task(Task(func="f", id="known"), connection=connection)
        await app.enqueue_task(Task(func="f", id="other"), connection=connection)

    assert [task.id for task in await app.list_tasks()] == ["known", "other"]


# Connections that commit by themselves


async def test_outside_of_a_transaction_it_is_one_of_its_own(
    app: OmniQ, connection: asyncpg.Connection[Any]
) -> None:
    """Of asyncpg and psycopg alike; the connection is left as it was."""
    await app.enqueue_task(Task(func="f", id="a"), connection=connection)
    assert not connection.is_in_transaction()
    with pytest.raises(TaskExistsError):
        await app.enqueue_task(Task(func="f", id="a"), connection=connection)
    assert not connection.is_in_transaction()

    async with await psycopg.AsyncConnection.connect(postgres_url(), autocommit=True) as other:
        await app.enqueue_task(Task(func="f", id="b"), connection=other)
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        async with other.transaction():
            await app.enqueue_task(Task(func="f", id="c"), connection=other)
            assert await app.get_task("c") is None

    assert [task.id for task in await app.list_tasks()] == ["a", "b", "c"]


# Elsewhere


async def test_another_database_is_refused(app: OmniQ, connection: asyncpg.Connection[Any]) -> None:
    """Also one that has the same tables: a task stored there would never run."""
    name = schema()
    await connection.execute(f'CREATE DATABASE "{name}"')
    url = postgres_url().rpartition("/")[0] + f"/{name}"
    tables = _database(app).tables
    async with PostgresQueue(url, schema=tables.schema) as twin:
        for kind in ("asyncpg", "AsyncSession over psycopg"):
            async with POSTGRES[kind](url) as unit:
                with pytest.raises(ValidationError, match="leads to another") as caught:
                    await unit.enqueue(app, Task(func="f"))
                assert caught.value.field == "connection"
                await unit.rollback()
        assert await twin.counts() == {}
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


async def test_a_connection_to_sqlite_is_refused(app: OmniQ) -> None:
    """The two kinds of SQL stores are not mixed up."""
    engine = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(engine) as session:
        with pytest.raises(ValidationError, match="aiosqlite cannot store tasks kept in postgres"):
            await app.enqueue_task(Task(func="f"), connection=session)
    await engine.dispose()


async def test_a_server_that_was_restarted_is_the_same() -> None:
    """What tells servers apart changes then; we look again before we refuse."""
    with postgres(*FAST) as server:
        async with OmniQ(server.url) as app:
            await app.enqueue_task(Task(func="f", id="before"))
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)

            async with POSTGRES["asyncpg"](server.url) as unit:
                await unit.enqueue(app, Task(func="f", id="after"))
                await unit.commit()

            assert await app.queue_size() == 2


def test_other_stores_say_what_to_do_instead() -> None:
    """A promise a store cannot keep is refused, never forgotten."""
    connection = sqlite3.connect(":memory:")

    with pytest.raises(CapabilityError, match="after your commit"):
        OmniQ("memory://").enqueue_task_sync(Task(func="f"), connection=connection)
    connection.close()


# Waking


@pytest.mark.parametrize(
    "kind", ["asyncpg", "asyncpg pool", "AsyncConnection in use", "Session over psycopg"]
)
async def test_a_commit_wakes_who_waits(
    app: OmniQ, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a poll, where asyncpg or a session of SQLAlchemy tells of the commit."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    async with (
        OmniQ(f"{postgres_url()}?schema={_schema_of(app)}") as other,
        POSTGRES[kind](postgres_url()) as unit,
    ):
        waiting = asyncio.create_task(other.task_queue.dequeue(timeout=3600))
        await wait_until(lambda: _hears(other), description="the other listens")

        (handle,) = await unit.enqueue(app, Task(func="f"))
        await unit.commit()

        async with asyncio.timeout(10):
            task = await waiting
    assert task is not None
    assert task.id == handle.id


async def test_a_connection_that_commits_by_itself_wakes_at_once(
    app: OmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of psycopg too: nobody else's commit is to come, and none of a session may be waited for."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    engine = create_async_engine(
        postgres_url().replace("postgresql", "postgresql+psycopg", 1), isolation_level="AUTOCOMMIT"
    )
    async with (
        await psycopg.AsyncConnection.connect(postgres_url(), autocommit=True) as bare,
        AsyncSession(engine) as session,
    ):
        for connection in (bare, session):
            waiting = asyncio.create_task(app.task_queue.dequeue(timeout=3600))
            await wait_until(lambda: _hears(app), description="it listens")
            handle = await app.enqueue_task(Task(func="f"), connection=connection)
            async with asyncio.timeout(10):
                task = await waiting
            assert task is not None
            assert task.id == handle.id
    await engine.dispose()


async def test_nothing_is_announced_within_the_transaction(app: OmniQ, unit: Unit) -> None:
    """A NOTIFY there would take a lock of the whole database at the caller's commit."""
    listener = await asyncpg.connect(postgres_url())
    heard: list[str] = []
    channel = _database(app)._channels.ready  # pyright: ignore[reportPrivateUsage] - to hear it

    def hear(_connection: object, _pid: int, _channel: str, message: object) -> None:
        heard.append(str(message))

    await listener.add_listener(channel, hear)
    pid = unit.connection.get_server_pid()

    await unit.enqueue(app, Task(func="f"))
    query = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND objid = 0 AND classid = 1262"
    assert heard == []
    await unit.commit()
    await wait_until(lambda: bool(heard), description="the announcement after the commit")

    assert await listener.fetchval(query, pid) == 0
    await listener.close()


@pytest.fixture
async def unit(app: OmniQ) -> AsyncIterator[Unit]:
    async with POSTGRES["asyncpg"](postgres_url()) as opened:
        yield opened


async def test_a_savepoint_of_a_session_does_not_use_up_the_wake(
    app: OmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its release is told as a commit too; the one that counts comes later."""
    announced: list[bool] = []
    seen: list[int] = []

    def announce(_database: Database, wakes: Wakes) -> None:
        announced.append(bool(wakes.ready))

    monkeypatch.setattr(Database, "announce_late", announce)
    engine = create_async_engine(postgres_url().replace("postgresql", "postgresql+asyncpg", 1))
    async with AsyncSession(engine) as session:
        async with session.begin_nested():
            await app.enqueue_task(Task(func="f"), connection=session)
        seen.append(len(announced))
        await session.commit()
        seen.append(len(announced))
        await app.enqueue_task(Task(func="f"), connection=session)
        await session.rollback()
        await session.commit()
        seen.append(len(announced))
        await app.enqueue_task(Task(func="f"), connection=session)
        await session.close()
        await session.commit()
        seen.append(len(announced))
    await engine.dispose()

    assert seen == [0, 1, 1, 1]


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql+asyncpg"])
async def test_a_connection_that_streams_its_rows_will_do(app: OmniQ, scheme: str) -> None:
    """Options of the caller's for reading are none of ours."""
    engine = create_async_engine(
        postgres_url().replace("postgresql", scheme, 1), execution_options={"stream_results": True}
    )
    async with engine.begin() as connection:
        handle = await app.enqueue_task(Task(func="f"), connection=connection)
    await engine.dispose()

    assert [task.id for task in await app.list_tasks()] == [handle.id]


async def test_a_session_over_another_driver_is_refused(app: OmniQ) -> None:
    """The message names what lies below the session."""
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")

    def run() -> None:
        with Session(engine) as session:
            app.enqueue_task_sync(Task(func="f"), connection=session)

    with pytest.raises(ValidationError, match="sqlite3 cannot store tasks kept in postgres"):
        await asyncio.to_thread(run)
    engine.dispose()


def _database(app: OmniQ) -> Database:
    queue = app.task_queue
    assert isinstance(queue, PostgresQueue)
    return queue._db  # pyright: ignore[reportPrivateUsage] - the handle below the queue


def _schema_of(app: OmniQ) -> str:
    return _database(app).tables.schema


def _hears(app: OmniQ) -> bool:
    listener = _database(app).listener()
    return listener is not None and listener.hears
