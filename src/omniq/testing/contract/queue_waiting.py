# ruff: noqa: S101, S106 - tests assert; a lease token is no password
"""What `wait` and `wait_final` promise, the blocking twins, and two objects on one store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import SyncInAsyncError
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import BaseQueue, Change
from omniq.testing.contract.samples import (
    TIMEOUT_SECONDS,
    at,
    claim,
    claim_one,
    flat,
    ids,
    insert,
    make_task,
    make_tasks,
    missing_twins,
    running,
    settle,
    status_of,
    stored,
    swap,
)


@asynccontextmanager
async def returning(call: Callable[[], Awaitable[Any]]) -> AsyncGenerator[None, None]:
    """Start a call, run the body, and require the call to return soon after."""
    started = asyncio.ensure_future(call())
    try:
        for _ in range(20):
            await asyncio.sleep(0)
        yield
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await started
    finally:
        started.cancel()


class WaitContract:
    """Waiting without missing anything. A wait may return early, so these loop as callers do."""

    async def _claimed(self, queue: BaseQueue, *queues: str) -> Task:
        while True:
            tasks = await queue.claim(queues or ["default"], worker_id="w", lease_token="t")
            if tasks:
                return tasks[0]
            await queue.wait(queues or ["default"], 3600)

    async def _finished(self, queue: BaseQueue, task_id: str) -> Task:
        while not (task := await stored(queue, task_id)).is_final:
            await queue.wait_final([task_id], 3600)
        return task

    async def test_wait_of_no_time_returns(self, queue: BaseQueue) -> None:
        """At once, with or without work."""
        await queue.wait(["default"], 0)
        await queue.wait(["default"], -1)
        await queue.wait_final(["ghost"], 0)

    async def test_wait_ends_at_its_timeout(self, queue: BaseQueue) -> None:
        """Though nothing happens."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await queue.wait(["default"], 0.01)
            await insert(queue, make_task("a"))
            await queue.wait_final(["a"], 0.01)

    async def test_a_waiter_gets_a_task_enqueued_later(self, queue: BaseQueue) -> None:
        """Whichever of its queues it comes to."""
        async with returning(lambda: self._claimed(queue, "other", "default")):
            await queue.enqueue(make_task("a"))

        assert await status_of(queue, "a") is TaskStatus.RUNNING

    async def test_a_waiter_gets_a_task_that_comes_due(self, queue: BaseQueue) -> None:
        """Nobody announces it: the clock does."""
        async with returning(lambda: self._claimed(queue)):
            await queue.enqueue(make_task("a", run_at=utcnow() + timedelta(seconds=0.2)))

        assert await status_of(queue, "a") is TaskStatus.RUNNING

    async def test_a_waiter_gets_a_task_whose_lease_ends(self, queue: BaseQueue) -> None:
        """Also a lease that began while it waited, for a task it never could have had."""
        await queue.enqueue_many(
            [make_task("p", queue_name="q"), make_task("a", depends_on=("p",))]
        )
        before = await stored(queue, "a")

        async with returning(lambda: self._claimed(queue)):
            run = running(before, utcnow())
            run.due_at = utcnow() + timedelta(seconds=0.2)
            assert await swap(queue, before, run)

        assert (await stored(queue, "a")).lost_leases == 1

    async def test_a_waiter_gets_a_released_task(self, queue: BaseQueue) -> None:
        """A swap makes work, too."""
        await queue.enqueue(make_task("a"))
        run = await queue.dequeue()
        assert run is not None

        async with returning(lambda: self._claimed(queue)):
            await queue.release(run)

    async def test_a_waiter_gets_a_task_freed_by_its_parent(self, queue: BaseQueue) -> None:
        """In whatever queue."""
        await queue.enqueue_many(
            [make_task("p"), make_task("c", queue_name="q", depends_on=("p",))]
        )
        run = await queue.dequeue()
        assert run is not None

        async with returning(lambda: self._claimed(queue, "q")):
            await queue.complete(run)

    async def test_a_waiter_gets_a_task_of_a_resumed_queue(self, queue: BaseQueue) -> None:
        """Resuming is an arrival."""
        await queue.set_paused("default", True)
        await queue.enqueue(make_task("a"))

        async with returning(lambda: self._claimed(queue)):
            await queue.set_paused("default", False)

    async def test_every_waiter_gets_a_task_when_there_are_enough(self, queue: BaseQueue) -> None:
        """No wake-up is lost among many waiters."""

        async def all_claimed() -> list[Task]:
            return list(await asyncio.gather(*(self._claimed(queue) for _ in range(8))))

        async with returning(all_claimed):
            for task in make_tasks(8):
                await queue.enqueue(task)

        assert (await queue.counts())["default"] == {TaskStatus.RUNNING: 8}

    async def test_a_cancelled_waiter_takes_nothing_with_it(self, queue: BaseQueue) -> None:
        """A wake-up carries no task."""
        waiter = asyncio.ensure_future(queue.wait(["default"], 3600))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

        await queue.enqueue(make_task("a"))

        assert ids(await claim(queue)) == ["a"]

    async def test_dequeue_waits_for_a_task(self, queue: BaseQueue) -> None:
        """With a timeout, or for ever."""
        async with returning(lambda: queue.dequeue(timeout=60)):
            await queue.enqueue(make_task("a"))
        async with returning(lambda: queue.dequeue(timeout=float("inf"))):
            await queue.enqueue(make_task("b"))

        assert (await queue.counts())["default"] == {TaskStatus.RUNNING: 2}

    async def test_dequeue_gives_up_at_its_timeout(self, queue: BaseQueue) -> None:
        """With None."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await queue.dequeue(timeout=0.02) is None

    async def test_wait_final_ends_with_the_task(self, queue: BaseQueue) -> None:
        """However it ends."""
        await queue.enqueue_many(
            [make_task("a"), make_task("b"), make_task("c", depends_on=("b",))]
        )
        run = await queue.dequeue()
        assert run is not None

        async with returning(lambda: self._finished(queue, "a")):
            await queue.complete(run)
        async with returning(lambda: self._finished(queue, "c")):
            await queue.cancel("b")

    async def test_wait_final_of_a_finished_task_returns(self, queue: BaseQueue) -> None:
        """What happened before counts."""
        await queue.enqueue_many([make_task("a"), make_task("b")])
        await queue.cancel("b")

        async with asyncio.timeout(TIMEOUT_SECONDS):
            await queue.wait_final(["a", "b"], 3600)

    async def test_waiters_of_other_loops_are_woken(self, queue: BaseQueue) -> None:
        """A queue is bound to no event loop."""
        starts = threading.Event()

        async def wait_there() -> None:
            assert await queue.dequeue() is None
            starts.set()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._claimed(queue)

        async with returning(lambda: asyncio.to_thread(asyncio.run, wait_there())):
            await asyncio.to_thread(starts.wait, TIMEOUT_SECONDS)
            await asyncio.sleep(0.05)  # until that loop sleeps: there is no telling from here
            await queue.enqueue(make_task("a"))

        assert await status_of(queue, "a") is TaskStatus.RUNNING


class TwinContract:
    """Every coroutine has a blocking twin that does the same."""

    async def test_every_coroutine_has_a_twin(self, queue: BaseQueue) -> None:
        """By one rule of names."""
        assert missing_twins(queue) == []

    async def test_a_life_in_blocking_calls(self, queue: BaseQueue) -> None:
        """The twins see and change the same store as the coroutines."""

        def live() -> Task:
            assert queue.enqueue_sync(make_task("a", args=(1,))) == "a"
            assert queue.enqueue_many_sync([make_task("b"), make_task("c")]) == ["b", "c"]
            run = queue.dequeue_sync()
            assert run is not None
            assert queue.heartbeat_sync(run).due_at is not None
            assert queue.get_queue_size_sync() == 2
            assert ids(queue.list_tasks_sync(status="pending")) == ["b", "c"]
            assert queue.cancel_sync("b").status is TaskStatus.CANCELLED
            assert queue.retry_task_sync("b").status is TaskStatus.PENDING
            return queue.complete_sync(run)

        done = await asyncio.to_thread(live)

        assert done == await stored(queue, "a")
        assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 1, TaskStatus.PENDING: 2}}

    async def test_a_primitive_in_blocking_calls(self, queue: BaseQueue) -> None:
        """The contract's own methods, too."""

        def work() -> list[bool]:
            queue.insert_sync([make_task("a")])
            (task,) = queue.claim_sync(["default"], worker_id="w", lease_token="t")
            assert queue.get_sync(["a"]) == queue.find_sync() == [task]
            assert queue.counts_sync() == {"default": {TaskStatus.RUNNING: 1}}
            after = lifecycle.settle(task, lifecycle.Completed(), at(1))
            return queue.swap_sync([Change(task, after)])

        assert await asyncio.to_thread(work) == [True]
        assert await status_of(queue, "a") is TaskStatus.COMPLETED

    async def test_blocking_calls_and_coroutines_share_the_work(self, queue: BaseQueue) -> None:
        """Four threads and a loop at once: each task is taken once."""
        await insert(queue, *make_tasks(100))

        def drain() -> list[str]:
            taken: list[str] = []
            while (task := queue.dequeue_sync()) is not None:
                taken.append(task.id)
            return taken

        async def drain_here() -> list[str]:
            taken: list[str] = []
            while (task := await queue.dequeue()) is not None:
                taken.append(task.id)
            return taken

        threads = [asyncio.to_thread(drain) for _ in range(4)]
        taken = await asyncio.gather(*threads, drain_here())

        assert flat(taken) == ids(make_tasks(100))

    async def test_a_twin_refuses_to_block_a_loop(self, queue: BaseQueue) -> None:
        """And says what to await instead."""
        with pytest.raises(SyncInAsyncError, match=r"await .*enqueue"):
            queue.enqueue_sync(make_task("a"))

    async def test_closing_twice_and_using_again_is_fine(self, queue: BaseQueue) -> None:
        """Every method opens the store on first use."""
        await queue.connect()
        await queue.connect()
        await insert(queue, make_task("a"))

        await queue.disconnect()
        await queue.disconnect()
        await queue.close()

        assert ids(await claim(queue)) == ["a"]
        async with queue as opened:
            assert opened is queue


