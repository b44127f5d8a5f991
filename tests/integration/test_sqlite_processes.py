"""Several processes on one SQLite file: opening, waking, noticing death, dying at every step."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from omniq import OmniQ, TaskStatus, Worker
from omniq.exceptions import ConfigError, StorageUnavailableError
from omniq.models.task import Task
from omniq.storage.local import liveness
from omniq.storage.local.filesystem import companion_folder
from omniq.storage.sqlite import SQLiteQueue
from tests.integration.programs import Start, programs


@pytest.fixture
def start() -> Iterator[Start]:
    with programs() as start:
        yield start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def queue(path: Path) -> AsyncIterator[SQLiteQueue]:
    async with SQLiteQueue(str(path), durability="fast") as queue:
        yield queue


# Opening and forking


async def test_processes_may_open_a_new_file_at_the_same_moment(start: Start, path: Path) -> None:
    """A deployment starts all its workers at once on a file that does not exist yet."""
    program = start("create", path, 4)

    assert await program.says() == {"codes": [0, 0, 0, 0]}
    async with SQLiteQueue(str(path)) as queue:
        assert [task.id for task in await queue.find()] == ["t0", "t1", "t2", "t3"]


async def test_a_forked_child_opens_anew_and_leaves_the_parent_unharmed(
    start: Start, path: Path
) -> None:
    """Pre-forking servers: SQLite connections, locks and sockets must not cross a fork."""
    program = start("fork", path)

    assert await program.says() == {"child": ["of-the-child", "of-the-parent"], "sockets": 4}
    all_three = ["of-the-child", "of-the-parent", "of-the-parent-again"]
    assert await program.says() == {"code": 0, "parent": all_three, "sockets": 2}
    assert await program.says() == {"integrity": "ok", "sockets": 0}


async def test_a_fork_beside_busy_threads_leaves_no_locked_mutex_behind(
    start: Start, path: Path
) -> None:
    """SQLite's own mutexes, inherited locked, would stop the child at its first query."""
    async with asyncio.timeout(30):
        assert await start("fork-busy", path).says() == {"codes": [0] * 30}


async def test_a_forked_child_keeps_no_lock_of_a_parent_that_died(start: Start, path: Path) -> None:
    """An flock lives as long as any copy of its descriptor: the child must give its copy up."""
    program = start("lend", path)
    await program.says()
    assert await asyncio.to_thread(program.process.wait, 20) == 42

    try:
        async with asyncio.timeout(10), SQLiteQueue(str(path)) as queue:
            await queue.enqueue(Task(func="f"))
    finally:
        program.tell()  # the child may go


# Noticing death


