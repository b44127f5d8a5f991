"""What only PostgreSQL can get wrong: connecting, migrating, waking, noticing death."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from omniq import lifecycle
from omniq.backend.postgres import PostgresBackend
from omniq.clock import utcnow
from omniq.exceptions import ConfigError, SchemaError, StorageError, StorageUnavailableError
from omniq.models.result import TaskResult
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import Change
from omniq.storage.postgres import Database, PostgresQueue, claims
from omniq.storage.postgres import queue as queue_module
from omniq.storage.postgres.schema import migration_sql
from omniq.testing.waiting import wait_until
from tests.servers.postgres import FAST, postgres, postgres_url, schema


@pytest.fixture
async def backend() -> AsyncIterator[PostgresBackend]:
    async with PostgresBackend(postgres_url(), schema=schema()) as opened:
        yield opened


@pytest.fixture
async def observer() -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(postgres_url())
    yield connection
    await connection.close()


def beside(backend: PostgresBackend, **options: Any) -> PostgresBackend:
    """Another backend on the same tables, as another process would have it."""
    return PostgresBackend(postgres_url(), schema=backend.database.tables.schema, **options)


# Connecting


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("postgresql://postgres@127.0.0.1:1/postgres", StorageUnavailableError, "no server"),
        ("{server}/nowhere", StorageError, "create it first"),
        ("{server}/postgres?sslmode=require", StorageError, "sslmode=disable"),
        ("{server}/postgres?surprise=1", StorageError, "neither OmniQ nor the server"),
        (
            "{server}/postgres?default_transaction_read_only=on",
            StorageUnavailableError,
            "read-only",
        ),
    ],
)
async def test_what_cannot_be_opened_says_why(
    url: str, kind: type[StorageError], says: str
) -> None:
    """One typed error at connect, no hang, and nothing left under way."""
    server = postgres_url().rpartition("/")[0]
    queue = PostgresQueue(url.format(server=server), schema=schema())

    async with asyncio.timeout(5):
        with pytest.raises(kind, match=says):
            await queue.connect()

    assert [one for one in asyncio.all_tasks() if one.get_name().startswith("omniq-")] == []


async def test_a_wrong_password_and_a_replica_are_told_at_connect() -> None:
    """One typed error each, without the password; as a server with its own mind gives them."""
    with postgres(*FAST) as server:
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        server.stop()
        server.start()
        url = server.url.replace("postgres@", "postgres:correct-horse@")
        with pytest.raises(StorageError, match="user name or password is wrong") as caught:
            await PostgresQueue(url).connect()
        assert "correct-horse" not in str(caught.value)

        rules.write_text("host all all 127.0.0.1/32 trust\n")
        server.stop()
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        with pytest.raises(StorageUnavailableError, match="read-only replica; connect to the pri"):
            await PostgresQueue(server.url).connect()


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    """A black hole must not hang a program."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        queue = PostgresQueue(f"postgresql://u:secret@127.0.0.1:{port}/d", connect_timeout=0.2)

        with pytest.raises(StorageUnavailableError) as caught:
            await queue.connect()

    assert "secret" not in f"{caught.value}{queue!r}"


async def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building is free; opening needs asyncpg."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(ConfigError, match=r"omniq-tasks\[postgres\]"):
        await PostgresQueue("postgresql://localhost/d").connect()


async def test_without_prepared_statements_everything_works(backend: PostgresBackend) -> None:
    """As behind PgBouncer in transaction mode."""
    async with beside(backend, statement_cache_size=0, direct_dsn=postgres_url()) as other:
        queue = other.get_task_queue()
        await queue.enqueue_many(
            [Task(func="f", id="a"), Task(func="f", id="b", depends_on=("a",))]
        )
        task = await queue.dequeue()
        assert task is not None
        await queue.complete(task)

        assert (await queue.counts())["default"] == {
            TaskStatus.PENDING: 1,
            TaskStatus.COMPLETED: 1,
        }


