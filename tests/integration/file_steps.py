"""A process that is killed at a chosen step of its work on files; run by test_file_crashes.

python file_steps.py walk <folder> [many]   once for each step, each time on a store of its own;
                                            with `many`, changes wait to be made together
python file_steps.py drain <folder> <name>  claim and complete tasks until there are none
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omniq.backend.file import FileBackend
from omniq.ids import new_token
from omniq.models.result import TaskResult
from omniq.models.task import Task
from omniq.storage.file import lag

STEPS = ("open", "write", "rename", "link", "unlink", "utime", "ftruncate", "mkdir", "fdatasync")
MOST_STEPS = 400


def kill_at(step: int) -> None:
    """End this process without a word before the call of that number that changes files."""
    left = [step]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return run

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


async def work(folder: Path) -> None:
    """Enqueue, claim, store results and complete; say what was acknowledged."""
    async with FileBackend(folder) as backend:
        queue, results = backend.get_task_queue(), backend.get_result_storage()
        first = Task(func="first", id="first", unique_key="only-one", priority=1)
        child = Task(func="child", id="child", depends_on=("first",))
        await queue.insert([first, child, Task(func="other", id="other")])
        acknowledge(folder, "inserted")
        claimed = await queue.claim(
            ["default"], worker_id="w", lease_token=new_token(), limit=1, lease_seconds=1
        )
        (task,) = claimed
        acknowledge(folder, "claimed")
        await results.set(TaskResult(task_id=task.id, result=1, claim_count=task.claim_count))
        acknowledge(folder, "stored")
        await queue.complete(task)
        acknowledge(folder, "completed")


def acknowledge(folder: Path, what: str) -> None:
    with Path(f"{folder}.log").open("a") as log:
        log.write(f"{what}\n")


def walk(base: Path) -> None:
    """Do the work again and again, killed one step later each time, until it is done unharmed."""
    for step in range(1, MOST_STEPS):
        child = os.fork()
        if child == 0:
            kill_at(step)
            asyncio.run(work(base / f"{step:03d}"))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status
    raise AssertionError(f"not done after {MOST_STEPS} steps")


async def drain(folder: Path, name: str) -> None:
    """Complete tasks until none is left; note each in a file of one's own."""
    async with FileBackend(folder, durability="fast") as backend:
        queue = backend.get_task_queue()
        with Path(f"{folder}.{name}.ran").open("a") as log:  # noqa: ASYNC230 - its own process
            while tasks := await queue.claim(
                ["default"], worker_id=name, lease_token=new_token(), limit=15
            ):
                log.writelines(f"{task.id}\n" for task in tasks)
                await asyncio.gather(*(queue.complete(task) for task in tasks))


if __name__ == "__main__":
    if sys.argv[1] == "walk":
        if sys.argv[3:] == ["many"]:
            lag.MANY = 1
        walk(Path(sys.argv[2]))
    else:
        asyncio.run(drain(Path(sys.argv[2]), sys.argv[3]))
