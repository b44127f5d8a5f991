"""Handles: an application, seen from one task."""

import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest

from omniq import OmniQ, Task, TaskStatus, lifecycle
from omniq.exceptions import (
    NotFoundError,
    ResultError,
    ResultTimeoutError,
    TaskCancelledError,
    TaskFailedError,
    ValidationError,
)
from omniq.models import ErrorInfo, EventType, TaskResult
from tests.naming import stable_id
from tests.unit.handle_doubles import (
    claim,
    enqueue,
    finish,
)


@pytest.fixture
async def app() -> AsyncIterator[OmniQ]:
    async with OmniQ("memory://") as app:
        yield app


class TestOtherMethods:
    """The application, seen from one task."""

    async def test_wait_returns_the_task_however_it_ended(self, app: OmniQ) -> None:
        """For those who do not want an exception."""
        handle = await finish(app, lifecycle.failure("no"))

        assert (await handle.wait()).status is TaskStatus.FAILED

    async def test_wait_times_out(self, app: OmniQ) -> None:
        """As `result` does."""
        with pytest.raises(ResultTimeoutError):
            await (await enqueue(app)).wait(timeout=0)

    async def test_status_progress_and_task(self, app: OmniQ) -> None:
        """Always as stored now."""
        handle = await enqueue(app)
        (held,) = await claim(app)
        held.progress = 0.5
        await app.task_queue.update_task(held)

        assert await handle.status() is TaskStatus.RUNNING
        assert await handle.progress() == 0.5
        assert (await handle.task()).id == handle.id

    async def test_cancel_and_retry(self, app: OmniQ) -> None:
        """And what was logged of them."""
        handle = await enqueue(app)

        assert (await handle.cancel()).status is TaskStatus.CANCELLED
        assert (await handle.retry()).status is TaskStatus.PENDING
        assert [event.event_type for event in await handle.events()] == [
            EventType.ENQUEUED,
            EventType.CANCELLED,
            EventType.REQUEUED,
        ]

    async def test_all_of_them_tell_of_a_missing_task(self, app: OmniQ) -> None:
        """By the same error."""
        handle = app.handle("nobody")

        for call in (
            handle.task,
            handle.status,
            handle.progress,
            handle.wait,
            handle.cancel,
            handle.retry,
        ):
            with pytest.raises(NotFoundError, match="there is no task nobody"):
                await call()
        assert await handle.events() == []

    async def test_handles_of_one_task_are_equal(self, app: OmniQ) -> None:
        """They can be kept in sets and compared."""
        first, second, other = app.handle("a"), app.handle("a"), app.handle("b")

        assert first == second
        assert first != other
        assert first != "a"
        assert len({first, second, other}) == 2
        assert repr(first) == "<TaskHandle a>"

    @pytest.mark.parametrize("task_id", ["", "a/b", "..", None], ids=stable_id)
    async def test_a_bad_id_is_refused_at_once(self, app: OmniQ, task_id: Any) -> None:
        """It must not spoil the batch of others."""
        with pytest.raises(ValidationError):
            app.handle(task_id)


def test_every_method_has_its_blocking_twin() -> None:
    """The same, without a loop."""
    app = OmniQ("memory://")
    with app:
        handle = app.enqueue_task_sync(Task(func="f"))
        claimed = app.task_queue.claim_sync(["default"], worker_id="w", lease_token="k")
        app.result_storage.set_sync(TaskResult(task_id=handle.id, result=5, claim_count=1))
        app.task_queue.complete_sync(claimed[0])

        assert handle.result_sync(timeout=5) == 5
        assert handle.wait_sync().is_final
        assert handle.status_sync() is TaskStatus.COMPLETED
        assert handle.progress_sync() is None
        assert handle.task_sync().id == handle.id
        assert len(handle.events_sync()) == 1
        assert handle.cancel_sync().status is TaskStatus.COMPLETED
        assert handle.retry_sync().status is TaskStatus.PENDING


@pytest.mark.parametrize(
    "error",
    [
        TaskFailedError("t", "no", ErrorInfo("a.B", "c")),
        TaskCancelledError("t", "no"),
        ResultTimeoutError("t", "no"),
        ValidationError("field", "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: Exception) -> None:
    """They cross process pools and test runners."""
    back = pickle.loads(pickle.dumps(error))

    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))
    assert isinstance(back, ResultError | ValidationError)
