"""What an application hooks into its workers and its enqueueing, on stores that need no server."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from omniq import (
    EventType,
    OmniQ,
    Retry,
    StopReason,
    Task,
    TaskContext,
    TaskEvent,
    TaskFailedError,
    TaskStatus,
    ValidationError,
    current_task,
)
from omniq.testing.waiting import wait_until
from tests.integration.conftest import Working, burst


class TestAround:
    """What is wrapped around each attempt."""

    async def test_the_first_declared_is_outermost(self, app: OmniQ) -> None:
        """Each sees the task's context, before and after the function."""
        seen: list[str] = []

        @app.around
        async def outer(task: TaskContext) -> AsyncIterator[None]:
            seen.append(f"outer of {task.task.func}, attempt {task.attempt}")
            yield
            seen.append("outer ends")

        @app.around
        async def inner(task: TaskContext) -> AsyncIterator[None]:
            assert current_task() is task
            seen.append("inner")
            yield
            seen.append("inner ends")

        @app.task(name="work")
        async def work() -> int:
            seen.append("work")
            return 1

        handle = await work.enqueue()
        await burst(app)

        assert await handle.result() == 1
        assert seen == ["outer of work, attempt 1", "inner", "work", "inner ends", "outer ends"]

    async def test_what_it_sets_in_the_context_the_task_sees(self, app: OmniQ) -> None:
        """Request ids, database sessions: in coroutines and in the threads of plain functions."""
        tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

        @app.around
        async def as_tenant(task: TaskContext) -> AsyncIterator[None]:
            token = tenant.set(task.task.metadata["tenant"])
            yield
            tenant.reset(token)

        @app.task(metadata={"tenant": "a"})
        async def here() -> str:
            return tenant.get()

        @app.task(metadata={"tenant": "b"})
        def elsewhere() -> str:
            return tenant.get()

        first, second = await here.enqueue(), await elsewhere.enqueue()
        await burst(app)

        assert (await first.result(), await second.result()) == ("a", "b")

    async def test_it_sees_the_error_and_the_task_fails_with_it(self, app: OmniQ) -> None:
        """As a reporter of errors would; the traceback shows the user's code alone."""
        seen: list[str] = []

        @app.around
        async def report(task: TaskContext) -> AsyncIterator[None]:
            try:
                yield
            except LookupError as error:
                seen.append(str(error))
                raise

        @app.task
        async def work() -> None:
            raise LookupError("gone")

        handle = await work.enqueue()
        await burst(app)

        result = await app.result_storage.get(handle.id)
        assert seen == ["gone"]
        assert result is not None
        assert result.error is not None
        assert result.error.traceback.count("File ") == 1

    @pytest.mark.parametrize("yields", [0, 2])
    async def test_one_that_does_not_yield_once_is_named(self, app: OmniQ, yields: int) -> None:
        """Else nobody could tell which of several is wrong."""

        @app.around
        async def odd(task: TaskContext) -> AsyncIterator[None]:
            for _ in range(yields):
                yield

        @app.task
        async def work() -> None: ...

        handle = await work.enqueue()
        await burst(app)

        with pytest.raises(TaskFailedError, match=r"@around function .*odd.* has to yield once"):
            await handle.result()

    async def test_an_error_held_back_completes_the_task(self, app: OmniQ) -> None:
        """With None, as a function that holds it back itself would."""

        @app.around
        async def forgiving(task: TaskContext) -> AsyncIterator[None]:
            with contextlib.suppress(LookupError):
                yield

        @app.task
        async def work() -> int:
            raise LookupError("gone")

        handle = await work.enqueue()
        await burst(app)

        assert await handle.status() is TaskStatus.COMPLETED
        assert await handle.result() is None

    async def test_it_may_end_the_attempt_before_the_task_has_begun(self, app: OmniQ) -> None:
        """By the same signals and errors as the task itself."""
        called: list[int] = []

        @app.around
        async def limited(task: TaskContext) -> AsyncIterator[None]:
            if task.attempt == 1:
                raise Retry(0, "too many")
            yield

        @app.task(max_retries=1)
        async def work() -> None:
            called.append(current_task().attempt)

        handle = await work.enqueue()
        await burst(app)
        await burst(app)

        assert called == [2]
        assert await handle.status() is TaskStatus.COMPLETED

    async def test_its_time_counts_for_the_timeout(self, app: OmniQ) -> None:
        """A hook that hangs would hold a slot for ever."""

        @app.around
        async def hanging(task: TaskContext) -> AsyncIterator[None]:
            await asyncio.Event().wait()
            yield

        @app.task(timeout=0.05)
        async def work() -> None: ...

        handle = await work.enqueue()
        await burst(app)

        with pytest.raises(TaskFailedError, match=r"longer than 0\.05 s"):
            await handle.result()

    async def test_its_end_runs_when_the_task_is_cancelled(
        self, app: OmniQ, working: Working
    ) -> None:
        """What it opened is closed however the attempt ends."""
        running, seen = asyncio.Event(), list[str]()

        @app.around
        async def closing(task: TaskContext) -> AsyncIterator[None]:
            try:
                yield
            finally:
                await asyncio.sleep(0)
                seen.append("closed")

        @app.task
        async def work() -> None:
            running.set()
            await asyncio.Event().wait()

        handle = await work.enqueue()
        async with working():
            await asyncio.wait_for(running.wait(), 5)
            await handle.cancel()
            await handle.wait(timeout=10)

        assert await handle.status() is TaskStatus.CANCELLED
        assert seen == ["closed"]

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_it_knows_why_the_attempt_was_stopped(
        self, app: OmniQ, working: Working, *, is_async: bool
    ) -> None:
        """A timeout is worth a report, the stop of a worker is none; in threads as elsewhere."""
        running, seen = asyncio.Event(), dict[str, Any]()
        loop = asyncio.get_running_loop()

        @app.around
        async def watching(task: TaskContext) -> AsyncIterator[None]:
            loop.call_soon(running.set)
            assert task.stop_reason is None
            try:
                yield
            except asyncio.CancelledError:
                seen[task.task.func] = task.stop_reason
                raise

        async def endless() -> None:
            await asyncio.Event().wait()

        def spinning() -> None:
            while True:
                threading.Event().wait(0.005)

        kinds = {kind: app.task(name=kind)(endless if is_async else spinning) for kind in "abc"}
        async with working(lease_seconds=3):
            await kinds["a"].options(timeout=0.05).enqueue()
            await wait_until(lambda: "a" in seen, description="the first has timed out")
            running.clear()
            cancelled = await kinds["b"].enqueue()
            await asyncio.wait_for(running.wait(), 10)
            await cancelled.cancel()
            await wait_until(lambda: "b" in seen, description="the second was cancelled")
            running.clear()
            await kinds["c"].enqueue()
            await asyncio.wait_for(running.wait(), 10)

        assert seen == {"a": StopReason.TIMEOUT, "b": StopReason.CANCEL, "c": StopReason.RELEASE}


