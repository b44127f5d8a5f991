"""SQLite on disks that are full or read-only: loud errors, nothing lost, no restart needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from omniq import OmniQ, TaskStatus, Worker
from omniq.backend.sqlite import SQLiteBackend
from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.models.task import Task
from omniq.testing.waiting import wait_until
from tests.integration.disks import SmallDisk, limited_disk, read_only, tmpfs_disk
from tests.integration.sqlite_probes import held_write_lock


@pytest.fixture(params=["tmpfs", "file size limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    if request.param == "tmpfs":
        with tmpfs_disk(tmp_path / "disk") as disk:
            yield disk
    else:
        with limited_disk(tmp_path / "disk") as disk:
            yield disk


@pytest.fixture
async def app(disk: SmallDisk) -> AsyncIterator[OmniQ]:
    async with OmniQ(f"sqlite:///{disk.folder}/queue.db") as app:
        yield app
        disk.make_room()


async def enqueue_until_refused(app: OmniQ, size: int) -> list[str]:
    """Enqueue tasks of that many bytes until one is refused; return the ids acknowledged."""
    acknowledged: list[str] = []
    for n in range(10_000):
        try:
            handle = await app.enqueue("elsewhere", n, "x" * size)
        except StorageUnavailableError:
            return acknowledged
        acknowledged.append(handle.id)
    raise AssertionError("the disk is not full")


async def ids_of(app: OmniQ) -> set[str]:
    return {task.id for task in await app.list_tasks(limit=None)}


async def test_a_full_disk_refuses_loudly_and_loses_nothing_acknowledged(
    app: OmniQ, disk: SmallDisk
) -> None:
    """The caller learns at once; once there is room, the same objects go on."""
    acknowledged = [(await app.enqueue("elsewhere", n)).id for n in range(20)]
    disk.fill()
    acknowledged += await enqueue_until_refused(app, 5000)

    assert set(acknowledged) <= await ids_of(app)
    with pytest.raises(StorageUnavailableError, match="nothing was stored"):
        await app.task_queue.enqueue_many([Task(func="f", id=f"r{n}") for n in range(500)])
    assert not {f"r{n}" for n in range(500)} & await ids_of(app)

    disk.make_room()
    acknowledged.append((await app.enqueue("elsewhere", "again")).id)
    assert set(acknowledged) <= await ids_of(app)
    async with OmniQ(f"sqlite:///{disk.folder}/queue.db") as another:
        assert set(acknowledged) <= await ids_of(another)


async def test_only_what_there_is_no_room_for_is_refused(disk: SmallDisk) -> None:
    """Calls share a transaction, but not the fate of a neighbour that is too big for the disk."""
    async with SQLiteBackend(disk.folder / "queue.db") as backend:
        queue = backend.get_task_queue()
        disk.fill(leaving=200_000)
        sizes = {"small-1": 100, "big-1": 900_000, "small-2": 100, "big-2": 900_000}

        with held_write_lock(backend.database):
            calls = [
                asyncio.create_task(queue.insert([Task(func="f", id=name, args=("x" * size,))]))
                for name, size in sizes.items()
            ]
            await asyncio.sleep(0)  # lets each of them put its job in the writer's inbox
        answers = await asyncio.gather(*calls, return_exceptions=True)

        refused = [isinstance(answer, StorageUnavailableError) for answer in answers]
        assert refused == [False, True, False, True]
        assert [task.id for task in await queue.find()] == ["small-1", "small-2"]
        disk.make_room()


async def test_a_worker_outlives_a_full_disk(
    app: OmniQ, disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps the end of a run until there is room for it: the task does not run again."""
    started, go_on = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @app.task
    async def report() -> str:
        runs.append(1)
        started.set()
        await go_on.wait()
        return "x" * 20_000

    handle = await report.enqueue()
    worker = Worker(app, cleanup=False, schedules=False)
    working = asyncio.create_task(worker.run())
    await started.wait()
    disk.fill()
    go_on.set()
    await wait_until(lambda: "trying again" in caplog.text, description="the disk refused the end")
    disk.make_room()

    assert await handle.result(timeout=20) == "x" * 20_000
    assert runs == [1]
    assert (await handle.task()).claim_count == 1
    worker.stop()
    await working


async def test_a_file_that_cannot_be_made_is_made_later(disk: SmallDisk) -> None:
    """Opening on a full disk fails like any call, and leaves nothing half made behind."""
    disk.fill()
    backend = SQLiteBackend(disk.folder / "new.db")
    with pytest.raises(StorageUnavailableError):
        await backend.get_task_queue().enqueue(Task(func="f", id="early"))

    disk.make_room()
    await backend.get_task_queue().enqueue(Task(func="f", id="late"))
    assert [task.id for task in await backend.get_task_queue().find()] == ["late"]
    await backend.disconnect()


# Read-only


async def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    """Typed, with what to look at; the same object works once it may write."""
    (tmp_path / "folder").mkdir()
    backend = SQLiteBackend(tmp_path / "folder" / "queue.db")
    queue = backend.get_task_queue()

    with (
        read_only(tmp_path / "folder"),
        pytest.raises(StorageUnavailableError, match="read-only; check the permissions"),
    ):
        await queue.enqueue(Task(func="f"))

    await queue.enqueue(Task(func="f"))
    assert await queue.get_queue_size() == 1
    await backend.disconnect()


async def test_a_read_only_file_is_told(tmp_path: Path) -> None:
    """A database copied from a backup by another user: reading it must not pretend to work."""
    path = tmp_path / "queue.db"
    async with SQLiteBackend(path) as backend:
        await backend.get_task_queue().enqueue(Task(func="f"))

    with read_only(path):
        backend = SQLiteBackend(path)
        with pytest.raises(StorageError, match="read-only; check the permissions"):
            await backend.get_task_queue().enqueue(Task(func="f"))
        await backend.disconnect()

    async with SQLiteBackend(path) as backend:
        counts = await backend.get_task_queue().counts()
        assert counts == {"default": {TaskStatus.PENDING: 1}}
