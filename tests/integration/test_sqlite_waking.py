# ruff: noqa: ASYNC221 - nothing else runs while these tests look at files
"""Waking those who wait on one SQLite file, across processes, without polling."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from omniq.models.task import Task
from omniq.storage.local import wake
from omniq.storage.local.filesystem import companion_folder
from omniq.storage.sqlite import SQLiteQueue
from omniq.storage.sqlite import queue as sqlite_queue
from omniq.storage.sqlite.probe import DataVersion
from omniq.testing.waiting import wait_until
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


def sockets(path: Path) -> set[str]:
    return {found.name for found in companion_folder(path).glob("*.sock")}


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all that backs the sockets up take an hour: who is woken was woken by a socket."""
    monkeypatch.setattr(wake, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(sqlite_queue, "LONGEST_WAIT_SECONDS", 3600.0)


async def woken_by_a_put(start: Start, queue: SQLiteQueue, path: Path) -> None:
    """Wait here, enqueue there; return when the waiter here was woken."""
    program = start("put", path, "from-elsewhere")
    await program.says()
    waiting = asyncio.create_task(queue.wait(["default"], 60))
    await wait_until(lambda: bool(sockets(path)), description="the waiter listens")
    program.tell()

    async with asyncio.timeout(15):
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
    trial = [*isolate, sys.executable, "-c", ""]
    if not shutil.which("unshare") or subprocess.run(trial, check=False).returncode:
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

    await wait_until(lambda: not sockets(path), description="the sockets are gone")


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
    monkeypatch: pytest.MonkeyPatch,
    no_polling: None,
    start: Start,
    queue: SQLiteQueue,
    path: Path,
) -> None:
    """Where sockets cannot be had (here: no such address family), a change is still seen soon."""
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


async def test_waiters_of_a_queue_that_closes_are_let_go(
    no_polling: None, queue: SQLiteQueue, path: Path
) -> None:
    """Nobody waits for a store that nobody will announce anything to."""
    waiting = asyncio.create_task(queue.wait(["default"], 60))
    await wait_until(lambda: bool(sockets(path)), description="the waiter listens")
    await queue.disconnect()

    async with asyncio.timeout(15):
        await waiting
    assert sockets(path) == set()