class TestOnEvent:
    """Who is told of what a worker does."""

    @pytest.mark.parametrize("log_events", [True, False])
    async def test_it_is_told_of_starts_retries_and_ends(self, *, log_events: bool) -> None:
        """Each with the task as the event leaves it, whether or not the history is kept."""
        told: list[tuple[Any, ...]] = []
        async with OmniQ("memory://", log_events=log_events) as app:

            @app.on_event
            def count(event: TaskEvent, task: Task) -> None:
                assert event.task_id == task.id
                told.append((event.event_type, task.func, task.status))

            @app.task(name="work", max_retries=1)
            async def work() -> None:
                raise Retry(0)

            await work.enqueue()
            await burst(app)
            await burst(app)

        assert told == [
            (EventType.STARTED, "work", TaskStatus.RUNNING),
            (EventType.RETRYING, "work", TaskStatus.SCHEDULED),
            (EventType.STARTED, "work", TaskStatus.RUNNING),
            (EventType.FAILED, "work", TaskStatus.FAILED),
        ]

    async def test_a_listener_that_fails_harms_nothing(
        self, app: OmniQ, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither the task nor the listeners after it; the log says which it was."""
        told: list[str] = []

        @app.on_event
        def broken(event: TaskEvent, task: Task) -> None:
            raise ZeroDivisionError

        @app.on_event
        def sound(event: TaskEvent, task: Task) -> None:
            told.append(str(event.event_type))

        @app.task
        async def work() -> int:
            return 1

        handle = await work.enqueue()
        with caplog.at_level(logging.ERROR, "omniq.hooks"):
            await burst(app)

        assert await handle.result() == 1
        assert told == ["STARTED", "COMPLETED"]
        assert [record for record in caplog.records if "broken" in record.getMessage()]


class TestBeforeEnqueue:
    """What is added to each task on its way."""

    async def test_it_adds_to_the_metadata_of_each_call(self, app: OmniQ) -> None:
        """However it is enqueued; nothing of one call shows up in another."""
        numbers = iter(range(10))

        @app.before_enqueue
        def number(task: Task) -> dict[str, int]:
            return {f"call {(n := next(numbers))}": n}

        @app.before_enqueue
        def nothing(task: Task) -> None: ...

        @app.task(metadata={"own": True})
        async def work(n: int) -> None: ...

        by_hand = Task(func="by.hand", metadata={"own": False})
        handles = [
            await work.enqueue(0),
            *await work.enqueue_many([(1,), (2,)]),
            *await app.task_function("elsewhere").enqueue_many([(), ()]),
            await app.enqueue_task(by_hand),
        ]

        found = [(await handle.task()).metadata for handle in handles]
        assert found == [
            *({"own": True, f"call {n}": n} for n in range(3)),
            *({f"call {n}": n} for n in (3, 4)),
            {"own": False, "call 5": 5},
        ]
        assert by_hand.metadata == {"own": False}

    async def test_what_it_raises_keeps_the_task_from_being_stored(self, app: OmniQ) -> None:
        """An application may refuse what must not be enqueued here."""

        @app.before_enqueue
        def refuse(task: Task) -> None:
            raise PermissionError(task.func)

        with pytest.raises(PermissionError, match="f"):
            await app.enqueue("f")
        with pytest.raises(PermissionError, match="f"):
            await app.task_function("f").enqueue_many([(), ()])

        assert await app.counts() == {}

    @pytest.mark.parametrize("added", [[("a", 1)], {1: 2}, "text", 3])
    async def test_what_is_no_dict_of_names_is_refused(self, app: OmniQ, added: Any) -> None:
        """Before anything is stored."""

        @app.before_enqueue
        def add(task: Task) -> Any:
            return added

        with pytest.raises(ValidationError, match="metadata"):
            await app.enqueue("f")

        assert await app.counts() == {}
