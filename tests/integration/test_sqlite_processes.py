"""Several processes on one SQLite file: opening, waking, noticing death, dying at every step."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ, TaskStatus, Worker
from omniq.exceptions import ConfigError
from omniq.models.task import Task
from omniq.storage.local import liveness, wake
from omniq.storage.local.filesystem import companion_folder
from omniq.storage.sqlite import SQLiteQueue
from omniq.storage.sqlite.probe import DataVersion
from omniq.testing.waiting import wait_until

APP = str(Path(__file__).with_name("sqlite_app.py"))
Start = Callable[..., "Program"]


class Program:
    """A run of sqlite_app.py: what it says, line by line, and its input."""

    def __init__(self, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, APP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def says(self) -> dict[str, Any]:
        """Return the next facts it tells."""
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line, f"{self.process.args!r} ended with {self.process.wait()}"
        return dict(json.loads(line))

    def tell(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it and close its pipes."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs that end with the test."""
    programs: list[Program] = []

    def run(*arguments: object, prefix: tuple[str, ...] = ()) -> Program:
        programs.append(Program(*map(str, arguments), prefix=prefix))
        return programs[-1]

    yield run
    for program in programs:
        program.end()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def queue(path: Path) -> AsyncIterator[SQLiteQueue]:
    async with SQLiteQueue(str(path), durability="fast") as queue:
        yield queue


def sockets(path: Path) -> set[str]:
    return {found.name for found in companion_folder(path).glob("*.sock")}


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


# Waking


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the poll behind the sockets take an hour: who is woken was woken by a socket."""
    monkeypatch.setattr(wake, "POLL_SECONDS", 3600.0)


async def woken_by_a_put(start: Start, queue: SQLiteQueue, path: Path) -> None:
    """Wait here, enqueue there; return when the waiter here was woken."""
    program = start("put", path, "from-elsewhere")
    await program.says()
    waiting = asyncio.create_task(queue.wait(["default"], 60))
    await wait_until(lambda: bool(sockets(path)), description="the waiter listens")
    program.tell()

    async with asyncio.timeout(15):  # `wait` itself would end after 30 s
        await waiting
    assert await queue.get_queue_size() == 1


async def test_a_task_of_another_process_wakes_a_waiter(
    no_polling: None, start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """An idle worker starts a task at once and reads nothing from the disk meanwhile."""
    await woken_by_a_put(start, queue, path)


async def test_the_end_of_a_task_wakes_who_waits_for_it(
    no_polling: None, start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """`handle.result()` in one process, the worker in another."""
    async with SQLiteQueue(str(path)) as elsewhere:
        await queue.enqueue(Task(func="f", id="a"))
        waiting = asyncio.create_task(queue.wait_final(["a"], 60))
        await wait_until(lambda: bool(sockets(path)), description="the waiter listens")
        await elsewhere.cancel("a")

        async with asyncio.timeout(15):
            await waiting


async def test_paths_longer_than_a_socket_address_work(
    no_polling: None, start: Start, tmp_path: Path
) -> None:
    """The kernel takes 107 bytes; folders are often deeper."""
    path = tmp_path / ("d" * 120) / ("e" * 120) / "queue.db"
    path.parent.mkdir(parents=True)
    async with SQLiteQueue(str(path)) as queue:
        await woken_by_a_put(start, queue, path)
    assert sockets(path) == set()


async def test_a_process_with_very_many_open_files_is_woken(
    no_polling: None, start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """`select` cannot watch a file descriptor over 1023; a busy web server has thousands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"the hard limit of open files is {hard}, 2048 are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    null = os.open(os.devnull, os.O_RDONLY)
    opened = [os.dup(null) for _ in range(1100)]
    try:
        await woken_by_a_put(start, queue, path)
    finally:
        for fd in [*opened, null]:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_listener_that_came_within_a_tick_of_the_disk_clock_is_found(
    no_polling: None, queue: SQLiteQueue, path: Path
) -> None:
    """The list of sockets is kept while the folder is unchanged; its time may be too coarse."""
    folder = companion_folder(path)
    async with SQLiteQueue(str(path)) as waiter:
        await queue.enqueue(Task(func="f", queue_name="other"))  # lists the sockets: none
        tick = folder.stat().st_mtime_ns
        waiting = asyncio.create_task(waiter.wait(["default"], 60))
        await wait_until(lambda: bool(sockets(path)), description="the waiter listens")
        os.utime(folder, ns=(tick, tick))
        await queue.enqueue(Task(func="f"))

        async with asyncio.timeout(15):
            await waiting


