"""Tasks enqueued in a transaction of the caller's exist if and only if that commits."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psycopg
import pytest

from omniq import OmniQ, Task
from omniq.exceptions import (
    NotFoundError,
    SyncInAsyncError,
    TaskExistsError,
    ValidationError,
)
from omniq.models.task import TaskStatus
from omniq.storage.postgres import queue as queue_module
from omniq.testing.waiting import wait_until
from omniq.worker import Worker
from tests.integration.callers import POSTGRES, SQLITE, Open, Unit
from tests.integration.conftest import events_of
from tests.servers.postgres import postgres_url, schema


class Store(NamedTuple):
    """A store, as OmniQ and as a caller's driver reach it."""

    url: str
    place: str


def _store(kind: str, folder: Path) -> Store:
    if kind == "postgres":
        return Store(f"{postgres_url()}?schema={schema()}", postgres_url())
    path = str(folder / "queue.db")
    return Store(f"sqlite:///{path}?durability=fast", path)


@pytest.fixture(params=["postgres", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return _store(request.param, tmp_path)


@pytest.fixture
def open_unit(store: Store) -> Open:
    """The plainest kind of each store; the matrix is in the first two tests."""
    return POSTGRES["asyncpg"] if "postgres" in store.url else SQLITE["aiosqlite"]


@pytest.fixture
async def app(store: Store) -> AsyncIterator[OmniQ]:
    async with OmniQ(store.url) as opened:
        yield opened


@pytest.fixture
async def unit(app: OmniQ, store: Store, open_unit: Open) -> AsyncIterator[Unit]:
    async with open_unit(store.place) as opened:
        yield opened


def all_kinds() -> list[Any]:
    kinds = [("postgres", name, kind) for name, kind in POSTGRES.items()]
    kinds += [("sqlite", name, kind) for name, kind in SQLITE.items()]
    return [pytest.param(*kind, id=kind[1]) for kind in kinds]


@pytest.mark.parametrize(("kind", "name", "opened"), all_kinds())
async def test_rolled_back_it_never_was(kind: str, name: str, opened: Open, tmp_path: Path) -> None:
    """Neither a task nor a word of it, and its key is free."""
    store = _store(kind, tmp_path)
    async with OmniQ(store.url) as app, opened(store.place) as unit:
        (handle,) = await unit.enqueue(app, Task(func="f", unique_key="k"))
        await unit.rollback()

        assert await app.list_tasks() == []
        assert await events_of(app, handle.id) == []
        again = await app.enqueue_task(Task(func="f", unique_key="k"))
        assert again.id != handle.id


@pytest.mark.parametrize(("kind", "name", "opened"), all_kinds())
async def test_committed_it_runs_once(
    kind: str, name: str, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before the commit, although a worker is waiting; and then like any other task."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 0.2)
    store = _store(kind, tmp_path)
    async with OmniQ(store.url) as app, opened(store.place) as unit:
        runs: list[int] = []

        @app.task(name="note")
        def _note(number: int) -> None:
            runs.append(number)

        worker = Worker(app, cleanup=False, schedules=False)
        running = asyncio.create_task(worker.run())
        (handle,) = await unit.enqueue(app, Task(func="note", args=(7,)))
        assert await app.get_task(handle.id) is None

        await unit.commit()
        task = await handle.wait(timeout=60)
        worker.stop()
        await running

        assert (task.status, runs) == (TaskStatus.COMPLETED, [7])
        assert await events_of(app, handle.id) == ["ENQUEUED", "STARTED", "COMPLETED"]


# Keys, ids and parents


async def test_a_live_key_stands_for_the_new_task(app: OmniQ, unit: Unit) -> None:
    """Whoever holds it: a task stored before, or one of this very transaction."""
    before = await app.enqueue_task(Task(func="f", unique_key="a"))

    handles = await unit.enqueue(
        app,
        Task(func="f", unique_key="a"),
        Task(func="f", unique_key="b"),
        Task(func="f", unique_key="b"),
    )
    again = await unit.enqueue(app, Task(func="f", unique_key="b"))
    await unit.commit()

    assert handles[0] == before
    assert handles[1] == handles[2] == again[0]
    assert len(await app.list_tasks()) == 2


async def test_a_known_id_is_refused_and_the_transaction_goes_on(app: OmniQ, unit: Unit) -> None:
    """It is an answer, not a failure: who asked can still commit the rest."""
    await app.enqueue_task(Task(func="f", id="known"))

    with pytest.raises(TaskExistsError, match="known"):
        await unit.enqueue(app, Task(func="f", id="known"))
    await unit.enqueue(app, Task(func="f", id="new"))
    await unit.commit()

    assert [task.id for task in await app.list_tasks()] == ["known", "new"]


async def test_parents_of_the_same_transaction_are_found(app: OmniQ, unit: Unit) -> None:
    """Also across calls, and together with one that was stored before."""
    before = await app.enqueue_task(Task(func="f", id="before"))

    await unit.enqueue(app, Task(func="f", id="parent"))
    await unit.enqueue(
        app,
        Task(func="f", id="child", depends_on=("parent", before.id)),
        Task(func="f", id="grandchild", depends_on=("child",)),
    )
    await unit.commit()
    for _ in range(2):
        task = await app.task_queue.dequeue()
        assert task is not None
        await app.task_queue.complete(task)

    waiting = {task.id: task.status for task in await app.list_tasks()}
    assert waiting["child"] is TaskStatus.PENDING
    assert waiting["grandchild"] is TaskStatus.WAITING


async def test_a_missing_parent_leaves_no_trace(app: OmniQ, unit: Unit) -> None:
    """What came before it in the same call is not stored either, what came in others is."""
    await unit.enqueue(app, Task(func="f", id="a"))

    with pytest.raises(NotFoundError, match="nobody"):
        await unit.enqueue(
            app, Task(func="f", id="b"), Task(func="f", id="c", depends_on=("nobody",))
        )
    await unit.commit()

    assert [task.id for task in await app.list_tasks()] == ["a"]


async def test_a_parent_may_have_failed_already(app: OmniQ, unit: Unit) -> None:
    """The child is stored as cancelled, as outside of a transaction."""
    await app.enqueue_task(Task(func="f", id="parent"))
    await app.cancel("parent")

    await unit.enqueue(app, Task(func="f", id="child", depends_on=("parent",)))
    await unit.commit()

    child = await app.get_task("child")
    assert child is not None
    assert child.status is TaskStatus.CANCELLED


async def test_many_tasks_are_one_part_of_the_transaction(app: OmniQ, unit: Unit) -> None:
    """More than fit into one statement."""
    await unit.enqueue(app, *(Task(func="f", id=f"t{n}") for n in range(2_500)))
    await unit.commit()

    assert await app.queue_size() == 2_500


# What is refused


@pytest.mark.parametrize("thing", [object(), "postgresql://localhost/d", 7])
async def test_what_is_no_connection_is_refused(app: OmniQ, thing: object) -> None:
    """With the kinds that would do."""
    with pytest.raises(ValidationError, match="give an asyncpg, psycopg 3, sqlite3") as caught:
        await app.enqueue_task(Task(func="f"), connection=thing)

    assert caught.value.field == "connection"


async def test_a_connection_of_the_other_face_is_refused(app: OmniQ, unit: Unit) -> None:
    """One that blocks would block the loop, one that does not cannot be waited for."""
    blocking = sqlite3.connect(":memory:")
    with pytest.raises(ValidationError, match=r"blocks: use enqueue_sync"):
        await app.enqueue_task(Task(func="f"), connection=blocking)
    with pytest.raises(SyncInAsyncError):
        app.enqueue_task_sync(Task(func="f"), connection=blocking)
    blocking.close()

    with pytest.raises(ValidationError, match=r"asynchronous: use await enqueue"):
        await asyncio.to_thread(app.enqueue_task_sync, Task(func="f"), connection=unit.connection)
    assert await app.list_tasks() == []


async def test_bad_input_is_refused_before_the_connection_is_used(app: OmniQ, unit: Unit) -> None:
    """A closed connection shows that nobody asked it."""
    await unit.connection.close()

    with pytest.raises(ValidationError, match="priority"):
        await unit.enqueue(app, Task(func="f", priority=1 << 40))


async def test_options_lead_there_as_well(app: OmniQ, unit: Unit) -> None:
    """The way that is documented, single and in bulk; a schedule cannot use it."""

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    within = add.options(connection=unit.connection)
    one = await within.enqueue(2, 3)
    two = await within.enqueue_many([(4, 5), {"a": 6, "b": 7}])
    assert await app.list_tasks() == []
    await unit.commit()

    assert {task.id for task in await app.list_tasks()} == {one.id, two[0].id, two[1].id}
    assert add.options(connection=None).template.connection is None
    with pytest.raises(ValidationError, match="connection"):
        await app.schedule(within, every=60, args=(1, 2))


# Crashes


def _enqueue_and_hang(url: str, place: str, ready: Any) -> None:
    async def main() -> None:
        opened = POSTGRES["asyncpg"] if "postgres" in url else SQLITE["aiosqlite"]
        async with OmniQ(url) as app, opened(place) as unit:
            await unit.enqueue(app, Task(func="f"))
            ready.set()
            await asyncio.sleep(3600)

    asyncio.run(main())


async def test_a_crash_before_the_commit_leaves_nothing(app: OmniQ, store: Store) -> None:
    """The process is killed with its transaction open; what others do goes on."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_enqueue_and_hang, args=(*store, ready))
    process.start()
    assert await asyncio.to_thread(ready.wait, 60)

    process.kill()
    await asyncio.to_thread(process.join)
    handle = await app.enqueue_task(Task(func="f"))

    assert [task.id for task in await app.list_tasks()] == [handle.id]


# Savepoints


async def test_a_savepoint_rolled_back_takes_its_tasks_along(app: OmniQ, unit: Unit) -> None:
    """The rest of the transaction is committed."""
    await unit.connection.execute("SAVEPOINT mine")
    await unit.enqueue(app, Task(func="f", id="inside"))
    await unit.connection.execute("ROLLBACK TO SAVEPOINT mine")
    await unit.enqueue(app, Task(func="f", id="outside"))
    await unit.commit()

    assert [task.id for task in await app.list_tasks()] == ["outside"]


def _enqueue_there(app: OmniQ, path: str) -> None:
    connection = sqlite3.connect(path, timeout=0)
    try:
        app.enqueue_task_sync(Task(func="f"), connection=connection)
    finally:
        connection.close()


async def test_a_driver_error_reaches_the_caller_as_it_is(store: Store, app: OmniQ) -> None:
    """It is their transaction: what they do about a failure hangs on their driver's classes."""
    if "sqlite" in store.url:
        async with SQLITE["sqlite3"](store.place) as unit:
            await unit.enqueue(app, Task(func="f"))
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await asyncio.to_thread(_enqueue_there, app, store.place)
        return
    async with POSTGRES["asyncpg"](store.place) as unit:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await unit.connection.execute("SELECT 1 / 0")
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await unit.enqueue(app, Task(func="f"))
    async with POSTGRES["psycopg async"](store.place) as unit:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await unit.connection.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await unit.enqueue(app, Task(func="f"))
        await unit.rollback()


async def test_a_write_beside_an_open_transaction_waits_or_goes_by(app: OmniQ, unit: Unit) -> None:
    """SQLite has one writer at a time: ours waits for the caller's commit, and then succeeds."""
    await unit.enqueue(app, Task(func="f", id="theirs"))
    ours = asyncio.create_task(app.enqueue_task(Task(func="f", id="ours")))

    async def has_begun() -> bool:
        return ours.done() or bool(ours.get_stack())

    await wait_until(has_begun, description="our write is under way")
    await unit.commit()
    await ours

    assert {task.id for task in await app.list_tasks()} == {"theirs", "ours"}
