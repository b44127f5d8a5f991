"""The journal behind the files: segments, lagging readers, forks, closing in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from omniq.backend.file import FileBackend
from omniq.ids import new_token
from omniq.models.task import Task, TaskStatus
from omniq.storage.file import FileQueue, journal, store
from omniq.storage.file.location import Durability
from omniq.testing.waiting import wait_until


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "tasks/.omniq").glob("journal-*"))


async def claim_ids(queue: FileQueue, limit: int = 10) -> list[str]:
    tasks = await queue.claim(["default"], worker_id="w", lease_token=new_token(), limit=limit)
    return [task.id for task in tasks]


@pytest.mark.parametrize("durability", ["full", "fast"])
async def test_full_segments_are_put_aside_and_deleted(
    durability: Durability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal does not grow for ever, and what it brought stays."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 4096)
    async with FileQueue(tmp_path, durability=durability) as queue:
        for number in range(100):
            await queue.enqueue(Task(func="f", id=f"t{number:02d}"))
            await asyncio.sleep(0)

        async def few_are_left() -> bool:
            await queue.enqueue(Task(func="f"))
            return len(segments(tmp_path)) <= 3

        await wait_until(few_are_left, description="old segments are deleted")
        assert segments(tmp_path)[0] > "journal-000000002"

    async with FileQueue(tmp_path) as queue:
        assert (await claim_ids(queue, 100))[:3] == ["t00", "t01", "t02"]


async def test_one_who_lags_behind_looks_at_everything_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segments it has not read are gone; it misses nothing all the same."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 2048)
    async with (
        FileQueue(tmp_path, durability="fast") as busy,
        FileQueue(tmp_path, durability="fast") as idle,
    ):
        await busy.enqueue(Task(func="f", id="first"))
        assert await claim_ids(idle) == ["first"]
        await busy.set_paused("other", True)

        for number in range(50):
            await busy.enqueue(Task(func="f", id=f"t{number:02d}", priority=number))
        assert segments(tmp_path)[0] > "journal-000000002"
        await busy.set_paused("other", False)

        assert await claim_ids(idle, 3) == ["t49", "t48", "t47"]
        assert await idle.paused() == set()
        assert len(await idle.list_tasks()) == 51


async def test_one_hears_from_another_what_is_more_urgent(tmp_path: Path) -> None:
    """The order of claims is exact whoever enqueued, without listing the folder again."""
    async with FileQueue(tmp_path) as one, FileQueue(tmp_path) as other:
        await one.enqueue_many([Task(func="f", id=f"t{number}") for number in range(3)])
        assert await claim_ids(one, 1) == ["t0"]

        await other.enqueue(Task(func="f", id="urgent", priority=9))
        await other.cancel("t1")

        assert await claim_ids(one, 5) == ["urgent", "t2"]


async def test_a_waiting_worker_is_woken_by_another_object(tmp_path: Path) -> None:
    """By a socket; the second object stands for another process."""
    async with FileQueue(tmp_path) as one, FileQueue(tmp_path) as other:
        waiting = asyncio.create_task(one.dequeue("default", timeout=20))
        await asyncio.sleep(0.05)

        await other.enqueue(Task(func="f", id="a"))

        task = await asyncio.wait_for(waiting, 5)
        assert task is not None
        assert task.id == "a"


async def test_a_queue_closed_while_in_use_answers_all(tmp_path: Path) -> None:
    """Calls that come while it closes find it open again, or were done before."""
    queue = FileQueue(tmp_path, durability="fast")
    for _ in range(20):
        await queue.connect()
        calls = [asyncio.create_task(queue.enqueue(Task(func="f"))) for _ in range(5)]
        await asyncio.gather(queue.disconnect(), *calls)

    assert await queue.get_queue_size() == 100
    await queue.disconnect()


def test_a_forked_child_opens_anew(tmp_path: Path) -> None:
    """Nothing of the parent's handles is used or closed by the child."""
    with FileBackend(tmp_path) as backend:
        queue = backend.get_task_queue()
        queue.enqueue_sync(Task(func="f", id="parent"))

        child = os.fork()
        if child == 0:
            asyncio.run(queue.enqueue(Task(func="f", id="child")))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

        queue.enqueue_sync(Task(func="f", id="later"))
        assert [task.id for task in queue.list_tasks_sync()] == ["child", "later", "parent"]
        assert queue.counts_sync() == {"default": {TaskStatus.PENDING: 3}}


def test_a_child_forked_while_files_are_written_is_not_held_up(tmp_path: Path) -> None:
    """The lock of the process is held by a thread that the child does not have."""
    with store._one_at_a_time:  # pyright: ignore[reportPrivateUsage] - a thread would hold it so
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            asyncio.run(FileQueue(tmp_path).enqueue(Task(func="f")))
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
