"""Changes of many tasks are in the journal at once, and in the files a moment later."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from omniq import lifecycle
from omniq.backend.file import FileBackend
from omniq.clock import utcnow
from omniq.ids import new_token
from omniq.models.task import Task, TaskStatus
from omniq.storage.file import FileQueue, lag, store
from omniq.storage.values import Change
from omniq.testing.waiting import wait_until
from tests.integration.file_steps import kill_at

RUNNING, COMPLETED = TaskStatus.RUNNING, TaskStatus.COMPLETED
NUMBER = lag.MANY + 2
IDS = [f"t{number:02d}" for number in range(NUMBER)]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let changes wait for longer than any test."""
    monkeypatch.setattr(store, "IDLE_SECONDS", 100.0)
    monkeypatch.setattr(lag, "WAIT_SECONDS", 100.0)


def shown(folder: Path) -> dict[str, int]:
    """How many files `ls` shows by status."""
    return dict(Counter(path.parent.name for path in folder.glob("tasks/default/*/*.json")))


async def fill(queue: FileQueue, number: int = NUMBER, note: str = "") -> None:
    await queue.insert(
        [Task(func="f", id=f"t{n:02d}", metadata={"note": note}) for n in range(number)]
    )


async def claim(queue: FileQueue, limit: int = NUMBER) -> list[Task]:
    return await queue.claim(["default"], worker_id="w", lease_token=new_token(), limit=limit)


def ends(tasks: list[Task]) -> list[Change]:
    now = utcnow()
    return [Change(task, lifecycle.settle(task, lifecycle.Completed(), now)) for task in tasks]


async def test_files_follow_when_nothing_more_is_asked(tmp_path: Path) -> None:
    """A claim of many is seen by `ls` without any further call."""
    async with FileQueue(tmp_path) as queue:
        await fill(queue)
        await claim(queue)

        await wait_until(lambda: shown(tmp_path) == {"running": NUMBER}, description="files follow")


@pytest.mark.usefixtures("patient")
async def test_claim_and_end_are_made_as_one(tmp_path: Path) -> None:
    """The files of tasks that ended soon were never among the running ones."""
    async with FileQueue(tmp_path) as queue:
        await fill(queue)
        tasks = await claim(queue)
        assert shown(tmp_path) == {"pending": NUMBER}
        assert all(await queue.swap(ends(tasks)))
        assert shown(tmp_path) == {"pending": NUMBER}

        assert await queue.counts() == {"default": {COMPLETED: NUMBER}}
        assert shown(tmp_path) == {"completed": NUMBER}


@pytest.mark.usefixtures("patient")
async def test_what_waited_longest_is_made_when_too_much_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load nobody rests, and files follow all the same; the rest is known to wait."""
    monkeypatch.setattr(lag, "MOST", NUMBER + 1)
    async with FileQueue(tmp_path) as queue, FileQueue(tmp_path) as other:
        await fill(queue, 3 * NUMBER)
        first = await claim(queue)
        assert shown(tmp_path) == {"pending": 3 * NUMBER}
        await claim(queue)
        assert shown(tmp_path) == {"running": NUMBER - 1, "pending": 2 * NUMBER + 1}

        assert all(await queue.swap(ends(first)))
        assert await other.counts() == {
            "default": {COMPLETED: NUMBER, RUNNING: NUMBER, TaskStatus.PENDING: NUMBER}
        }


async def test_what_waited_long_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nobody rests and little waits."""
    monkeypatch.setattr(store, "IDLE_SECONDS", 100.0)
    async with FileQueue(tmp_path) as queue:
        await fill(queue, 3 * NUMBER)
        monkeypatch.setattr(lag, "WAIT_SECONDS", 100.0)
        await claim(queue)
        monkeypatch.setattr(lag, "WAIT_SECONDS", 0.0)
        await queue.get(IDS[:1])

        assert shown(tmp_path) == {"running": NUMBER, "pending": 2 * NUMBER}


@pytest.mark.usefixtures("patient")
async def test_what_waits_is_made_on_closing(tmp_path: Path) -> None:
    """Nothing of an orderly end is left to others."""
    async with FileQueue(tmp_path) as queue:
        await fill(queue)
        await claim(queue)

    assert shown(tmp_path) == {"running": NUMBER}


