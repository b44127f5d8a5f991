"""One SQLite file under load, under locks, damaged, misused."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from omniq import OmniQ
from omniq.backend.sqlite import SQLiteBackend
from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.models.event import TaskEvent
from omniq.models.result import TaskResult
from omniq.models.task import Task
from omniq.storage.local.filesystem import companion_folder
from omniq.storage.sqlite import Database, SQLiteQueue, threads
from omniq.storage.sqlite import database as module
from omniq.storage.sqlite.threads import Transaction
from omniq.testing.waiting import wait_until
from tests.integration.sqlite_probes import held_write_lock, traced


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    database = Database(path)
    user = object()
    await database.open(user)
    yield database
    await database.close(user)


@pytest.fixture
def other(path: Path, database: Database) -> Iterator[sqlite3.Connection]:
    """A connection of another program, which knows nothing of OmniQ's locks."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    yield connection
    connection.close()


def is_free(lock_file: int) -> bool:
    """Whether nobody holds the lock of this open file."""
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock_file, fcntl.LOCK_UN)
    return True


def pausing(queue: str) -> Callable[[Transaction], str]:
    """Return a job that writes one row."""

    def run(transaction: Transaction) -> str:
        query = "INSERT INTO omniq_paused VALUES (?)"
        transaction.connection.execute(query, (queue,))
        return queue

    return run


def paused(database: Database) -> set[str]:
    with contextlib.closing(sqlite3.connect(database.path)) as connection:
        return {name for (name,) in connection.execute("SELECT queue FROM omniq_paused")}


def wal_bytes(database: Database) -> int:
    return Path(f"{database.path}-wal").stat().st_size


# What is promised of every connection


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("fast", 1)])
async def test_the_pragmas_are_those_promised(
    path: Path, durability: module.Durability, level: int
) -> None:
    """WAL, synced as the durability says, never checkpointed by SQLite itself."""
    promised = {
        "journal_mode": "wal",
        "synchronous": level,
        "wal_autocheckpoint": 0,
        "mmap_size": 0,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }

    def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in promised}

    async with SQLiteBackend(path, durability=durability) as backend:
        database = backend.database
        assert await database.write(lambda transaction: pragmas(transaction.connection)) == promised
        assert await database.read(pragmas) == promised