async def test_a_loop_that_ends_takes_its_connections_along(
    backend: PostgresBackend, observer: asyncpg.Connection[Any]
) -> None:
    """Also when nobody disconnected: no warning, and nothing stays open on the server."""
    other = beside(backend)
    query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query <> ''"
    before = await observer.fetchval(query)

    def in_a_loop_of_its_own() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asyncio.run(other.get_task_queue().enqueue(Task(func="f")))
            gc.collect()

    await asyncio.to_thread(in_a_loop_of_its_own)
    await asyncio.to_thread(in_a_loop_of_its_own)

    async def are_gone() -> bool:
        return bool(await observer.fetchval(query) <= before)

    await wait_until(are_gone, description="the connections of the ended loops are closed")
    assert await backend.get_task_queue().get_queue_size() == 2
    await other.get_task_queue().disconnect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_child_opens_connections_of_its_own(backend: PostgresBackend) -> None:
    """Two processes on one socket would read each other's answers."""
    queue = backend.get_task_queue()
    await queue.enqueue(Task(func="f"))
    child = multiprocessing.get_context("fork").Process(
        target=lambda: queue.enqueue_sync(Task(func="f"))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads
        child.start()
    await asyncio.to_thread(child.join, 20)

    assert child.exitcode == 0
    assert await queue.get_queue_size() == 2


# Migrating


async def test_many_may_create_the_tables_at_once() -> None:
    """Twenty processes of a new installation start together."""
    name = schema()
    backends = [PostgresBackend(postgres_url(), schema=name) for _ in range(20)]

    await asyncio.gather(*(backend.connect() for backend in backends))

    await backends[0].get_task_queue().enqueue(Task(func="f"))
    assert await backends[1].get_task_queue().get_queue_size() == 1
    await asyncio.gather(*(backend.disconnect() for backend in backends))


async def test_without_migrate_missing_tables_are_refused_until_made_by_hand(
    observer: asyncpg.Connection[Any],
) -> None:
    """For those whose application may not change the schema."""
    database = Database(postgres_url(), schema=schema(), migrate=False)
    queue = PostgresQueue(handle=database)

    with pytest.raises(SchemaError, match="migrate-schema"):
        await queue.connect()
    await observer.execute(migration_sql(database.tables))

    await queue.enqueue(Task(func="f"))
    assert await queue.get_queue_size() == 1
    await queue.disconnect()


async def test_tables_of_a_newer_version_are_refused(
    backend: PostgresBackend, observer: asyncpg.Connection[Any]
) -> None:
    """An old program must not write what it does not understand."""
    await observer.execute(f"UPDATE {backend.database.tables.meta} SET value = 99")
    other = beside(backend)

    with pytest.raises(SchemaError, match="upgrade"):
        await other.connect()
    await other.disconnect()


# Waking


async def test_another_process_is_woken_by_a_notification(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds of waits, without any poll."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(queue_module, "POLL_UNHEARD_SECONDS", 3600.0)
    here = backend.get_task_queue()
    async with beside(backend) as other:
        there = other.get_task_queue()
        async with asyncio.timeout(10):
            taken = asyncio.create_task(there.dequeue(timeout=3600))
            await wait_until(lambda: _hears(other), description="the other listens")
            task_id = await here.enqueue(Task(func="f"))
            task = await taken
            assert task is not None
            assert task.id == task_id

            ended = asyncio.create_task(here.wait_final([task_id], 3600))
            await wait_until(lambda: _hears(backend), description="this one listens")
            await there.complete(task)
            await ended


def _hears(backend: PostgresBackend) -> bool:
    listener = backend.database.listener()
    return listener is not None and listener.hears


async def test_a_lost_listening_connection_is_made_anew(
    backend: PostgresBackend, observer: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits looks again then: an announcement may have been missed."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(queue_module, "POLL_UNHEARD_SECONDS", 3600.0)
    queue = backend.get_task_queue()
    taken = asyncio.create_task(queue.dequeue(timeout=3600))
    await wait_until(lambda: _hears(backend), description="it listens")

    others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
    await observer.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    async with beside(backend, listen=False) as silent:  # announces nothing
        await silent.get_task_queue().enqueue(Task(func="f"))

    async with asyncio.timeout(10):
        assert await taken is not None


async def test_without_listening_waits_are_polls(backend: PostgresBackend) -> None:
    """And the backend says that it promises less."""
    async with beside(backend, listen=False) as other:
        queue = other.get_task_queue()
        assert not queue.capabilities.wakes
        assert not queue.capabilities.detects_death
        taken = asyncio.create_task(queue.dequeue(timeout=60))
        await backend.get_task_queue().enqueue(Task(func="f"))

        async with asyncio.timeout(10):
            assert await taken is not None
        assert await queue.end_dead_leases() == []


# Death


def _claim_and_hang(url: str, name: str, ready: Any) -> None:
    async def main() -> None:
        queue = PostgresQueue(url, schema=name)
        await queue.announce("victim")
        await queue.claim(["default"], worker_id="victim", lease_token="t", lease_seconds=3600)
        ready.set()
        await asyncio.sleep(3600)

    asyncio.run(main())


async def test_the_leases_of_a_killed_process_end_within_seconds(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is gone, and its lock with it; a live worker and one that left are spared."""
    monkeypatch.setattr(claims, "GRACE_AFTER_START_SECONDS", 0.0)
    name = backend.database.tables.schema
    await backend.get_task_queue().enqueue(Task(func="f"))
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_claim_and_hang, args=(postgres_url(), name, ready))
    process.start()
    assert await asyncio.to_thread(ready.wait, 30)
    async with beside(backend) as other:
        queue = other.get_task_queue()
        await queue.announce("alive")
        await queue.announce("gone")
        await queue.withdraw("gone")
        assert await queue.end_dead_leases() == []
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.join)
        dead: list[str] = []

        async def is_buried() -> bool:
            dead.extend(await queue.end_dead_leases())
            return bool(dead)

        await wait_until(is_buried, description="the victim is buried", timeout=10)

        assert dead == ["victim"]
        task = await queue.dequeue()
        assert task is not None
        assert task.lost_leases == 1
        assert await queue.end_dead_leases() == []


# Finishing


async def test_results_and_states_are_written_in_one_statement(backend: PostgresBackend) -> None:
    """Also where one task has dependants and one is lost."""
    queue, results = backend.get_task_queue(), backend.get_result_storage()
    await queue.insert(
        [Task(func="f", id=name, queue_name="q") for name in "abc"]
        + [Task(func="f", id="child", depends_on=("b",))]
    )
    claimed = await queue.claim(["q"], worker_id="w", lease_token="t", limit=3)
    await queue.release(claimed[2])
    changes = [
        Change(task, lifecycle.settle(task, lifecycle.Completed(), utcnow())) for task in claimed
    ]
    values = [TaskResult(task_id=task.id, result=1, claim_count=1) for task in claimed]

    assert await queue.finish(changes, values, results) == [True, True, False]

    assert [item.task_id for item in await results.list_results()] == ["a", "b", "c"]
    child = await queue.get_task("child")
    assert child is not None
    assert child.status is TaskStatus.PENDING