@pytest.mark.usefixtures("patient")
async def test_a_task_too_large_to_be_remembered_is_never_read_as_it_was(tmp_path: Path) -> None:
    """What its file says is old while its change waits."""
    async with FileQueue(tmp_path) as queue:
        await fill(queue, note="x" * 70_000)
        tasks = await claim(queue)

        assert {task and task.status for task in await queue.get(IDS)} == {RUNNING}
        assert all(await queue.swap(ends(tasks)))
        assert [task.status for task in await queue.list_tasks()] == [COMPLETED] * NUMBER


@pytest.mark.usefixtures("patient")
async def test_who_looks_at_folders_finds_them_up_to_date(tmp_path: Path) -> None:
    """Purging, counting, filtering, and leases of dead workers."""
    async with FileQueue(tmp_path) as queue:
        await fill(queue)
        tasks = await claim(queue)
        assert [task.id for task in await queue.list_tasks(status=RUNNING)] == IDS
        assert all(await queue.swap(ends(tasks)))
        assert await queue.purge(utcnow() + timedelta(seconds=1)) == NUMBER

    assert shown(tmp_path) == {}


@pytest.mark.usefixtures("patient")
async def test_another_process_makes_what_waits_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the lock next finds everything made; the second object stands for it."""
    monkeypatch.setattr(lag, "SHARED_SECONDS", 0.0)
    async with FileQueue(tmp_path) as one, FileQueue(tmp_path) as other:
        await fill(one)
        tasks = await claim(one)
        assert await claim(other) == []
        assert shown(tmp_path) == {"running": NUMBER}

        assert all(await one.swap(ends(tasks)))
        assert {task and task.status for task in await other.get(IDS)} == {COMPLETED}
        assert await one.counts() == {"default": {COMPLETED: NUMBER}}


@pytest.mark.usefixtures("patient")
async def test_nothing_waits_while_another_process_is_at_work(tmp_path: Path) -> None:
    """It would have to make what waits before its own changes."""
    async with FileQueue(tmp_path) as one, FileQueue(tmp_path) as other:
        await fill(one)
        tasks = await claim(one)
        assert shown(tmp_path) == {"pending": NUMBER}
        await other.insert([Task(func="f", id="new")])

        assert all(await one.swap(ends(tasks)))

        assert shown(tmp_path) == {"completed": NUMBER, "pending": 1}


@pytest.mark.usefixtures("patient")
async def test_a_queue_is_looked_at_anew_with_what_waits(tmp_path: Path) -> None:
    """A claim that fails forgets the line; the next one reads the folders, and they are current."""
    async with FileQueue(tmp_path) as queue:
        await fill(queue)
        tasks = await claim(queue)
        await queue.counts()
        assert shown(tmp_path) == {"running": NUMBER}
        released = [
            Change(task, lifecycle.settle(task, lifecycle.Released(), utcnow())) for task in tasks
        ]
        assert all(await queue.swap(released))
        queue._view.forget()  # pyright: ignore[reportPrivateUsage]

        assert [task.id for task in await claim(queue)] == IDS


def finish_and_die(folder: Path, step: int) -> bool:
    """In a child: use the store, which makes what waits in the parent, and die at that step."""
    child = os.fork()
    if child == 0:
        kill_at(step)
        asyncio.run(FileQueue(folder).get(IDS))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.mark.usefixtures("patient")
def test_who_dies_while_it_makes_what_waits_elsewhere_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose changes they were goes on as if nothing had been made."""
    monkeypatch.setattr(lag, "MANY", 1)
    step = died = 0
    while step == died:
        step += 1
        folder = tmp_path / f"{step:03d}"
        with FileBackend(folder) as backend:
            queue = backend.get_task_queue()
            queue.insert_sync([Task(func="f", id=task_id) for task_id in IDS[:2]])
            tasks = queue.claim_sync(["default"], worker_id="w", lease_token=new_token(), limit=2)
            died += finish_and_die(folder, step)
            assert queue.swap_sync(ends(tasks)) == [True, True]
        assert shown(folder) == {"completed": 2}
    assert died > 20
