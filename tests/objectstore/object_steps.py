"""Processes on one object store that race, or die at a chosen request; run by the tests beside.

python object_steps.py walk <place>           one death a request, each in a folder of its own
python object_steps.py show <place>           the same, of a process that publishes the tree
python object_steps.py fork <place>           use a queue that is open, in a child and beside it
python object_steps.py drain <place> <name>   claim and complete tasks until there are none

A place is the arguments of `FileBackend` as JSON. What happened is told in lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from importlib import import_module
from typing import Any

from omniq import lifecycle
from omniq.backend.file import FileBackend
from omniq.clock import utcnow
from omniq.ids import new_token
from omniq.models.result import TaskResult
from omniq.models.schedule import Schedule, ScheduleType
from omniq.models.task import Task
from omniq.storage.base import Change
from omniq.storage.objectstore import publisher
from omniq.storage.objectstore.driver import ObjectDriver

MOST_STEPS = 100
PACKAGES = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs"}
DEAD = 9


def backend_at(place: list[Any], folder: str = "") -> FileBackend:
    base_dir, protocol, options = place
    return FileBackend(f"{base_dir}/{folder}" if folder else base_dir, protocol, options)


def die_after(driver: ObjectDriver, step: int) -> None:
    """End this process without a word after the answer to the request of that number.

    That is before the next: what lies between two requests changes nothing in the store.
    """
    left = [step]
    answered = driver._answered  # pyright: ignore[reportPrivateUsage] - all requests pass through it

    async def counted(what: str, work: Callable[[], Awaitable[Any]], seconds: float) -> Any:
        answer = await answered(what, work, seconds)
        left[0] -= 1
        if left[0] == 0:
            os._exit(DEAD)
        return answer

    vars(driver)["_answered"] = counted


async def work(place: list[Any], step: int) -> None:
    """Enqueue, claim, store a result and complete, dying at a step; say what was acknowledged."""
    backend = backend_at(place, str(step))
    driver = backend.driver
    assert driver is not None
    await driver.open()
    die_after(driver, step)
    queue, results = backend.get_task_queue(), backend.get_result_storage()
    first = Task(func="first", id="first", unique_key="only-one", priority=1)
    child = Task(func="child", id="child", depends_on=("first",))
    await queue.insert([first, child, Task(func="other", id="other")])
    tell("inserted")
    (task,) = await queue.claim(
        ["default"], worker_id="w", lease_token=new_token(), limit=1, lease_seconds=60
    )
    tell("claimed")
    await results.set(TaskResult(task_id=task.id, result=1, claim_count=task.claim_count))
    tell("stored")
    await queue.complete(task)
    tell("completed")
    await backend.disconnect()


async def show(place: list[Any], step: int) -> None:
    """Let tasks and a schedule change while the tree follows at once, dying at a step."""
    publisher.INTERVAL_SECONDS = 0.0
    backend = backend_at(place, str(step))
    driver = backend.driver
    assert driver is not None
    await driver.open()
    die_after(driver, step)
    queue, schedules = backend.get_task_queue(), backend.get_schedule_storage()
    await queue.insert([Task(func="f", id="first"), Task(func="f", id="other")])
    (task,) = await queue.claim(["default"], worker_id="w", lease_token=new_token(), limit=1)
    await schedules.save_schedule(
        Schedule(schedule_type=ScheduleType.INTERVAL, interval_seconds=60, func="f", id="often")
    )
    await queue.complete(task)
    await backend.disconnect()


def walk(place: list[Any], work: Callable[[list[Any], int], Coroutine[Any, Any, None]]) -> None:
    """Do the work once for each request it may die at, each time in a fresh child."""
    import_module(PACKAGES[place[1]])  # takes seconds: once for all children
    for step in range(1, MOST_STEPS):
        tell({"folder": str(step)})
        child = os.fork()
        if child == 0:
            asyncio.run(work(place, step))
            sys.stdout.flush()
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return
    raise AssertionError(f"still dying after {MOST_STEPS} steps")


def fork(place: list[Any]) -> None:
    """Open a queue, fork, and use it on both sides."""
    queue = backend_at(place).get_task_queue()
    queue.enqueue_sync(Task(func="f", id="of-the-parent"))
    child = os.fork()
    if child == 0:
        queue.enqueue_sync(Task(func="f", id="of-the-child"))
        tell(sorted(task.id for task in queue.list_tasks_sync()))
        queue.disconnect_sync()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    queue.enqueue_sync(Task(func="f", id="of-the-parent-again"))
    tell(sorted(task.id for task in queue.list_tasks_sync()))
    tell(code)


async def drain(place: list[Any], name: str) -> None:
    """Take part in a race: say when ready, begin on a line of input, tell what was done."""
    async with backend_at(place).get_task_queue() as queue:
        tell("ready")
        await asyncio.to_thread(sys.stdin.readline)
        while tasks := await queue.claim(
            ["default"], worker_id=name, lease_token=new_token(), limit=10
        ):
            changes = [
                Change(task, lifecycle.settle(task, lifecycle.Completed(), utcnow()))
                for task in tasks
            ]
            assert all(await queue.swap(changes))
            tell({"ran": [[task.id, task.claim_count] for task in tasks]})


def tell(facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "walk":
        walk(json.loads(sys.argv[2]), work)
    elif sys.argv[1] == "show":
        walk(json.loads(sys.argv[2]), show)
    elif sys.argv[1] == "fork":
        fork(json.loads(sys.argv[2]))
    else:
        asyncio.run(drain(json.loads(sys.argv[2]), sys.argv[3]))
