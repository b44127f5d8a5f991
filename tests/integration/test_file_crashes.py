# ruff: noqa: ASYNC220, ASYNC221, ASYNC240 - nothing else runs while these tests look at files
"""What becomes of files when a process is killed at any step, or the power fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from omniq.backend.file import FileBackend
from omniq.clock import utcnow
from omniq.ids import new_token
from omniq.models.result import TaskResult
from omniq.models.task import Task, TaskStatus

SCRIPT = str(Path(__file__).with_name("file_steps.py"))
EXPECTED = {
    "first": {TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.COMPLETED},
    "child": {TaskStatus.WAITING, TaskStatus.PENDING},
    "other": {TaskStatus.PENDING},
}


def tree(folder: Path) -> list[str]:
    """The tasks as `ls` shows them: queue, status and id."""
    paths = folder.glob("tasks/*/*/*.json")
    return sorted(
        f"{path.parent.parent.name}/{path.parent.name}/{path.stem[26:]}"
        for path in paths
        if not path.parent.parent.name.startswith(".")
    )


async def verify(folder: Path, acknowledged: set[str]) -> None:
    """Check that nothing acknowledged is lost, nothing is half done, and all of it can be run."""
    async with FileBackend(folder) as backend:
        queue, results = backend.get_task_queue(), backend.get_result_storage()
        tasks = {task.id: task for task in await queue.list_tasks()}
        assert tasks.keys() in ({}.keys(), EXPECTED.keys())
        assert tree(folder) == sorted(
            f"{task.queue_name}/{task.status.value}/{task.id}" for task in tasks.values()
        )
        if not tasks:
            assert "inserted" not in acknowledged
            return
        assert all(tasks[name].status in allowed for name, allowed in EXPECTED.items())
        done = tasks["first"].status is TaskStatus.COMPLETED
        assert done or "completed" not in acknowledged
        assert (tasks["child"].status is TaskStatus.PENDING) == done
        if done or "stored" in acknowledged:
            assert await results.get_result("first") == 1
        await run_all(backend, done=done)


async def run_all(backend: FileBackend, *, done: bool) -> None:
    """Whatever was left is claimed after its lease, and its key and children are freed."""
    queue = backend.get_task_queue()
    later = utcnow() + timedelta(seconds=60)
    ran: list[str] = []
    while tasks := await queue.claim(
        ["default"], worker_id="w2", lease_token=new_token(), limit=1, now=later
    ):
        ran.append(tasks[0].id)
        await queue.complete(tasks[0], now=later)
    assert sorted(ran) == sorted({"child", "other"} | (set() if done else {"first"}))
    assert await queue.enqueue(Task(func="next", unique_key="only-one", id="next")) == "next"


@pytest.mark.parametrize("how", [[], ["many"]], ids=["at once", "a moment later"])
async def test_killed_at_any_step_nothing_is_lost_or_half_done(
    how: list[str], tmp_path: Path
) -> None:
    """A process may die between any two changes of a file, and before those that wait."""
    subprocess.run([sys.executable, SCRIPT, "walk", str(tmp_path), *how], check=True, timeout=100)

    logs = sorted(tmp_path.glob("*.log"))
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert len(folders) > 40
    for folder in folders:
        log = tmp_path / f"{folder.name}.log"
        acknowledged = set(log.read_text().split()) if log in logs else set[str]()
        await verify(folder, acknowledged)


async def fill(folder: Path) -> None:
    """Leave a task in each of several states, and results."""
    async with FileBackend(folder) as backend:
        queue, results = backend.get_task_queue(), backend.get_result_storage()
        await queue.enqueue_many(
            [Task(func="f", id=f"t{number}", args=(number,)) for number in range(6)]
        )
        for _ in range(3):
            task = await queue.dequeue()
            assert task is not None
            await results.set(TaskResult(task_id=task.id, result=task.args[0], claim_count=1))
            if task.id != "t2":
                await queue.complete(task)
        await queue.cancel("t5")


async def test_after_a_power_cut_the_journal_brings_everything_back(tmp_path: Path) -> None:
    """Even if nothing but the synced journal had reached the disk."""
    await fill(tmp_path)
    async with FileBackend(tmp_path) as backend:
        before = await backend.get_task_queue().list_tasks()
    for component in ("tasks", "results"):
        for path in (tmp_path / component).iterdir():
            if path.name != ".omniq":
                shutil.rmtree(path)
        (tmp_path / component / ".omniq" / "control").unlink()

    async with FileBackend(tmp_path) as backend:
        after = await backend.get_task_queue().list_tasks()
        values = [await backend.get_result_storage().get_result(f"t{n}") for n in range(3)]

    assert after == before
    assert values == [0, 1, 2]
    assert len(tree(tmp_path)) == 6


async def test_after_a_power_cut_torn_files_are_made_whole(tmp_path: Path) -> None:
    """Files that had reached the disk as empty ones, at an older place, or at two."""
    await fill(tmp_path)
    async with FileBackend(tmp_path) as backend:
        before = await backend.get_task_queue().list_tasks()
    tasks = tmp_path / "tasks"
    for path in tasks.glob("default/*/*.json"):
        path.write_bytes(b"")
    moved = next(tasks.glob("default/completed/*.json"))
    moved.rename(tasks / "default" / "running" / moved.name)
    doubled = next(tasks.glob("default/cancelled/*.json"))
    (tasks / "default" / "pending" / doubled.name).hardlink_to(doubled)
    (tasks / ".omniq" / "control").write_bytes(b"another boot")

    async with FileBackend(tmp_path) as backend:
        assert await backend.get_task_queue().list_tasks() == before
    assert len(tree(tmp_path)) == 6


async def test_a_torn_end_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    """What was not appended as a whole was not acknowledged."""
    await fill(tmp_path)
    (journal,) = (tmp_path / "tasks" / ".omniq").glob("journal-*")
    with journal.open("ab") as file:
        file.write(b"\x40\0\0\0torn")

    async with FileBackend(tmp_path) as backend:
        assert len(await backend.get_task_queue().list_tasks()) == 6
        await backend.get_task_queue().enqueue(Task(func="f", id="t9"))
    async with FileBackend(tmp_path) as backend:
        assert len(await backend.get_task_queue().list_tasks()) == 7


async def test_a_copy_of_the_files_is_a_store_of_its_own(tmp_path: Path) -> None:
    """Also one made by a tool that turns two names of a file into two files."""
    await fill(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    async with FileBackend(tmp_path / "b") as backend:
        queue = backend.get_task_queue()
        task = await queue.dequeue()
        assert task is not None
        await queue.complete(task)
        assert len(await queue.list_tasks()) == 6

    shown = next((tmp_path / "b/tasks/default/completed").glob(f"*{task.id}.json"))
    assert b'"status":"completed"' in shown.read_bytes()
    assert len(tree(tmp_path / "b")) == len(tree(tmp_path / "a")) == 6


async def race(folder: Path, *, processes: int, tasks: int) -> None:
    async with FileBackend(folder, durability="fast") as backend:
        queue = backend.get_task_queue()
        await queue.enqueue_many([Task(func="f", id=f"t{number}") for number in range(tasks)])
    running = [
        subprocess.Popen([sys.executable, SCRIPT, "drain", str(folder), f"w{number}"])
        for number in range(processes)
    ]
    assert [process.wait(100) for process in running] == [0] * processes

    logs = [path.read_text().split() for path in folder.parent.glob("*.ran")]
    assert Counter(line for log in logs for line in log) == Counter(
        f"t{number}" for number in range(tasks)
    )
    async with FileBackend(folder) as backend:
        counts = await backend.get_task_queue().counts()
    assert counts == {"default": {TaskStatus.COMPLETED: tasks}}


async def test_processes_share_the_files_and_each_task_runs_once(tmp_path: Path) -> None:
    """Quick version of the one below."""
    await race(tmp_path / "store", processes=3, tasks=600)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_eight_processes_run_two_thousand_tasks_each_once(tmp_path: Path) -> None:
    """No task is lost or taken twice."""
    await race(tmp_path / "store", processes=8, tasks=2_000)
