# ruff: noqa: ASYNC240 - nothing else runs while these tests look at files
"""A caller's transaction in SQLite: files, settings of connections, locks and checkpoints."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ, Task
from omniq.exceptions import TaskExistsError, ValidationError
from omniq.storage.sqlite import Database, threads
from omniq.testing.waiting import wait_until
from tests.integration.callers import SQLITE, SyncUnit


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "queue.db")


@pytest.fixture
async def app(path: str) -> AsyncIterator[OmniQ]:
    async with OmniQ(f"sqlite:///{path}?durability=fast") as opened:
        yield opened


@pytest.fixture
async def unit(app: OmniQ, path: str) -> AsyncIterator[SyncUnit]:
    async with SQLITE["sqlite3"](path) as opened:
        assert isinstance(opened, SyncUnit)
        yield opened


async def test_another_file_is_refused(app: OmniQ, tmp_path: Path) -> None:
    """A task stored there would never run; nor is a file in memory ours."""
    for there in (str(tmp_path / "other.db"), ":memory:"):
        async with OmniQ(f"sqlite:///{tmp_path}/other.db"):
            pass
        for kind in ("sqlite3", "AsyncSession over aiosqlite"):
            async with SQLITE[kind](there) as unit:
                with pytest.raises(ValidationError, match="while the tasks are kept in") as caught:
                    await unit.enqueue(app, Task(func="f"))
                assert caught.value.field == "connection"


async def test_the_same_file_by_another_way_is_ours(app: OmniQ, path: str, tmp_path: Path) -> None:
    """What counts is the file, not how it is spelled."""
    (tmp_path / "link").symlink_to(tmp_path)

    async with SQLITE["sqlite3"](str(tmp_path / "link" / "queue.db")) as unit:
        await unit.enqueue(app, Task(func="f"))
        await unit.commit()

    assert await app.queue_size() == 1


async def test_a_connection_that_commits_by_itself_does_so(app: OmniQ, unit: SyncUnit) -> None:
    """Then the call is a transaction of its own; within one begun by hand it is part of that."""
    connection = unit.connection
    await unit.run(lambda: setattr(connection, "isolation_level", None))

    await unit.enqueue(app, Task(func="f", id="a"))
    assert not connection.in_transaction
    with pytest.raises(TaskExistsError):
        await unit.enqueue(app, Task(func="f", id="a"))
    assert not connection.in_transaction
    await unit.run(lambda: connection.execute("BEGIN"))
    await unit.enqueue(app, Task(func="f", id="b"))
    assert await app.get_task("b") is None
    await unit.run(lambda: connection.execute("COMMIT"))

    assert [task.id for task in await app.list_tasks()] == ["a", "b"]


async def test_settings_of_the_connection_do_not_matter_and_stay(
    app: OmniQ, unit: SyncUnit
) -> None:
    """Rows as dicts and texts as bytes are the caller's business."""
    connection = unit.connection

    def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip((column[0] for column in cursor.description), row, strict=True))

    def set_up() -> None:
        connection.row_factory, connection.text_factory = as_dict, bytes

    await unit.run(set_up)
    first = await unit.enqueue(app, Task(func="f", unique_key="k"))
    second = await unit.enqueue(
        app, Task(func="f", unique_key="k"), Task(func="f", depends_on=(first[0].id,))
    )
    await unit.commit()

    assert first[0] == second[0]
    assert (connection.row_factory, connection.text_factory) == (as_dict, bytes)


async def test_an_application_may_be_opened_by_it(path: str) -> None:
    """Within a transaction that holds SQLite's lock: opening a file that is laid out needs none."""
    async with OmniQ(f"sqlite:///{path}") as other:
        await other.enqueue_task(Task(func="f", id="before"))
    app = OmniQ(f"sqlite:///{path}")

    async with SQLITE["aiosqlite"](path) as unit, asyncio.timeout(threads.BUSY_SECONDS - 1):
        await unit.connection.execute("BEGIN IMMEDIATE")
        await unit.enqueue(app, Task(func="f"))
        await unit.commit()

    assert await app.queue_size() == 2
    await app.disconnect()


async def test_a_snapshot_that_was_overtaken_is_the_callers_to_repeat(
    app: OmniQ, unit: SyncUnit
) -> None:
    """A transaction that began by reading may not write once somebody else has."""
    await unit.run(lambda: unit.connection.execute("BEGIN"))
    await unit.run(lambda: unit.connection.execute("SELECT * FROM omniq_task").fetchall())
    await app.enqueue_task(Task(func="f"))

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await unit.enqueue(app, Task(func="f"))
    await unit.rollback()
    await unit.enqueue(app, Task(func="f"))
    await unit.commit()

    assert await app.queue_size() == 2


async def test_a_call_that_fails_half_way_leaves_no_trace(app: OmniQ, unit: SyncUnit) -> None:
    """The task is stored when its event is refused; the caller may still commit the rest."""
    refuse = "BEFORE INSERT ON omniq_event BEGIN SELECT RAISE(ABORT, 'no events today'); END"
    await unit.enqueue(app, Task(func="f", id="before"))
    await unit.run(lambda: unit.connection.execute(f"CREATE TEMP TRIGGER refuse {refuse}"))

    with pytest.raises(sqlite3.IntegrityError, match="no events today"):
        await unit.enqueue(app, Task(func="f", id="half"))
    await unit.commit()

    assert [task.id for task in await app.list_tasks()] == ["before"]


# The write-ahead log


async def test_the_callers_connection_makes_no_checkpoints(app: OmniQ, unit: SyncUnit) -> None:
    """One at each commit over 1000 pages is its default: it would race with our commits."""
    await unit.enqueue(app, Task(func="f"))

    query = "PRAGMA wal_autocheckpoint"
    assert await unit.run(lambda: unit.connection.execute(query).fetchone()) == (0,)
    await unit.rollback()


async def test_no_checkpoint_while_another_program_writes(
    app: OmniQ, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not take the lock file, so SQLite's own lock has to keep its commit out."""
    monkeypatch.setattr(threads, "CHECKPOINT_BYTES", 512 << 10)
    monkeypatch.setattr(threads, "CHECKPOINT_RETRY_BYTES", 1)
    database = app.task_queue.versioned_schema
    assert isinstance(database, Database)
    await database.write(lambda _: None)  # the new limits are seen with the next look
    other = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    file, wal = Path(path), Path(f"{path}-wal")
    before = file.stat().st_mtime_ns, file.stat().st_size

    def begin_there(ready_queues: set[str], _final_ids: list[str]) -> None:
        """Called by the writer between its commit and its checkpoint."""
        if ready_queues and not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")

    with monkeypatch.context() as patched:
        patched.setattr(database.hub, "announce", begin_there)
        await app.task_queue.enqueue(Task(func="f", args=("x" * 700_000,)))
        await wait_until(lambda: other.in_transaction, description="the other writes")
        await database.write(lambda _: None, worth=lambda _: False)  # the writer is done with it

    assert wal.stat().st_size > 512 << 10
    assert (file.stat().st_mtime_ns, file.stat().st_size) == before
    other.execute("ROLLBACK")

    async def brought_back() -> bool:
        await app.enqueue_task(Task(func="f"))
        return wal.stat().st_size < 512 << 10

    await wait_until(brought_back, description="the WAL is brought back afterwards")
    other.close()
