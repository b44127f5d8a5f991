"""One SQLite file under load, under locks, damaged, misused."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from omniq.backend.sqlite import SQLiteBackend
from omniq.exceptions import ConfigError, SchemaError, StorageError, StorageUnavailableError
from omniq.models.event import TaskEvent
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import Task
from omniq.storage.local import filesystem
from omniq.storage.local.filesystem import companion_folder, filesystem_of
from omniq.storage.local.writelock import WriteLock
from omniq.storage.sqlite import Database, SQLiteQueue, SQLiteResultStorage, database as module
from omniq.storage.sqlite.database import Transaction
from omniq.testing.waiting import wait_until


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


async def traced(database: Database) -> list[str]:
    """Return the list to which the statements of the writer will be appended."""
    seen: list[str] = []
    await database.write(lambda transaction: transaction.connection.set_trace_callback(seen.append))
    seen.clear()
    return seen


@contextlib.contextmanager
def held_write_lock(database: Database) -> Iterator[None]:
    """Hold the lock that all writers of OmniQ take, as a process stopped mid-commit does."""
    lock = WriteLock(companion_folder(database.path) / "write.lock")
    with lock:
        yield
    lock.close()


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


def open_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("omniq-sqlite", "omniq-wake"))]


def wal_bytes(database: Database) -> int:
    return Path(f"{database.path}-wal").stat().st_size


def set_version(path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE omniq_meta SET value = ?", (version,))
        connection.commit()


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
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 128 << 10)
    monkeypatch.setattr(module, "CHECKPOINT_RETRY_BYTES", 32 << 10)
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
    assert await database.write(timeout) == module.BUSY_SECONDS * 1000


# Opening what cannot be opened


async def test_a_newer_schema_is_refused_and_nothing_held(path: Path) -> None:
    """An old worker on a new file stops before it writes, and stands in nobody's way."""
    async with SQLiteBackend(path) as backend:
        await backend.get_task_queue().enqueue(Task(func="f"))
    set_version(path, 2)
    queue = SQLiteQueue(str(path))

    with pytest.raises(SchemaError, match="version 2") as error:
        await queue.connect()
    set_version(path, 1)  # would be locked out if the error kept a transaction open

    assert error.value.__traceback__ is not None
    assert await queue.get_queue_size() == 1
    await queue.disconnect()


async def test_tables_of_another_program_are_refused(path: Path) -> None:
    """A table that goes by our name but is not ours is a typed error."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE omniq_meta (key TEXT, value INTEGER)")

    with pytest.raises(SchemaError):
        await Database(path).open(object())


async def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    """A wrong path must not cost the file that lies there."""
    path.write_bytes(b"dear diary, " * 1000)
    queue = SQLiteQueue(str(path))

    with pytest.raises(StorageError, match="not an SQLite database"):
        await queue.connect()

    assert path.read_bytes() == b"dear diary, " * 1000
    assert open_threads() == []


async def test_damage_is_told_to_the_caller_it_hits(path: Path) -> None:
    """A page overwritten by something else: a typed error with advice, and the process lives."""
    async with SQLiteBackend(path) as backend:
        queue = backend.get_task_queue()
        await queue.enqueue_many([Task(func="f", args=("x" * 500,)) for _ in range(500)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(size - size // 2))

    async with SQLiteBackend(path) as backend:
        with pytest.raises(StorageError, match=r"damaged; restore it from a backup"):
            await backend.get_task_queue().find(limit=1000)
        assert await backend.get_task_queue().paused() == set()


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Folders are not made: a typo would hide the queue. Once it is there, the same object works."""
    queue = SQLiteQueue(str(tmp_path / "missing" / "queue.db"))

    with pytest.raises(StorageUnavailableError, match="check that its folder exists"):
        await queue.enqueue(Task(func="f"))
    (tmp_path / "missing").mkdir()

    await queue.enqueue(Task(func="f"))
    assert await queue.get_queue_size() == 1
    await queue.disconnect()


@pytest.mark.parametrize("name", [":memory:", ""])
def test_a_database_in_memory_is_refused(name: str) -> None:
    """Each connection would see another one."""
    with pytest.raises(ConfigError, match="memory://"):
        SQLiteQueue(name)


@pytest.mark.parametrize("namespace", ["", "Big", "1st", "a-b", "a b", 'a"; DROP', "ä", "a" * 41])
def test_a_bad_namespace_is_refused(path: Path, namespace: str) -> None:
    """It becomes part of SQL."""
    with pytest.raises(ConfigError, match="namespace"):
        SQLiteQueue(str(path), namespace=namespace)