async def test_the_reader_cannot_write(database: Database) -> None:
    """A job sent to the wrong thread is refused instead of writing past the lock."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO omniq_paused VALUES ('a')")

    with pytest.raises(StorageUnavailableError, match="readonly"):
        await database.read(write)


# Group commit


async def test_calls_made_at_once_share_a_transaction(database: Database) -> None:
    """What waits while a commit is under way becomes one commit: one fsync for all."""
    seen = await traced(database)

    with held_write_lock(database):
        jobs = [asyncio.create_task(database.write(pausing(f"q{n}"))) for n in range(100)]
        await asyncio.sleep(0)  # lets each of them put its job in the writer's inbox
    answers = await asyncio.gather(*jobs)

    assert answers == [f"q{n}" for n in range(100)]
    assert seen.count("COMMIT") <= 2
    assert len(paused(database)) == 100


async def test_tasks_results_and_events_share_transactions(path: Path) -> None:
    """The components of a backend write through one thread, so their calls gather too."""
    async with SQLiteBackend(path) as backend:
        queue, results = backend.get_task_queue(), backend.get_result_storage()
        events = backend.get_event_storage()
        seen = await traced(backend.database)

        with held_write_lock(backend.database):
            calls = [
                asyncio.ensure_future(call)
                for n in range(20)
                for call in (
                    queue.enqueue(Task(func="f", id=f"t{n}")),
                    results.set(TaskResult(task_id=f"t{n}")),
                    events.log_event(TaskEvent(task_id=f"t{n}", event_type="ENQUEUED")),
                )
            ]
            await asyncio.sleep(0)  # lets the three coalescers begin
        await asyncio.gather(*calls)

        assert seen.count("COMMIT") <= 6
        assert len(await queue.find(limit=100)) == 20
        assert len(await results.find(limit=100)) == 20
        assert len(await events.get_events()) == 20


async def test_a_task_and_its_event_are_stored_together_or_not_at_all(
    path: Path, other: sqlite3.Connection
) -> None:
    """Where both are in one file there is no task without a history, whatever happens."""
    other.execute(
        "CREATE TRIGGER t BEFORE INSERT ON omniq_event BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    async with OmniQ(f"sqlite:///{path}") as app:
        with pytest.raises(StorageError, match="no"):
            await app.enqueue("job", 1)
        assert await app.counts() == {}


async def test_a_failing_job_does_not_harm_its_neighbours(database: Database) -> None:
    """Its own writes are undone, its caller alone gets the error."""

    def failing(transaction: Transaction) -> str:
        pausing("bad")(transaction)
        raise RuntimeError("no")

    with held_write_lock(database):
        calls = [
            database.write(pausing("a")),
            database.write(failing),
            database.write(pausing("b")),
        ]
        jobs = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)  # as above
    answers = await asyncio.gather(*jobs, return_exceptions=True)

    assert [answers[0], answers[2]] == ["a", "b"]
    assert isinstance(answers[1], RuntimeError)
    assert paused(database) == {"a", "b"}


async def test_a_job_whose_caller_has_gone_is_not_run(database: Database) -> None:
    """What nobody waits for any more, and has not begun, is left out."""
    with held_write_lock(database):
        first = asyncio.create_task(database.write(pausing("first")))
        second = asyncio.create_task(database.write(pausing("second")))
        await asyncio.sleep(0)  # as above
        second.cancel()
        await asyncio.wait({second})
    await first

    assert paused(database) == {"first"}


# Locks of other programs


async def test_a_lock_of_another_program_is_waited_for(
    path: Path, database: Database, other: sqlite3.Connection
) -> None:
    """`sqlite3 queue.db` in a terminal delays OmniQ; it does not break it."""
    queue = SQLiteQueue(database=database)
    seen = await traced(database)
    other.execute("BEGIN IMMEDIATE")

    enqueued = asyncio.create_task(queue.enqueue(Task(func="f", id="patient")))
    await wait_until(lambda: "BEGIN IMMEDIATE" in seen, description="the writer asks for the lock")
    assert await queue.get_task("patient") is None
    other.execute("COMMIT")

    assert await enqueued == "patient"
    await queue.disconnect()


async def test_a_lock_held_too_long_is_an_error_that_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who wait are told after one deadline, not one after the other; then all goes on."""
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    async with SQLiteBackend(path) as backend:
        database = backend.database
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        seen = await traced_without_writing(database)

        calls = [database.write(pausing(f"q{n}")) for n in range(20)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        asked = seen.count("BEGIN IMMEDIATE")
        other.execute("COMMIT")
        other.close()

        assert all(isinstance(error, StorageUnavailableError) for error in errors), errors
        assert "another program holds the database" in str(errors[0])
        assert asked <= 2
        assert await database.write(pausing("later")) == "later"
        assert paused(database) == {"later"}


async def traced_without_writing(database: Database) -> list[str]:
    """As `traced`, where nothing can be written."""
    seen: list[str] = []

    def look(connection: sqlite3.Connection) -> bool:
        connection.set_trace_callback(seen.append)
        return False

    await database.write(lambda _: None, worth=look)
    return seen


async def test_a_call_given_up_is_not_carried_out_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a process that hangs in its commit, callers get an answer, and it stays true."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)

    with (
        held_write_lock(database),
        pytest.raises(StorageUnavailableError, match="no answer within"),
    ):
        await database.write(pausing("too late"))
    monkeypatch.undo()
    await database.write(pausing("in time"))

    assert paused(database) == {"in time"}


# Checkpoints


@pytest.fixture
def early_checkpoints(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bring the WAL back at 128 KiB; return that."""
    monkeypatch.setattr(threads, "CHECKPOINT_BYTES", 128 << 10)
    monkeypatch.setattr(threads, "CHECKPOINT_RETRY_BYTES", 32 << 10)
    return 128 << 10


def writing(kilobytes: int, name: str) -> Callable[[Transaction], None]:
    """Return a job that writes that much."""

    def run(transaction: Transaction) -> None:
        query = "INSERT OR REPLACE INTO omniq_result VALUES (NULL, ?, 1, NULL, zeroblob(?))"
        transaction.connection.execute(query, (name, kilobytes << 10))

    return run


async def test_the_wal_stays_bounded_under_load(early_checkpoints: int, database: Database) -> None:
    """A queue that writes day and night does not fill the disk with its log."""
    sizes: list[int] = []
    for n in range(60):
        await database.write(writing(16, f"r{n}"))
        sizes.append(wal_bytes(database))
    await database.write(pausing("last"))

    assert max(sizes) < 2 * early_checkpoints
    assert min(sizes[30:]) == 0 or sizes != sorted(sizes)


async def test_a_long_reader_only_delays_the_checkpoint(
    early_checkpoints: int, database: Database, other: sqlite3.Connection
) -> None:
    """A report that reads for an hour stops neither writes nor, once it ended, the clean-up."""
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM omniq_result").fetchone()
    for n in range(20):
        await database.write(writing(16, f"r{n}"))
    grown = wal_bytes(database)
    other.execute("COMMIT")

    async def brought_back() -> bool:
        await database.write(writing(16, "again"))
        return wal_bytes(database) < early_checkpoints

    await wait_until(brought_back, description="the WAL was brought back")
    assert grown > 2 * early_checkpoints


async def test_a_wal_brought_back_by_another_process_is_watched_again(
    early_checkpoints: int, database: Database, other: sqlite3.Connection
) -> None:
    """After a long reader raised the mark, the WAL does not grow up to it once more."""
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM omniq_result").fetchone()
    for n in range(40):
        await database.write(writing(16, f"r{n}"))
    mark = wal_bytes(database)
    other.execute("COMMIT")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # as a neighbour does, whose mark was lower

    sizes: list[int] = []
    for n in range(40):
        await database.write(writing(16, f"s{n}"))
        sizes.append(wal_bytes(database))

    assert mark > 3 * early_checkpoints
    assert max(sizes) < 2 * early_checkpoints


async def test_no_commit_overlaps_a_checkpoint(early_checkpoints: int, database: Database) -> None:
    """From BEGIN to COMMIT and around checkpoints the lock file is held: else SQLite before
    3.51.3 may corrupt the file.
    """
    probe = os.open(companion_folder(database.path) / "write.lock", os.O_RDWR)
    unprotected: list[str] = []
    kinds: set[str] = set()

    def look(statement: str) -> None:
        if statement.startswith(("BEGIN", "COMMIT", "PRAGMA wal_checkpoint", "INSERT")):
            kinds.add(statement.split(maxsplit=2)[0])
            if is_free(probe):
                unprotected.append(statement)

    await database.write(lambda transaction: transaction.connection.set_trace_callback(look))
    for n in range(30):
        await database.write(writing(16, f"r{n}"))
    await database.write(lambda transaction: transaction.connection.set_trace_callback(None))
    os.close(probe)

    assert kinds == {"BEGIN", "INSERT", "COMMIT", "PRAGMA"}
    assert unprotected == []


async def test_a_failed_checkpoint_leaves_the_patience_of_writers(
    early_checkpoints: int, database: Database
) -> None:
    """A disk error in a checkpoint must not turn the next short lock into an error."""
    for n in range(20):
        await database.write(writing(16, f"r{n}"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    seen = await traced(database)

    resource.setrlimit(resource.RLIMIT_FSIZE, (early_checkpoints + (64 << 10), hard))
    try:
        while not any("wal_checkpoint" in statement for statement in seen):
            await database.write(writing(16, "s"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def timeout(transaction: Transaction) -> int:
        (found,) = transaction.connection.execute("PRAGMA busy_timeout").fetchone()
        return int(found)

    assert wal_bytes(database) > 0
    assert await database.write(timeout) == threads.BUSY_SECONDS * 1000
