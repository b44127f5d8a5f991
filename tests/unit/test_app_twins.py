"""The blocking face of applications, handles and task functions."""

import asyncio

import pytest

import omniq
from omniq import OmniQ, TaskHandle, TaskStatus
from omniq.exceptions import (
    SyncInAsyncError,
)


def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


def test_every_coroutine_of_the_application_has_its_twin() -> None:
    """A rule, so that nobody has to remember exceptions."""
    import inspect

    for cls in (OmniQ, TaskHandle, omniq.TaskFunction):
        for name, _ in inspect.getmembers(cls, inspect.iscoroutinefunction):
            if not name.startswith("_"):
                assert callable(getattr(cls, f"{name}_sync", None)), f"{cls.__name__}.{name}"


def test_a_program_without_a_loop_uses_the_twins() -> None:
    """From the first task to the end."""
    with OmniQ("memory://") as app:
        task = app.task(add)
        handles = [task.enqueue_sync(1), *task.enqueue_many_sync([(2,), (3,)])]
        handles.append(app.enqueue_sync(task, 4))

        assert app.counts_sync()["default"] == {TaskStatus.PENDING: 4}
        assert app.cancel_sync(handles[0].id).status is TaskStatus.CANCELLED
        assert app.retry_sync(handles[0].id).status is TaskStatus.PENDING
        assert len(app.get_events_sync(handles[0].id)) == 3
        assert app.purge_queue_sync("default") == 4
        assert app.cleanup_sync()["expired_tasks"] == 0


async def test_twins_inside_a_loop_name_what_to_await() -> None:
    """Of tasks and applications alike."""
    app = OmniQ("memory://")
    task = app.task(name="sum")(add)

    for call, name in (
        (lambda: task.enqueue_sync(1), "sum.enqueue"),
        (lambda: task.enqueue_many_sync([(1,)]), "sum.enqueue_many"),
        (lambda: app.enqueue_sync("f"), "OmniQ.enqueue"),
        (app.counts_sync, "OmniQ.counts"),
        (lambda: app.handle("x").result_sync(), "TaskHandle.result"),
    ):
        with pytest.raises(SyncInAsyncError, match=rf"{name}_sync\(\) .*`await {name}\(…\)`"):
            call()


def test_one_application_serves_several_loops_and_the_twins() -> None:
    """Built at module level, opened anywhere."""
    app = OmniQ("memory://")
    task = app.task(add)

    asyncio.run(app.connect())
    first = asyncio.run(_enqueue(task))
    second = task.enqueue_sync(2)

    assert {first.id, second.id} == {one.id for one in app.list_tasks_sync()}


async def _enqueue(task: omniq.TaskFunction[..., int]) -> TaskHandle[int]:
    return await task.enqueue(1)
