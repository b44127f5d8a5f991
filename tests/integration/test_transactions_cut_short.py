"""Calls within a caller's transaction in PostgreSQL that are cut short, and what is left then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest

from omniq import OmniQ, Task
from omniq.exceptions import ValidationError
from omniq.storage.postgres import callers
from omniq.testing.waiting import wait_until
from tests.integration.callers import POSTGRES, Unit
from tests.integration.conftest import events_of
from tests.servers.postgres import postgres_url, schema
from tests.servers.proxy import proxy

KINDS = ["asyncpg", "psycopg async"]


@pytest.fixture
async def app() -> AsyncIterator[OmniQ]:
    async with OmniQ(f"{postgres_url()}?schema={schema()}") as opened:
        yield opened


@pytest.fixture
async def observer() -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(postgres_url())
    yield opened
    await opened.close()


@pytest.fixture
async def holder(app: OmniQ) -> AsyncIterator[Unit]:
    """Whose transaction holds the key ``k`` until the test is over."""
    async with POSTGRES["asyncpg"](postgres_url()) as unit:
        await unit.enqueue(app, Task(func="f", unique_key="k"))
        yield unit


async def test_a_timeout_of_the_driver_leaves_the_transaction_usable(
    app: OmniQ, holder: Unit
) -> None:
    """Its connection is alive: what was done so far can be committed, and this call was not."""
    connection: Any = await asyncpg.connect(postgres_url(), command_timeout=0.5)
    async with connection.transaction():
        await app.enqueue_task(Task(func="f", id="before"), connection=connection)
        with pytest.raises(TimeoutError):
            await app.enqueue_tasks(
                [Task(func="f", id="half"), Task(func="f", unique_key="k")], connection=connection
            )
        await app.enqueue_task(Task(func="f", id="after"), connection=connection)
    await connection.close()

    assert [task.id for task in await app.list_tasks()] == ["after", "before"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_call_leaves_no_trace(
    app: OmniQ, holder: Unit, observer: asyncpg.Connection[Any], kind: str
) -> None:
    """Who gave up waiting for a key can still commit the rest."""
    async with POSTGRES[kind](postgres_url()) as unit:
        await unit.enqueue(app, Task(func="f", id="before"))
        call = asyncio.create_task(
            unit.enqueue(app, Task(func="f", id="half"), Task(func="f", unique_key="k"))
        )
        await wait_until(lambda: _held_up(observer, unit.connection), description="it waits")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await unit.enqueue(app, Task(func="f", id="after"))
        await unit.commit()

    assert [task.id for task in await app.list_tasks()] == ["after", "before"]


async def _autocommitting(kind: str) -> Any:
    if kind == "asyncpg":
        return await asyncpg.connect(postgres_url())
    return await psycopg.AsyncConnection.connect(postgres_url(), autocommit=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_call_leaves_no_transaction_open(
    app: OmniQ, holder: Unit, observer: asyncpg.Connection[Any], kind: str
) -> None:
    """On a connection that commits by itself; it goes on doing so."""
    connection = await _autocommitting(kind)
    call = asyncio.create_task(
        app.enqueue_tasks(
            [Task(func="f", id="half"), Task(func="f", unique_key="k")], connection=connection
        )
    )
    await wait_until(lambda: _held_up(observer, connection), description="it waits")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await app.enqueue_task(Task(func="f", id="after"), connection=connection)

    assert [task.id for task in await app.list_tasks()] == ["after"]
    await connection.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_own", [False, True], ids=["part of one", "its own"])
async def test_cancelled_at_any_moment_it_is_all_or_nothing(
    app: OmniQ, kind: str, is_own: bool
) -> None:
    """Also between the statements around it: task and event, or neither; the connection goes on."""
    connection = await _autocommitting(kind)
    for ticks in range(60):
        if not is_own:
            await connection.execute("BEGIN")
        call = asyncio.create_task(
            app.enqueue_task(Task(func="f", id=f"t{ticks}"), connection=connection)
        )
        for _ in range(ticks):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await app.enqueue_task(Task(func="f", id=f"after{ticks}"), connection=connection)
        if not is_own:
            await connection.execute("COMMIT")

        stored = await app.get_task(f"t{ticks}") is not None
        assert stored or call.cancelled()
        assert await events_of(app, f"t{ticks}") == (["ENQUEUED"] if stored else [])
        assert await app.get_task(f"after{ticks}") is not None
    await connection.close()


async def test_an_undo_without_an_answer_closes_the_connection(
    app: OmniQ,
    holder: Unit,
    observer: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What could not be taken back must not be committed; nor is it waited for without end."""
    monkeypatch.setattr(callers, "UNDO_SECONDS", 0.1)
    parts = urlsplit(postgres_url())
    async with proxy(parts.port or 5432) as tunnel:
        connection: Any = await asyncpg.connect(
            parts._replace(netloc=f"postgres@127.0.0.1:{tunnel.port}").geturl()
        )
        await connection.execute("BEGIN")
        call = asyncio.create_task(
            app.enqueue_tasks(
                [Task(func="f", id="half"), Task(func="f", unique_key="k")], connection=connection
            )
        )
        await wait_until(lambda: _held_up(observer, connection), description="it waits")
        tunnel.silent = True
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert connection.is_closed()
        tunnel.silent = False

        with pytest.raises(asyncpg.InterfaceError, match="closed"):
            await connection.execute("COMMIT")
    await holder.rollback()
    assert await app.list_tasks() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lost_connection_is_told_as_the_driver_tells_it(
    app: OmniQ, holder: Unit, observer: asyncpg.Connection[Any], kind: str
) -> None:
    """Not as a savepoint that could not be rolled back: a loop around the transaction looks."""
    told = {
        "asyncpg": asyncpg.ConnectionDoesNotExistError,
        "psycopg async": psycopg.errors.AdminShutdown,
    }
    connection = await _autocommitting(kind)
    await connection.execute("BEGIN")
    call = asyncio.create_task(
        app.enqueue_task(Task(func="f", unique_key="k"), connection=connection)
    )
    await wait_until(lambda: _held_up(observer, connection), description="it waits")
    await observer.execute("SELECT pg_terminate_backend($1)", _pid(connection))

    with pytest.raises(told[kind]):
        await call
    await connection.close()


async def test_pipeline_mode_of_psycopg_is_refused(app: OmniQ) -> None:
    """No answer can be looked at there; the connection is fine once the pipeline has ended."""
    async with await psycopg.AsyncConnection.connect(postgres_url()) as connection:
        async with connection.pipeline():
            with pytest.raises(ValidationError, match="pipeline mode"):
                await app.enqueue_task(Task(func="f"), connection=connection)
        handle = await app.enqueue_task(Task(func="f"), connection=connection)

    assert [task.id for task in await app.list_tasks()] == [handle.id]


def _pid(connection: Any) -> int:
    if isinstance(connection, asyncpg.Connection):
        return int(connection.get_server_pid())
    return int(connection.info.backend_pid)


async def _held_up(observer: asyncpg.Connection[Any], connection: Any) -> bool:
    """Whether this connection waits for a lock of another one."""
    blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
    return bool(await observer.fetchval(blocked, _pid(connection)))
