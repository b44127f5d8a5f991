"""PostgreSQL behind PgBouncer in transaction mode: sessions are shared, LISTEN goes past it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import psycopg
import pytest

from omniq import OmniQ, Task
from omniq.backend.postgres import PostgresBackend
from omniq.exceptions import StorageUnavailableError
from omniq.storage.postgres import queue as queue_module
from omniq.testing.waiting import wait_until
from omniq.worker import Worker
from tests.integration.conftest import events_of
from tests.servers.pgbouncer import pgbouncer_url, running_pgbouncer
from tests.servers.postgres import postgres_url, schema


def behind(url: str, **options: object) -> OmniQ:
    """An application behind this pooler, with a direct way to listen."""
    given = {"schema": schema(), "direct_dsn": postgres_url(), **options}
    return OmniQ(backend=PostgresBackend(url, statement_cache_size=0, **given))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - options of any kind


@pytest.fixture
async def app() -> AsyncIterator[OmniQ]:
    async with behind(pgbouncer_url()) as opened:
        yield opened


async def test_a_worker_runs_what_there_is(app: OmniQ) -> None:
    """Claims, heartbeats, results and events, all at once on the few sessions there are."""

    @app.task
    async def square(number: int) -> int:
        if number % 10 == 0:
            raise ValueError(number)
        return number * number

    handles = await square.enqueue_many([(number,) for number in range(1, 200)])
    await Worker(app, burst=True, cleanup=False, schedules=False, concurrency=50).run()

    results = [await handle.task() for handle in handles]
    good = [task.id for task in results if task.status == "completed"]
    bad = [task.id for task in results if task.status == "failed"]
    assert (len(good), len(bad)) == (180, 19)
    assert await handles[1].result() == 4
    assert await events_of(app, handles[1].id) == ["ENQUEUED", "STARTED", "COMPLETED"]


async def test_wake_ups_go_past_the_pooler(app: OmniQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that listens belongs to one client; the direct way gives it one."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    waiting = asyncio.create_task(app.task_queue.dequeue(timeout=3600))
    backend = app.task_queue.versioned_schema
    name = getattr(backend, "tables").schema  # noqa: B009 - of PostgreSQL
    async with behind(pgbouncer_url(), schema=name) as other:
        await other.connect()
        listener = getattr(backend, "listener")()  # noqa: B009 - of PostgreSQL
        await wait_until(lambda: bool(listener.hears), description="somebody listens")
        handle = await other.enqueue_task(Task(func="f"))
        async with asyncio.timeout(10):
            task = await waiting

    assert task is not None
    assert task.id == handle.id


async def test_without_a_direct_way_waits_are_polls() -> None:
    """Nothing needs a session of its own then."""
    async with behind(pgbouncer_url(), direct_dsn=None, listen=False) as app:
        taken = asyncio.create_task(app.task_queue.dequeue(timeout=30))
        handle = await app.enqueue_task(Task(func="f"))
        task = await taken

    assert task is not None
    assert task.id == handle.id


async def test_a_pooler_that_was_restarted_is_found_again() -> None:
    """Its clients lose their connections; the next calls make new ones."""
    with running_pgbouncer(postgres_url()) as pooler:
        async with behind(pooler.url) as app:
            await app.enqueue_task(Task(func="f"))
            await asyncio.to_thread(pooler.kill)
            with pytest.raises(StorageUnavailableError):
                await app.queue_size()
            await asyncio.to_thread(pooler.start)

            assert await app.queue_size() == 1


async def test_a_transaction_of_the_caller_s_goes_through_as_well(app: OmniQ) -> None:
    """It holds its session until the commit; which one that is does not matter."""
    connection = await asyncpg.connect(pgbouncer_url(), statement_cache_size=0)
    async with connection.transaction():
        await app.enqueue_task(Task(func="f", unique_key="k"), connection=connection)
        assert await app.list_tasks() == []
    await connection.close()
    other = await psycopg.AsyncConnection.connect(pgbouncer_url(), prepare_threshold=None)
    async with other:
        await app.enqueue_task(Task(func="f", unique_key="k"), connection=other)
        await app.enqueue_task(Task(func="f"), connection=other)

    assert await app.queue_size() == 2