async def test_listeners_in_two_containers_do_not_take_each_others_sockets(
    start: Start, path: Path
) -> None:
    """Containers that share a volume have the same process ids."""
    isolate = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if not shutil.which("unshare") or subprocess.run([*isolate, "true"], check=False).returncode:
        pytest.skip("needs `unshare --user --pid` (util-linux, unprivileged user namespaces)")
    first = start("wait", path, prefix=isolate)
    assert await first.says() == {"sockets": 2}
    second = start("wait", path, prefix=isolate)

    assert await second.says() == {"sockets": 4}


async def test_the_sockets_of_the_dead_are_removed(queue: SQLiteQueue, path: Path) -> None:
    """A crashed process leaves its sockets; the next writer to find nobody there tidies up."""
    folder = companion_folder(path)
    for topic in ("ready", "final"):
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(str(folder / f"{topic}-1-dead.sock"))
        dead.close()

    await queue.enqueue(Task(func="f", id="a"))
    await queue.cancel("a")

    assert sockets(path) == set()


async def test_a_listener_that_hangs_holds_nobody_up(queue: SQLiteQueue, path: Path) -> None:
    """The kernel queues about ten messages; a stopped process must not stop the writers."""
    hanging = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    hanging.bind(str(companion_folder(path) / "ready-1-hanging.sock"))

    for n in range(50):
        await queue.insert([Task(func="f", id=f"t{n}")])

    assert await queue.get_queue_size() == 50
    assert sockets(path) == {"ready-1-hanging.sock"}
    hanging.close()


async def test_without_sockets_the_store_is_polled(
    monkeypatch: pytest.MonkeyPatch, start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """Where sockets cannot be had (here: the address is refused), a change is still seen soon."""
    monkeypatch.setattr(wake, "POLL_SECONDS", 3600.0)
    monkeypatch.delattr(socket, "AF_UNIX")
    program = start("put", path, "from-elsewhere")
    await program.says()
    waiting = asyncio.create_task(queue.wait(["default"], 60))
    await asyncio.sleep(0)  # lets the waiter begin
    program.tell()

    async with asyncio.timeout(15):
        await waiting


def test_a_probe_that_cannot_open_the_store_says_so_and_tries_again(path: Path) -> None:
    """Out of file descriptors for a moment: the thread that listens must survive that."""
    attempts = iter([sqlite3.OperationalError("unable to open database file")])

    def connect() -> sqlite3.Connection:
        for error in attempts:
            raise error
        return sqlite3.connect(path)

    probe = DataVersion(connect)

    assert probe.version() is None
    assert probe.version() is not None
    probe.close()


async def test_waiters_of_a_queue_that_closes_are_let_go(queue: SQLiteQueue, path: Path) -> None:
    """Nobody waits for a store that nobody will announce anything to."""
    waiting = asyncio.create_task(queue.wait(["default"], 60))
    await wait_until(lambda: bool(sockets(path)), description="the waiter listens")
    await queue.disconnect()

    async with asyncio.timeout(15):
        await waiting
    assert sockets(path) == set()


# Noticing death


async def test_a_dead_worker_ends_its_leases_and_a_live_one_keeps_them(
    start: Start, queue: SQLiteQueue, path: Path
) -> None:
    """Within a second or so its tasks run elsewhere, however long their lease."""
    await queue.enqueue(Task(func="f", id="a"))
    program = start("work", path, "w1")
    assert await program.says() == {"held": ["a"]}

    assert await queue.end_dead_leases() == []
    assert await queue.dequeue() is None
    program.kill()
    assert await queue.end_dead_leases() == ["w1"]

    task = await queue.dequeue()
    assert task is not None
    assert (task.id, task.claim_count, task.lost_leases) == ("a", 2, 1)
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
