"""PostgreSQL when things go wrong: servers that die, lost answers, races; and its query plans."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import pytest

from omniq import lifecycle
from omniq.backend.postgres import PostgresBackend
from omniq.clock import utcnow
from omniq.exceptions import StorageUnavailableError
from omniq.models.event import EventType, TaskEvent
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import Change, Inserted, Lease
from omniq.storage.postgres import (
    Database,
    PostgresEventStorage,
    PostgresQueue,
    client,
    listener,
)
from omniq.storage.postgres import queue as queue_module
from omniq.storage.postgres.claims import GRACE_SECONDS, ClaimStatements
from omniq.storage.postgres.client import PLANS
from omniq.storage.postgres.inserts import TaskInserts
from omniq.storage.postgres.rows import task_codec
from omniq.storage.postgres.schema import lock_key, tables
from omniq.storage.postgres.statements import WriteStatements
from omniq.storage.postgres.wake import Wakes
from omniq.testing.waiting import wait_until
from tests.servers.postgres import DURABLE, postgres, postgres_url, schema
from tests.servers.proxy import Proxy, proxy


@pytest.fixture
async def backend() -> AsyncIterator[PostgresBackend]:
    async with PostgresBackend(postgres_url(), schema=schema()) as opened:
        yield opened


@pytest.fixture
async def tunnel() -> AsyncIterator[Proxy]:
    async with proxy(urlsplit(postgres_url()).port or 5432) as opened:
        yield opened


# Servers and connections


async def test_a_killed_server_loses_nothing_acknowledged() -> None:
    """It comes back on the same data, and everybody goes on without a restart."""
    with postgres(*DURABLE) as server:
        async with PostgresQueue(server.url) as queue:
            waiting = asyncio.create_task(queue.dequeue("other", timeout=60))
            ids = await queue.enqueue_many([Task(func="f") for _ in range(50)])
            held = await queue.claim(["default"], worker_id="w", lease_token="t", limit=10)
            server.kill()
            with pytest.raises(StorageUnavailableError):
                await queue.counts()
            with pytest.raises(StorageUnavailableError):
                await waiting
            server.start()

            async def is_back() -> bool:
                try:
                    return (await queue.get_queue_size()) == 40
                except StorageUnavailableError:
                    return False

            await wait_until(is_back, description="the server recovered", timeout=20)
            waiting = asyncio.create_task(queue.dequeue("other", timeout=60))
            done = lifecycle.Completed()
            changes = [Change(task, lifecycle.settle(task, done, utcnow())) for task in held]
            assert all(await queue.swap(changes))
            assert [task.id for task in await queue.list_tasks()] == sorted(ids)
            await queue.enqueue(Task(func="f", queue_name="other"))
            async with asyncio.timeout(10):
                assert await waiting is not None


async def test_a_lost_answer_to_an_enqueue_leaves_exactly_one_task(
    backend: PostgresBackend, tunnel: Proxy
) -> None:
    """The task was stored, the connection died before we heard of it: it is recognised."""
    name = backend.database.tables.schema
    url = f"postgresql://postgres@127.0.0.1:{tunnel.port}/postgres"
    async with PostgresQueue(url, schema=name, listen=False, pool_size=1) as queue:
        await queue.enqueue(Task(func="warm"))
        tunnel.replies_to_lose = 1
        for task in (Task(func="f"), Task(func="g", unique_key="k")):
            assert await queue.enqueue(task) == task.id
            tunnel.replies_to_lose = 1
        tunnel.replies_to_lose = 0

        assert Counter(task.func for task in await queue.list_tasks()) == Counter("fg") + Counter(
            {"warm": 1}
        )


async def test_a_lost_answer_to_a_logged_insert_leaves_exactly_one_task(
    backend: PostgresBackend, tunnel: Proxy
) -> None:
    """Task and event are one statement; when its answer is lost, both are recognised."""
    name = backend.database.tables.schema
    url = f"postgresql://postgres@127.0.0.1:{tunnel.port}/postgres"
    handle = Database(url, schema=name, listen=False, pool_size=1)
    queue, events = PostgresQueue(handle=handle), PostgresEventStorage(handle=handle)
    async with queue, events:
        assert queue.logs_with(events)
        for lost in (0, 1):  # the statement must be prepared before
            task = Task(func="f")
            event = TaskEvent(task_id=task.id, event_type=EventType.ENQUEUED)
            tunnel.replies_to_lose = lost
            assert await queue.insert_logged([task], [event], events) == [(task.id, True)]
            assert await events.get_events(task.id) == [event]

        assert await queue.counts() == {"default": {TaskStatus.PENDING: 2}}


async def test_a_live_worker_takes_its_lock_before_it_counts_as_dead(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost session of its own may hold it until the server notices, at any moment."""
    monkeypatch.setattr(listener, "HOLD_SECONDS", 0.1)
    key = lock_key(backend.database.tables, "worker", "w")
    lost, onlooker = [await asyncpg.connect(postgres_url()) for _ in range(2)]

    async def is_held() -> bool:
        look = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND (classid::bigint << 32 | objid::bigint) = $1"
        )
        return bool(await onlooker.fetchval(look, key))

    try:
        await lost.execute("SELECT pg_advisory_lock($1)", key)
        await backend.get_task_queue().announce("w")
        await lost.close()

        await wait_until(is_held, description="it has its lock", timeout=GRACE_SECONDS)
    finally:
        await onlooker.close()


