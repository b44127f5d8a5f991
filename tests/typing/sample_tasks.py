# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Checked by `test_types.py`: what a type checker says of tasks, handles and their results.

Each line with an ignore must be an error, each other line must not.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from omniq import OmniQ, Task, TaskEvent, TaskFunction, TaskHandle, TaskStatus
from omniq.registry import AsyncTaskFunction, SyncTaskFunction

q = OmniQ("memory://")


@dataclass
class Point:
    x: int


@q.task
async def add(a: int, b: int = 0) -> int:
    return a + b


@q.task(max_retries=3, timeout=timedelta(seconds=30), queue="math")
async def move(point: Point, *, by: int) -> Point:
    return Point(point.x + by)


@q.task
def name_of(point: Point) -> str | None:
    return str(point)


@q.task(name="plain", retry_on=(OSError,))
def plain(*numbers: float) -> list[float]:
    return list(numbers)


@q.cron("0 9 * * mon-fri", timezone="Europe/Berlin", priority=3, misfire="skip")
def report() -> None: ...


@q.every(60)
@q.task
async def poll() -> None: ...


assert_type(add, AsyncTaskFunction[[int, int], int])  # pyright: ignore[reportAssertTypeFailure] - names and defaults are kept
assert_type(name_of(Point(1)), str | None)
assert_type(plain(1.0), list[float])

remote: TaskFunction[..., Any] = q.task_function("elsewhere.work")
anything: TaskFunction[[Point], str | None] = name_of
blocking: SyncTaskFunction[[Point], str | None] = name_of


async def results() -> None:
    handle = await add.enqueue(2, 3)
    assert_type(handle, TaskHandle[int])
    assert_type(await handle.result(), int)
    assert_type(await handle.result(timeout=10), int)
    assert_type(await add(2, 3), int)
    assert_type(await (await move.enqueue(Point(1), by=2)).result(), Point)
    assert_type(await (await name_of.enqueue(Point(1))).result(), str | None)
    assert_type(await (await report.enqueue()).result(), None)
    assert_type(await add.enqueue_many([(1, 2), {"a": 1}]), list[TaskHandle[int]])
    assert_type(await q.enqueue(add, 2, b=3), TaskHandle[int])
    assert_type(await q.enqueue("elsewhere.work", 1, x=2), TaskHandle[Any])
    assert_type(await handle.status(), TaskStatus)
    assert_type(await handle.events(), list[TaskEvent])
    assert_type(await handle.wait(), Task)
    called = add.options(delay=60, priority=5, unique_key="a", depends_on=[handle, "id"])
    assert_type(await called.enqueue(1), TaskHandle[int])


async def mistakes() -> None:
    await add.enqueue("x", 3)  # pyright: ignore[reportArgumentType]
    await add.enqueue(1, b="x")  # pyright: ignore[reportArgumentType]
    await add.enqueue()  # pyright: ignore[reportCallIssue]
    await add.enqueue(1, 2, 3)  # pyright: ignore[reportCallIssue]
    await add.enqueue(c=1)  # pyright: ignore[reportCallIssue]
    await move.enqueue(Point(1), 2)  # pyright: ignore[reportCallIssue]
    await add.enqueue_many([1, 2])  # pyright: ignore[reportArgumentType]
    add.options(priority="high")  # pyright: ignore[reportArgumentType]
    add.options(colour=1)  # pyright: ignore[reportCallIssue]
    add.options(on_parent_failure="ignore")  # pyright: ignore[reportArgumentType]
    q.task(max_retries="3")  # pyright: ignore[reportArgumentType]
    q.cron("* * * * *", misfire="never")  # pyright: ignore[reportArgumentType]
    wrong: str = await (await add.enqueue(1)).result()  # pyright: ignore[reportAssignmentType]
    del wrong


def without_a_loop() -> None:
    handle = add.enqueue_sync(2, 3)
    assert_type(handle, TaskHandle[int])
    assert_type(handle.result_sync(timeout=10), int)
    assert_type(handle.wait_sync(), Task)
    assert_type(handle.status_sync(), TaskStatus)
    assert_type(handle.cancel_sync(), Task)
    assert_type(q.enqueue_sync(add, 1), TaskHandle[int])
    assert_type(add.enqueue_many_sync([(1,)]), list[TaskHandle[int]])
    add.enqueue_sync("x")  # pyright: ignore[reportArgumentType]
    handle.result_sync(timeout="x")  # pyright: ignore[reportArgumentType]