class SharedContract:
    """Two objects on one store, where the backend has stores to share."""

    async def test_the_other_object_sees_everything(
        self, queue: BaseQueue, second: BaseQueue
    ) -> None:
        """Tasks, states, pauses, as of now."""
        await insert(queue, make_task("a", args=({"k": (1,)},)), make_task("b"))
        await queue.set_paused("other", True)
        run = await claim_one(queue)

        assert await second.get(["a"]) == [run]
        assert await second.counts() == await queue.counts()
        assert await second.paused() == {"other"}

    async def test_each_task_goes_to_one_of_two(self, queue: BaseQueue, second: BaseQueue) -> None:
        """Claims of two objects never overlap."""
        await insert(queue, *make_tasks(120))

        async def drain(one: BaseQueue) -> list[str]:
            taken: list[str] = []
            while claimed := await claim(one, limit=5):
                taken += ids(claimed)
            return taken

        taken = await asyncio.gather(*(drain(one) for one in (queue, second, queue, second)))

        assert flat(taken) == ids(make_tasks(120))

    async def test_fences_hold_across_objects(self, queue: BaseQueue, second: BaseQueue) -> None:
        """The store keeps them, not the object."""
        await insert(queue, make_task("a", unique_key="k"))
        lost = await claim_one(queue, lease_seconds=5)
        held = await claim_one(second, now=at(5))

        assert not await settle(queue, lost, lifecycle.Completed(), at(6))
        assert not (await insert(second, make_task("b", unique_key="k")))[0].stored
        assert await settle(queue, held, lifecycle.Completed(), at(6))

    async def test_a_task_put_in_here_wakes_a_waiter_there(
        self, queue: BaseQueue, second: BaseQueue
    ) -> None:
        """By signal or by poll."""
        async with returning(lambda: second.dequeue(timeout=60)):
            await queue.enqueue(make_task("a"))

        assert await status_of(queue, "a") is TaskStatus.RUNNING

    async def test_what_was_acknowledged_survives_closing(
        self, queue: BaseQueue, second: BaseQueue
    ) -> None:
        """The second object finds it after the first is gone."""
        await insert(queue, make_task("a", args=(1,)), make_task("b", run_at=at(9)))
        await queue.set_paused("q", True)
        before = await queue.list_tasks()
        await queue.disconnect()

        assert await second.list_tasks() == before
        assert await second.paused() == {"q"}
