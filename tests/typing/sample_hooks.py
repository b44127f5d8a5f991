# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Checked by `test_types.py`: what a type checker says of hooks.

Each line with an ignore must be an error, each other line must not.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import assert_type

from omniq import OmniQ, Task, TaskContext, TaskEvent, current_task

q = OmniQ("memory://")


@q.lifespan
async def pool() -> AsyncIterator[list[str]]:
    yield []


@q.around
async def timed(task: TaskContext) -> AsyncGenerator[None]:
    assert_type(task.task, Task)
    yield


@q.on_event
def count(event: TaskEvent, task: Task) -> None: ...


@q.before_enqueue
def stamp(task: Task) -> Mapping[str, str]:
    return {"request": task.id}


@q.before_enqueue
def sometimes(task: Task) -> dict[str, int] | None:
    return None


# A decorated function stays itself.
assert_type(stamp(Task(func="f")), Mapping[str, str])
assert_type(count(TaskEvent(task_id="t", event_type="STARTED"), Task(func="f")), None)


async def a_task() -> None:
    current_task().state.anything()


# A function of another kind is an error.


@q.lifespan  # type: ignore[type-var]
async def returns() -> None: ...


@q.around  # type: ignore[type-var]
async def of_nothing() -> AsyncIterator[None]:
    yield


@q.on_event  # type: ignore[type-var]
def of_one(event: TaskEvent) -> None: ...


@q.before_enqueue  # type: ignore[type-var]
def returns_task(task: Task) -> Task:
    return task
