"""Looking after tasks, results and queues."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omniq import OmniQ, Task, TaskEvent, TaskStatus
from omniq.clock import utcnow
from omniq.exceptions import (
    DuplicateTaskError,
    NotFoundError,
    StaleTaskError,
    StorageError,
)
from omniq.models import TaskResult


@pytest.fixture
async def app() -> AsyncIterator[OmniQ]:
    async with OmniQ("memory://") as app:
        yield app


async def events_of(app: OmniQ) -> list[tuple[str, str]]:
    return [(event.task_id, event.event_type) for event in await app.get_events()]


def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


class TestLookingAfter:
    """Tasks, results, queues."""

    async def test_a_pending_task_is_cancelled_once(self, app: OmniQ) -> None:
        """One event, however often it is asked."""
        handle = await app.enqueue("f")

        for _ in range(2):
            assert (await app.cancel(handle.id)).status is TaskStatus.CANCELLED

        assert [kind for _, kind in await events_of(app)] == ["ENQUEUED", "CANCELLED"]

    async def test_a_running_task_is_asked_to_stop(self, app: OmniQ) -> None:
        """Its worker does the rest."""
        handle = await app.enqueue("f")
        await app.task_queue.dequeue()

        task = await app.cancel(handle.id)

        assert (task.status, task.cancel_requested) == (TaskStatus.RUNNING, True)
        assert [kind for _, kind in await events_of(app)] == ["ENQUEUED", "CANCEL_REQUESTED"]

    async def test_retry_needs_a_finished_task(self, app: OmniQ) -> None:
        """And a free unique key."""
        call = app.task(add).options(unique_key="k")
        first = await call.enqueue(1)
        with pytest.raises(StaleTaskError, match="is pending, not finished"):
            await app.retry(first.id)

        await first.cancel()
        await call.enqueue(2)

        with pytest.raises(DuplicateTaskError):
            await app.retry(first.id)
        with pytest.raises(NotFoundError):
            await app.retry("nobody")

    async def test_tasks_are_found_by_queue_status_and_function(self, app: OmniQ) -> None:
        """All that match, or as many as asked for."""
        task = app.task(name="a", queue="q")(add)
        await task.enqueue_many([(n,) for n in range(150)])
        await app.enqueue("b")

        assert len(await app.list_tasks()) == 151
        assert len(await app.list_tasks("q")) == 150
        assert len(await app.list_tasks(limit=100)) == 100
        assert [one.func for one in await app.list_tasks(func="b")] == ["b"]
        assert await app.list_tasks(status="completed") == []

    async def test_results_by_id(self, app: OmniQ) -> None:
        """Without waiting, unless asked to."""
        handle = await app.enqueue("f")
        with pytest.raises(TimeoutError):
            await app.get_result(handle.id)
        held = await app.task_queue.dequeue()
        assert held is not None
        await app.result_storage.set(TaskResult(task_id=held.id, result=5, claim_count=1))
        await app.task_queue.complete(held)

        assert await app.get_result(handle.id) == 5
        assert await app.handle(handle.id).result() == 5

    async def test_how_queues_stand(self, app: OmniQ) -> None:
        """Those with tasks and those paused."""
        await app.task(queue="a")(add).enqueue_many([(1,), (2,)])
        await (await app.task(name="x", queue="a")(add).enqueue(1)).cancel()
        await app.pause_queue("b")

        status = await app.status()

        assert list(status) == ["a", "b"]
        assert status["a"].counts == {TaskStatus.PENDING: 2, TaskStatus.CANCELLED: 1}
        assert (status["a"].unfinished, status["a"].is_paused) == (2, False)
        assert (status["b"].unfinished, status["b"].is_paused) == (0, True)
        assert await app.counts() == {"a": status["a"].counts}
        assert await app.queue_size("a") == 2

    async def test_a_paused_queue_rests_until_resumed(self, app: OmniQ) -> None:
        """Enqueueing goes on."""
        await app.pause_queue("default")
        await app.enqueue("f")

        assert await app.task_queue.dequeue() is None
        assert await app.paused_queues() == {"default"}

        await app.resume_queue("default")

        assert await app.task_queue.dequeue() is not None
        assert await app.paused_queues() == set()

    async def test_purging_cancels_all_that_has_not_started(self, app: OmniQ) -> None:
        """Pending, delayed and waiting ones of this queue; running ones are left alone."""
        task = app.task(queue="q")(add)
        running = await task.enqueue(0)
        await app.task_queue.dequeue("q")
        doomed = [
            await task.enqueue(1),
            await task.options(delay=60).enqueue(2),
            await task.options(depends_on=running).enqueue(3),
        ]
        spared = await app.enqueue("f")

        assert await app.purge_queue("q") == 3

        assert [await one.status() for one in doomed] == [TaskStatus.CANCELLED] * 3
        assert await running.status() is TaskStatus.RUNNING
        assert await spared.status() is TaskStatus.PENDING
        assert [kind for _, kind in await events_of(app)].count("CANCELLED") == 3
        assert (await doomed[0].task()).error == "its queue was purged"

    async def test_purging_goes_page_by_page(self, app: OmniQ) -> None:
        """However many there are."""
        await app.task(queue="q")(add).enqueue_many([(n,) for n in range(1234)])

        assert await app.purge_queue("q") == 1234
        assert await app.purge_queue("q") == 0

    async def test_cleanup_tells_the_four_numbers(self, app: OmniQ) -> None:
        """Always the same keys."""
        old = utcnow() - timedelta(days=40)
        await app.enqueue_task(Task(func="f", status=TaskStatus.COMPLETED, finished_at=old))
        await app.result_storage.set(TaskResult(task_id="x", expires_at=old))
        await app.event_storage.log_event(TaskEvent(task_id="x", event_type="A", timestamp=old))
        await app.schedule("f", every=3600, end_at=datetime(2021, 1, 1, tzinfo=UTC))

        assert await app.cleanup() == {
            "expired_tasks": 1,
            "expired_results": 1,
            "expired_events": 1,
            "expired_schedules": 1,
        }

    async def test_store_errors_reach_the_caller(
        self, app: OmniQ, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is swallowed; the other half of the pair is not left running."""

        async def full(*_: Any) -> None:
            raise StorageError("disk full")

        monkeypatch.setattr(app.task_queue, "_insert", full)

        with pytest.raises(StorageError, match="disk full"):
            await app.enqueue("f")
