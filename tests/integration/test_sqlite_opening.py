# ruff: noqa: ASYNC240 - nothing else runs while these tests look at files
"""Opening an SQLite file: what is refused, what is shared, what is closed again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from omniq.backend.sqlite import SQLiteBackend
from omniq.exceptions import ConfigError, SchemaError, StorageError, StorageUnavailableError
from omniq.models.event import TaskEvent
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import Task
from omniq.storage.local import filesystem
from omniq.storage.local.filesystem import companion_folder, filesystem_of
from omniq.storage.sqlite import Database, SQLiteQueue, SQLiteResultStorage
from omniq.storage.sqlite import database as module
from tests.integration.sqlite_probes import open_threads, others


@pytest.fixture(autouse=True)
def _only_ours() -> None:
    """Count from here: another test's threads, in the same process, may still be ending."""
    others.clear()
    others.update(threading.enumerate())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def set_version(path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE omniq_meta SET value = ?", (version,))
        connection.commit()


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
    assert list(path.parent.iterdir()) == [path]
    assert open_threads() == []


async def test_a_folder_is_no_database_and_nothing_is_made_beside_it(path: Path) -> None:
    """A URL that ends too early names one, and locks beside it would only puzzle."""
    path.mkdir()

    with pytest.raises(StorageError, match="not an SQLite database"):
        await SQLiteQueue(str(path)).connect()

    assert list(path.parent.iterdir()) == [path]


_TAKING_ALL = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
"""
"""Locks the bytes on which each connection of SQLite holds a shared lock, as the last one may."""


async def test_opening_a_database_again_leaves_the_locks_of_the_first_alone(path: Path) -> None:
    """To close any descriptor of a file gives up all locks this process has on it.

    Another program could then take itself for the last one, and delete the WAL in use.
    """
    async with SQLiteQueue(str(path)) as first:
        await first.enqueue(Task(func="f"))
        async with SQLiteQueue(str(path)) as second:
            await second.enqueue(Task(func="f"))

            taking = [sys.executable, "-c", _TAKING_ALL, str(path)]
            done = await asyncio.to_thread(subprocess.run, taking, capture_output=True, text=True)

    assert "BlockingIOError" in done.stderr


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
    """Folders are not made: a typo would hide the queue. Once it is there, the object works."""
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

    def filesystem_of_any(_folder: Path) -> str:
        return kind

    monkeypatch.setattr(filesystem, "filesystem_of", filesystem_of_any)
    queue = SQLiteQueue(str(path))

    with pytest.raises(ConfigError, match=kind):
        await queue.connect()
    with pytest.raises(ConfigError, match=kind):
        await queue.versioned_schema.migrate()
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

    assert {found.name for found in tmp_path.iterdir()} == {"disk", "link.db"}


def test_one_object_serves_several_loops_and_threads_at_once(path: Path) -> None:
    """No object is bound to an event loop: a web server's threads share one queue."""
    queue = SQLiteQueue(str(path), durability="fast")
    together = threading.Barrier(4)

    async def enqueue(thread: int) -> None:
        together.wait()
        await asyncio.gather(
            *(queue.enqueue(Task(func="f", id=f"t{thread}-{n}")) for n in range(50))
        )

    def run(thread: int) -> None:
        asyncio.run(enqueue(thread))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(3)]
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