async def test_a_dead_worker_ends_its_leases_and_a_live_one_keeps_them(
    start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """Within a second or so its tasks run elsewhere, however long their lease."""
    await queue.enqueue(Task(func="f", id="a"))
    program = start("work", path, "w1")
    assert await program.says() == {"held": ["a"]}
    await queue.enqueue(Task(func="f", id="b"))
    await queue.claim(["default"], worker_id="alive", lease_token="t", lease_seconds=3600)

    assert await queue.end_dead_leases() == []
    assert await queue.dequeue() is None
    program.kill()
    assert await queue.end_dead_leases() == ["w1"]

    task = await queue.dequeue()
    assert task is not None
    assert (task.id, task.claim_count, task.lost_leases) == ("a", 2, 1)
    assert await queue.dequeue() is None
    assert await queue.end_dead_leases() == []


async def test_workers_of_one_process_are_never_taken_for_dead(
    start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """POSIX locks do not exclude their own process, and fall when any descriptor is closed."""
    await queue.announce("w1")
    await queue.announce("w2")
    async with SQLiteQueue(str(path)) as same_process:
        assert await same_process.end_dead_leases() == []
        assert await queue.end_dead_leases() == []

    assert await start("bury", path).says() == {"dead": []}
    await queue.withdraw("w1")
    await queue.withdraw("w2")
    assert await start("bury", path).says() == {"dead": []}


def test_a_worker_that_is_just_announced_is_not_taken_for_dead(tmp_path: Path) -> None:
    """One worker of a process looks for the dead in the very moment another one starts."""
    found: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with liveness.dead_workers(tmp_path) as dead:
                found.extend(dead)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # lets the threads meet at every step
    looking = threading.Thread(target=look)
    looking.start()
    try:
        for n in range(300):
            liveness.hold(tmp_path, f"w{n}")
            liveness.let_go(tmp_path, f"w{n}")
    finally:
        done.set()
        looking.join()
        sys.setswitchinterval(usual)

    assert found == []


async def test_a_worker_seen_by_another_path_is_not_taken_for_dead(
    start: Start, tmp_path: Path
) -> None:
    """The same folder under another name leads to the same lock file: it is not ours to try."""
    real, alias = tmp_path / "real", tmp_path / "alias"
    real.mkdir()
    alias.symlink_to(real)
    liveness.hold(real, "w1")

    with liveness.dead_workers(alias) as dead:
        assert dead == []
    assert taken_elsewhere(real / "w1.alive")
    liveness.let_go(real, "w1")


def taken_elsewhere(lock_file: Path) -> bool:
    """Whether another process finds this lock taken."""
    program = (
        "import fcntl, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(3)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(lock_file)], check=False)
    return done.returncode == 3


async def test_a_namespace_leaves_the_dead_of_another_to_it(
    start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """Burying a worker without ending its leases would leave them to run out."""
    await queue.enqueue(Task(func="f", id="a"))
    program = start("work", path, "w1")
    await program.says()
    program.kill()

    async with SQLiteQueue(str(path), namespace="other") as stranger:
        assert await stranger.end_dead_leases() == []
    assert await queue.end_dead_leases() == ["w1"]


async def test_a_worker_that_takes_the_id_of_a_dead_one_ends_its_leases(
    start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """A worker with a fixed id, restarted: what its predecessor held is not taken for its own."""
    await queue.enqueue(Task(func="f", id="a"))
    program = start("work", path, "w1")
    await program.says()
    program.kill()

    await queue.announce("w1")

    task = await queue.dequeue()
    assert task is not None
    assert task.claim_count == 2
    await queue.withdraw("w1")


async def test_an_id_that_lives_in_another_process_is_refused(
    monkeypatch: pytest.MonkeyPatch, start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """Two workers under one name would hide each other's death. Nobody hangs on it either."""
    monkeypatch.setattr(liveness, "BURIAL_SECONDS", 0.1)
    program = start("work", path, "w1")
    await program.says()

    with pytest.raises(ConfigError, match="w1"):
        await queue.announce("w1")
    program.kill()

    await queue.announce("w1")
    await queue.withdraw("w1")


async def test_trouble_with_the_lock_files_is_a_typed_error(queue: SQLiteQueue, path: Path) -> None:
    """The thread that sends the heartbeats gets through it; any other exception would end it."""
    (companion_folder(path) / "omniq").touch()

    for call in (queue.announce("w1"), queue.end_dead_leases(), queue.withdraw("w1")):
        with pytest.raises(StorageUnavailableError):
            await call


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE omniq_payload SET data = x'00ff00' WHERE seq = 2",
        "UPDATE omniq_payload SET data = substr(data, 1, 20) WHERE seq = 2",
        "DELETE FROM omniq_payload WHERE seq = 2",
    ],
    ids=["garbage", "cut short", "gone"],
)
async def test_a_damaged_request_fails_alone(path: Path, damage: str) -> None:
    """Its neighbours run, the worker lives, and the task says what is wrong with it."""
    async with OmniQ(f"sqlite:///{path}?durability=fast") as app:
        ran: list[int] = []

        @app.task
        async def note(n: int) -> None:
            ran.append(n)

        handles = await note.enqueue_many([(1,), (2,), (3,)])
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(damage)
            connection.commit()
        await Worker(app, burst=True, cleanup=False, schedules=False).run()

        assert sorted(ran) == [1, 3]
        task = await handles[1].task()
        assert task.status is TaskStatus.FAILED
        assert "cannot be read" in (task.error or "")


# Dying at every step


def steps_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize("files", [1, 3], ids=["one file", "results and events apart"])
async def test_a_crash_at_any_step_loses_nothing(start: Start, tmp_path: Path, files: int) -> None:
    """Killed before any BEGIN or COMMIT from the first enqueue to the last event: whatever was
    acknowledged is finished by the next worker, and what stands is the end of one run.
    """
    program = start("walk", tmp_path, files)
    assert await asyncio.to_thread(program.process.wait, 60) == 0

    steps = steps_of(tmp_path)
    assert len(steps) > 15
    for step in steps:
        check_step(step)
    last = json.loads((steps[-1] / "facts.json").read_text())
    assert last["flaky"]["events"] == ["ENQUEUED", "STARTED", "RETRYING", "STARTED", "COMPLETED"]


def check_step(folder: Path) -> None:
    """Compare what the client and the runs wrote down with what the store holds."""
    facts = json.loads((folder / "facts.json").read_text())
    runs = [tuple(json.loads(line)) for line in lines_of(folder / "runs.log")]
    acknowledged = lines_of(folder / "acknowledged.log")

    assert set(acknowledged) <= facts.keys(), f"{folder}: lost"
    assert len(runs) == len(set(runs)), f"{folder}: one claim ran twice"
    for name, fact in facts.items():
        accepted = fact["claim"]
        assert fact["status"] == "completed", (folder, name, fact)
        assert fact["result"] == [accepted, f"{name} {accepted}"], (folder, name, fact)
        assert (name, accepted) in runs, (folder, name, fact)
        assert fact["events"].count("COMPLETED") <= 1, (folder, name, fact)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