def test_an_unknown_durability_is_refused(path: Path) -> None:
    """A typo must not mean the weaker promise."""
    with pytest.raises(ConfigError, match="durability"):
        Database(path, durability="ful")  # type: ignore[arg-type]  # as untyped code may


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw
40 22 0:40 / /home/nfs rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2
41 40 8:2 / /home/nfs/local\\040disk rw shared:10 - ext4 /dev/sdb1 rw
42 22 0:41 / /mnt/win rw shared:11 - cifs //server/share rw
43 22 0:42 / /mnt/ssh rw shared:12 - fuse.sshfs me@there: rw
44 22 0:43 / /mnt/odd\\134name rw shared:13 - 9p host rw
45 22 8:3 / /mnt/ssh rw shared:12 - ext4 /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me", "ext4"),
        ("/home/nfs", "nfs4"),
        ("/home/nfs/deep/below", "nfs4"),
        ("/home/nfs2", "ext4"),
        ("/home/nfs/local disk/x", "ext4"),
        ("/mnt/win", "cifs"),
        ("/mnt/odd\\name", "9p"),
        ("/mnt/ssh", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(
    tmp_path: Path, folder: str, kind: str
) -> None:
    """Neither a mount whose name begins alike nor one mounted over counts."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)

    assert filesystem_of(Path(folder), mounts) == kind


def test_where_the_system_does_not_tell_any_disk_counts_as_local(tmp_path: Path) -> None:
    """Not Linux: nothing to go by."""
    assert filesystem_of(tmp_path, tmp_path / "no mountinfo") == ""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
async def test_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """WAL mode trusts shared memory and locks that such a disk does not have."""
    monkeypatch.setattr(filesystem, "filesystem_of", lambda _: kind)
    queue = SQLiteQueue(str(path))

    with pytest.raises(ConfigError, match=kind):
        await queue.connect()
    assert not path.exists()


# Sharing a file


EVERY_MINUTE = Schedule(
    id="same", func="f", schedule_type=ScheduleType.INTERVAL, interval_seconds=60
)


async def test_two_namespaces_do_not_see_each_other(path: Path) -> None:
    """Two applications may share a file: same ids, same queues, no contact."""
    async with (
        SQLiteBackend(path, namespace="one") as one,
        SQLiteBackend(path, namespace="two") as two,
    ):
        await one.get_task_queue().enqueue(Task(func="f", id="same", unique_key="k"))
        await one.get_task_queue().set_paused("default", paused=True)
        await one.get_result_storage().store_result("same", 1)
        await one.get_event_storage().log_event(TaskEvent(task_id="same", event_type="X"))
        await one.get_schedule_storage().save_schedule(EVERY_MINUTE)

        assert await two.get_task_queue().get_task("same") is None
        assert await two.get_task_queue().paused() == set()
        assert await two.get_result_storage().get("same") is None
        assert await two.get_event_storage().get_events() == []
        assert await two.get_schedule_storage().list_schedules() == []
        assert (
            await two.get_task_queue().enqueue(Task(func="f", id="same", unique_key="k")) == "same"
        )
        assert await two.get_task_queue().dequeue() is not None


async def test_a_symbolic_link_leads_to_the_same_store(tmp_path: Path) -> None:
    """Whoever opens the link and whoever opens the file share locks, sockets and log."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "disk" / "real.db")

    async with SQLiteBackend(tmp_path / "link.db") as linked:
        await linked.get_task_queue().enqueue(Task(func="f"))
        async with SQLiteBackend(tmp_path / "disk" / "real.db") as real:
            assert await real.get_task_queue().get_queue_size() == 1
            assert companion_folder(linked.database.path) == companion_folder(real.database.path)

    assert sorted(os.listdir(tmp_path)) == ["disk", "link.db"]


def test_one_object_serves_several_loops_and_threads_at_once(path: Path) -> None:
    """No object is bound to an event loop: a web server's threads share one queue."""
    queue = SQLiteQueue(str(path), durability="fast")
    together = threading.Barrier(4)

    async def enqueue(thread: int) -> None:
        together.wait()
        await asyncio.gather(
            *(queue.enqueue(Task(func="f", id=f"t{thread}-{n}")) for n in range(50))
        )

    threads = [threading.Thread(target=lambda n=n: asyncio.run(enqueue(n))) for n in range(3)]
    for thread in threads:
        thread.start()
    together.wait()
    for n in range(50):
        queue.enqueue_sync(Task(func="f", id=f"main-{n}"))
    for thread in threads:
        thread.join()

    assert queue.get_queue_size_sync() == 200
    queue.close_sync()
    assert open_threads() == []


async def test_a_call_that_meets_a_close_is_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is served before the end, or opens anew: never left behind the order to stop."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 2.0)
    database, user = Database(path, durability="fast"), object()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # lets the threads meet at every step
    try:
        for _ in range(100):
            await database.open(user)
            reads = [database.read(lambda _: "answered") for _ in range(20)]
            _, *answers = await asyncio.gather(database.close(user), *reads)
            assert answers == ["answered"] * 20
    finally:
        sys.setswitchinterval(usual)
        await database.close(user)
    assert open_threads() == []


async def test_opened_by_many_calls_at_once_it_is_still_closed_by_one(path: Path) -> None:
    """First uses that meet in time must not count as several users."""
    async with SQLiteBackend(path) as backend:
        queue, results = backend.get_task_queue(), SQLiteResultStorage(database=backend.database)
        await asyncio.gather(*(queue.get([f"t{n}"]) for n in range(5)))
        await asyncio.gather(*(results.get(f"t{n}") for n in range(5)))
        assert open_threads() != []

        await results.disconnect()
        assert await queue.get_queue_size() == 0

    assert open_threads() == []
    assert list(companion_folder(path).glob("*.sock")) == []
