"""Waiting for a task's end, and telling why there is no value."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from omniq import OmniQ, Task, TaskStatus, lifecycle
from omniq.clock import utcnow
from omniq.exceptions import (
    NotFoundError,
    ResultExpiredError,
    ResultTimeoutError,
    SerializationError,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
)
from omniq.models import ErrorInfo, ResultStatus, TaskResult
from tests.naming import stable_id
from tests.unit.handle_doubles import (
    CountingQueue,
    CountingResults,
    claim,
    enqueue,
    finish,
    success,
    until,
)


@pytest.fixture
def queue() -> CountingQueue:
    return CountingQueue()


@pytest.fixture
def results() -> CountingResults:
    return CountingResults()


@pytest.fixture
async def app(queue: CountingQueue, results: CountingResults) -> AsyncIterator[OmniQ]:
    async with OmniQ("memory://", tasks=queue, results=results) as app:
        yield app


class TestResult:
    """One task, each possible end."""

    @pytest.mark.parametrize("value", [5, None, 0, "", [], {"a": (1, 2)}], ids=stable_id)
    async def test_a_completed_task_gives_its_value(self, app: OmniQ, value: Any) -> None:
        """Falsy values and None are values."""
        handle = await finish(app, lifecycle.Completed(value), success(value))

        assert await handle.result() == value

    async def test_waiting_ends_when_the_task_does(self, app: OmniQ, queue: CountingQueue) -> None:
        """By the store's signal, not by looking again and again."""
        handle = await enqueue(app)
        waiting = asyncio.create_task(handle.result(timeout=30))
        (held,) = await claim(app)
        await until(lambda: queue.waits == 1)

        await app.result_storage.set(TaskResult(task_id=held.id, result=7, claim_count=1))
        await app.task_queue.complete(held)

        assert await waiting == 7
        assert len(queue.looks) == 2

    async def test_a_task_just_enqueued_is_waited_for_before_it_is_looked_at(
        self, app: OmniQ, queue: CountingQueue, results: CountingResults
    ) -> None:
        """It is hardly finished by then; once it is, task and result are read at the same time."""
        handle = await app.enqueue("f")
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: queue.waits == 1)
        assert queue.looks == []

        (held,) = await claim(app)
        await app.result_storage.set(TaskResult(task_id=held.id, result=7, claim_count=1))
        await app.task_queue.complete(held)

        assert await waiting == 7
        assert (queue.looks, results.looks) == ([1], 1)
        assert await handle.result() == 7
        assert queue.waits == 1

    async def test_a_task_just_enqueued_is_not_waited_for_without_time(
        self, app: OmniQ, queue: CountingQueue
    ) -> None:
        """A look is all that was asked for."""
        handle = await app.enqueue("f")

        with pytest.raises(ResultTimeoutError):
            await handle.result(timeout=0)

        assert (queue.looks, queue.waits) == ([1], 0)

    async def test_a_result_read_before_its_task_is_read_again(
        self, app: OmniQ, queue: CountingQueue, results: CountingResults
    ) -> None:
        """The two reads may meet a store between the writing of the result and the end."""
        handle = await app.enqueue("f")
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: queue.waits == 1)
        (held,) = await claim(app)
        results.sees_nothing = 1

        await app.result_storage.set(TaskResult(task_id=held.id, result=7, claim_count=1))
        await app.task_queue.complete(held)

        assert await waiting == 7
        assert results.looks == 2

    async def test_a_failed_task_raises_with_its_error(self, app: OmniQ) -> None:
        """Type, message and traceback of the last attempt; the message names task and reason."""
        error = ErrorInfo("builtins.ValueError", "bad", "Traceback …")
        outcome = lifecycle.Failed(error)
        handle = await finish(
            app, outcome, TaskResult(task_id="?", status=ResultStatus.FAILED, error=error)
        )

        with pytest.raises(
            TaskFailedError, match=rf"task {handle.id} \(f\) failed: ValueError: bad"
        ) as caught:
            await handle.result()
        assert caught.value.error == error
        assert caught.value.task_id == handle.id

    async def test_a_failure_without_a_stored_result_still_tells_its_reason(
        self, app: OmniQ
    ) -> None:
        """Results expire before tasks do."""
        handle = await finish(app, lifecycle.failure(KeyError("x")))

        with pytest.raises(TaskFailedError, match=r"failed: .*KeyError") as caught:
            await handle.result()
        assert caught.value.error is not None

    async def test_a_cancelled_task_raises(self, app: OmniQ) -> None:
        """With the reason."""
        handle = await finish(app, lifecycle.Cancelled("no longer needed"))

        with pytest.raises(
            TaskCancelledError, match=f"{handle.id} was cancelled: no longer needed"
        ):
            await handle.result()

    async def test_one_cancelled_without_a_reason_says_so_once(self, app: OmniQ) -> None:
        """`was cancelled: cancelled` reads like a mistake."""
        handle = await finish(app, lifecycle.Cancelled())

        with pytest.raises(TaskCancelledError, match=r"was cancelled$"):
            await handle.result()

    async def test_an_expired_task_raises(self, app: OmniQ) -> None:
        """It never ran."""
        handle = await finish(app, lifecycle.Expired())

        with pytest.raises(TaskExpiredError, match=f"{handle.id} never ran: expired before"):
            await handle.result()

    @pytest.mark.parametrize("timeout", [0, 0.01, -1])
    async def test_an_unfinished_task_times_out(self, app: OmniQ, timeout: float) -> None:
        """It goes on regardless; the error says what is missing, and is a TimeoutError."""
        handle = await enqueue(app, queue_name="mail")

        with pytest.raises(
            TimeoutError, match="still pending; is a worker of queue 'mail'"
        ) as caught:
            await handle.result(timeout=timeout)
        assert isinstance(caught.value, ResultTimeoutError)
        assert await handle.status() is TaskStatus.PENDING

    async def test_the_timeout_tells_why_a_task_waits(self, app: OmniQ) -> None:
        """A parked or retrying task has a reason; a running one is running."""
        handle = await enqueue(app)
        (held,) = await claim(app)
        with pytest.raises(ResultTimeoutError, match=r"still running \(attempt 1\)"):
            await handle.result(timeout=0)

        await app.task_queue.settle(held, lifecycle.Parked("no task 'f' is registered"))

        with pytest.raises(ResultTimeoutError, match="still scheduled: no task 'f' is registered"):
            await handle.result(timeout=0)

    async def test_a_task_nobody_stored_is_not_found(self, app: OmniQ) -> None:
        """Or one deleted long ago: the error tells of both."""
        with pytest.raises(NotFoundError, match=r"there is no task nobody; .*deleted"):
            await app.handle("nobody").result()

    async def test_a_task_deleted_while_waiting_is_not_found(self, app: OmniQ) -> None:
        """Its result is gone with it, for nothing says which result to trust."""
        handle = await finish(app, lifecycle.Completed(5), success(5))
        await app.task_queue.purge(utcnow() + timedelta(seconds=1))

        with pytest.raises(NotFoundError):
            await handle.result(timeout=5)

    async def test_an_expired_result_is_told_apart_from_a_missing_task(self, app: OmniQ) -> None:
        """What to do: a longer result_ttl."""
        gone = success(expires_at=utcnow() - timedelta(seconds=1))
        handle = await finish(app, lifecycle.Completed(5), gone)

        with pytest.raises(ResultExpiredError, match=f"{handle.id} completed.*longer result_ttl"):
            await handle.result()

    async def test_a_task_that_keeps_no_result_says_so(self, app: OmniQ) -> None:
        """`result_ttl=0` was asked for."""
        handle = await finish(app, lifecycle.Completed(5), result_ttl_seconds=0.0)

        with pytest.raises(ResultExpiredError, match="keeps no result"):
            await handle.result()

    async def test_the_result_of_a_lost_run_is_not_trusted(self, app: OmniQ) -> None:
        """A worker wrote its result and died; the run that counts was another."""
        handle = await enqueue(app)
        await claim(app)
        await app.result_storage.set(TaskResult(task_id=handle.id, result="lost", claim_count=1))
        (held,) = await app.task_queue.claim(
            ["default"], worker_id="w2", lease_token="k2", now=utcnow() + timedelta(minutes=5)
        )
        await app.task_queue.complete(held)

        with pytest.raises(ResultExpiredError):
            await handle.result()

    async def test_a_result_beyond_the_final_claim_is_not_trusted(self, app: OmniQ) -> None:
        """Nothing says where it came from; and no loop waits for it for ever."""
        handle = await finish(app, lifecycle.Completed(5))
        await app.result_storage.set(TaskResult(task_id=handle.id, result=6, claim_count=9))

        with pytest.raises(ResultExpiredError):
            await handle.result()

    async def test_a_retry_between_the_two_looks_is_waited_for(
        self, app: OmniQ, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The state was read of the first run, the result of the second."""
        handle = await finish(app, lifecycle.failure("first run"))
        look_up = app.lookups.result

        async def retried_meanwhile(task_id: str) -> TaskResult | None:
            monkeypatch.setattr(app.lookups, "result", look_up)
            await handle.retry()
            (held,) = await claim(app)
            await app.result_storage.set(TaskResult(task_id=task_id, result=2, claim_count=2))
            await app.task_queue.complete(held)
            return await look_up(task_id)

        monkeypatch.setattr(app.lookups, "result", retried_meanwhile)

        assert await handle.result(timeout=5) == 2

    async def test_results_stored_by_hand_are_found(self, app: OmniQ) -> None:
        """Spec 001 completes a task and stores its result without claiming it."""
        handle = await enqueue(app)
        await app.result_storage.store_result(handle.id, {"x": 1})
        task = await handle.task()
        task.status = TaskStatus.COMPLETED
        await app.task_queue.update_task(task)

        assert await handle.result() == {"x": 1}

    async def test_a_value_this_process_cannot_rebuild_is_told(
        self, app: OmniQ, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rather than handing out half an object."""
        from omniq import serialization

        @serialization.serializable
        @dataclass
        class Report:
            pages: int

        handle = await finish(app, lifecycle.Completed(), success([Report(3)]))
        monkeypatch.setattr(serialization, "_CLASSES", dict[str, type]())

        with pytest.raises(
            SerializationError, match=r"returned a value of type .*Report, which this process"
        ):
            await handle.result()


class TestMany:
    """A thousand waiting handles are one question."""

    async def test_many_waiters_look_together(
        self, app: OmniQ, queue: CountingQueue, results: CountingResults
    ) -> None:
        """Batches, however many wait, in the first look, the last and for the results."""
        count = 500
        handles = [await enqueue(app, id=f"t{n}") for n in range(count)]
        waiting = [asyncio.create_task(handle.result(timeout=30)) for handle in handles]
        await until(lambda: queue.waits == count)
        assert queue.looks == [count]

        held = await claim(app, count)
        await app.result_storage.set_many(
            [TaskResult(task_id=task.id, result=task.id, claim_count=1) for task in held]
        )
        await app.task_queue.swap(
            [_completed(task) for task in held],
        )

        assert await asyncio.gather(*waiting) == [handle.id for handle in handles]
        assert len(queue.looks) <= 4
        assert results.looks <= 4

    async def test_waiting_in_vain_looks_ever_more_rarely(
        self, app: OmniQ, queue: CountingQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a store wakes for nothing, its waiters become lazy."""
        rests: list[float] = []

        async def at_once(seconds: float) -> None:
            rests.append(seconds)

        async def wakes_for_nothing(_ids: Sequence[str], _timeout: float) -> None:
            if len(rests) >= 300:
                await finish_it()

        async def finish_it() -> None:
            for task in await claim(app):
                await app.task_queue.complete(task)

        handle = await enqueue(app)
        monkeypatch.setattr(queue, "wait_final", wakes_for_nothing)
        monkeypatch.setattr("omniq.handle.asyncio.sleep", at_once)

        task = await handle.wait()

        assert task.status is TaskStatus.COMPLETED
        assert rests == sorted(rests)
        assert rests[-1] == 0.1

    async def test_giving_up_leaves_nothing_behind(self, app: OmniQ, queue: CountingQueue) -> None:
        """A cancelled waiter is gone; the others go on."""
        handle = await enqueue(app)
        first, second = (asyncio.create_task(handle.wait(timeout=30)) for _ in range(2))
        await until(lambda: queue.waits == 2)

        first.cancel()
        (held,) = await claim(app)
        await app.task_queue.complete(held)

        assert (await second).status is TaskStatus.COMPLETED
        with pytest.raises(asyncio.CancelledError):
            await first


def _completed(task: Task) -> Any:
    from omniq.storage.base import Change

    return Change(task, lifecycle.settle(task, lifecycle.Completed(), utcnow()))