async def test_a_half_open_connection_is_noticed(
    backend: PostgresBackend, tunnel: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a call nor the connection that listens waits for ever."""
    monkeypatch.setattr(client, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(listener, "PING_SECONDS", 0.2)
    monkeypatch.setattr(listener, "PING_DEADLINE_SECONDS", 0.3)
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(queue_module, "POLL_UNHEARD_SECONDS", 3600.0)
    name = backend.database.tables.schema
    url = f"postgresql://postgres@127.0.0.1:{tunnel.port}/postgres"
    handle = Database(url, schema=name, command_timeout=0.5, connect_timeout=0.5)
    async with PostgresQueue(handle=handle) as queue:
        taken = asyncio.create_task(_taken(queue))
        ears = handle.listener()
        assert ears is not None
        await wait_until(lambda: ears.hears, description="it listens")
        tunnel.silent = True
        for call in (queue.paused, queue.counts):
            with pytest.raises(StorageUnavailableError, match="in time"):
                await call()
        await wait_until(lambda: not ears.hears, description="the listener noticed")
        await backend.get_task_queue().enqueue(Task(func="f"))
        tunnel.silent = False

        async with asyncio.timeout(10):
            await taken


async def _taken(queue: PostgresQueue) -> Task:
    """Wait for a task through all errors, as a worker does."""
    while True:
        with suppress(StorageUnavailableError):
            task = await queue.dequeue(timeout=3600)
            assert task is not None
            return task


# Races


async def test_each_task_is_claimed_once_and_in_order(backend: PostgresBackend) -> None:
    """Eight claimers on connections of their own."""
    queue = backend.get_task_queue()
    for start in range(0, 2000, 1000):
        await queue.insert([Task(func="f", id=f"t{n:04}") for n in range(start, start + 1000)])
    taken: list[str] = []

    async def drain(worker: str) -> None:
        async with PostgresQueue(postgres_url(), schema=_schema(backend)) as own:
            while tasks := await own.claim(
                ["default"], worker_id=worker, lease_token=worker, limit=random.randint(1, 40)
            ):
                ids = [task.id for task in tasks]
                assert ids == sorted(ids)
                taken.extend(ids)

    await asyncio.gather(*(drain(f"w{n}") for n in range(8)))

    assert sorted(taken) == [f"t{n:04}" for n in range(2000)]


async def test_an_id_and_a_unique_key_are_taken_once(backend: PostgresBackend) -> None:
    """Many clients insert the same tasks in different orders at once: no deadlock, one winner."""
    queue = backend.get_task_queue()
    names = [f"t{n}" for n in range(30)]

    async def insert_all(client: int) -> list[Inserted]:
        order = random.sample(names, len(names))
        tasks = [Task(func="f", id=name) for name in order]
        tasks += [Task(func="f", id=f"{name}-{client}", unique_key=name) for name in order]
        return await queue.insert(random.sample(tasks, len(tasks)))

    answers = await asyncio.gather(*(insert_all(n) for n in range(12)))

    stored = Counter(item.task_id for answer in answers for item in answer if item.stored)
    assert set(stored.values()) == {1}
    assert len(stored) == 60
    assert {item.task_id for answer in answers for item in answer} == set(stored)
    assert await queue.get_queue_size() == 60


async def test_heartbeats_and_settles_of_the_same_tasks_do_not_block_each_other(
    backend: PostgresBackend,
) -> None:
    """They lock the same rows in whatever order they come."""
    queue = backend.get_task_queue()
    await queue.insert([Task(func="f", id=f"t{n:03}") for n in range(200)])
    held = await queue.claim(["default"], worker_id="w", lease_token="t", limit=200)
    leases = [Lease(task.id, task.claim_count, "t") for task in held]

    async def beat() -> None:
        for _ in range(20):
            await queue.extend(random.sample(leases, len(leases)))

    async def settle(part: list[Task]) -> list[bool]:
        done = [
            Change(task, lifecycle.settle(task, lifecycle.Completed(), utcnow())) for task in part
        ]
        return await queue.swap(random.sample(done, len(done)))

    async def settle_all() -> list[bool]:
        order = random.sample(held, len(held))
        answers = await asyncio.gather(
            *(settle(order[start : start + 40]) for start in range(0, 200, 40))
        )
        return [ok for answer in answers for ok in answer]

    _, _, won = await asyncio.gather(beat(), beat(), settle_all())

    assert all(won)


async def test_no_child_is_forgotten_while_its_parent_ends(backend: PostgresBackend) -> None:
    """Inserting a child and finishing its parent race; in whatever order, it becomes ready."""
    queue = backend.get_task_queue()
    async with PostgresQueue(postgres_url(), schema=_schema(backend)) as other:
        for n in range(60):
            parent = Task(func="p", id=f"p{n}", queue_name="parents")
            await queue.enqueue(parent)
            run = await queue.dequeue("parents")
            assert run is not None
            children = [Task(func="c", id=f"c{n}-{k}", depends_on=(parent.id,)) for k in range(3)]
            await asyncio.gather(queue.complete(run), *(other.insert([c]) for c in children))

    assert (await queue.counts())["default"] == {TaskStatus.PENDING: 180}


class LookingTwice:
    """A connection on which something happens before the finished tasks are asked for."""

    def __init__(self, connection: asyncpg.Connection[Any], looks: str) -> None:
        self._connection, self._looks = connection, looks
        self.between: Callable[[], Awaitable[object]] | None = None

    async def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        if query == self._looks and self.between is not None:
            between, self.between = self.between, None
            await between()
        return await self._connection.fetch(query, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_a_parent_that_is_brought_back_to_life_is_waited_for(
    backend: PostgresBackend,
) -> None:
    """Between the look among the live tasks and that among the finished ones it is in neither."""
    queue, sql = backend.get_task_queue(), WriteStatements(backend.database.tables)
    inserts = TaskInserts(backend.database, task_codec(), sql)
    await queue.enqueue(Task(func="p", id="p"))
    run = await queue.dequeue()
    assert run is not None
    await queue.complete(run)
    connection = await asyncpg.connect(postgres_url())
    looking = LookingTwice(connection, sql.finished)
    looking.between = partial(queue.retry_task, "p")
    try:
        async with connection.transaction():
            child = Task(func="c", id="c", depends_on=("p",))
            await inserts.insert_within(cast("Any", looking), [child], None, Wakes())
    finally:
        await connection.close()

    stored = await queue.get_task("c")
    assert stored is not None
    assert (stored.status, stored.waiting_for) == (TaskStatus.WAITING, 1)


async def test_a_finish_and_an_insert_of_the_same_id_leave_one_task(
    backend: PostgresBackend,
) -> None:
    """A finished task moves to another table; its id stays taken all the while."""
    queue = backend.get_task_queue()
    async with PostgresQueue(postgres_url(), schema=_schema(backend)) as other:
        for n in range(60):
            task = Task(func="f", id=f"t{n}")
            await queue.enqueue(task)
            run = await queue.dequeue()
            assert run is not None
            again = [other.insert([task]) for _ in range(3)]
            _, *answers = await asyncio.gather(queue.complete(run), *again)
            assert answers == [[Inserted(task.id, stored=False)]] * 3

    assert (await queue.counts())["default"] == {TaskStatus.COMPLETED: 60}


def _schema(backend: PostgresBackend) -> str:
    return backend.database.tables.schema


# Plans


def _hot_statements(name: str) -> dict[str, str]:
    names = tables(name, "omniq")
    claims, writes = ClaimStatements(names), WriteStatements(names)
    return {
        "claim": claims.claim,
        "extend": claims.extend,
        "pause": claims.pause,
        "next_due": claims.next_due,
        "insert": writes.insert,
        "insert_fresh": writes.insert_fresh,
        "insert_one": writes.insert_one,
        "swap": writes.swap,
        "finish": writes.finish,
        "requeue": writes.requeue,
        "purge": writes.purge,
    }


async def test_no_statement_ever_reads_a_whole_table(backend: PostgresBackend) -> None:
    """Planned on empty tables, as at the start of a program, they must suit full ones."""
    connection = await asyncpg.connect(postgres_url(), server_settings=PLANS)
    try:
        for name, query in _hot_statements(_schema(backend)).items():
            parameters = max(map(int, re.findall(r"\$(\d+)", query)))
            await connection.execute(f"PREPARE {name} AS {query}")
            nothing = ", ".join(["NULL"] * parameters)
            rows = await connection.fetch(f"EXPLAIN EXECUTE {name}({nothing})")
            plan = "\n".join(row[0] for row in rows)
            for bad in ("Seq Scan on", "Bitmap Heap Scan", "Hash Join", "Merge Join"):
                assert bad not in plan, f"{name}:\n{plan}"
    finally:
        await connection.close()
