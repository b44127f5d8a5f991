# ruff: noqa: S101 - tests assert; a lease token is no password
"""What people may do to tasks, and what `dequeue` promises."""

from __future__ import annotations

from typing import Any

import pytest

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import NotFoundError, StaleTaskError, ValidationError
from omniq.models.task import TaskStatus
from omniq.storage.base import BaseQueue
from omniq.testing.contract.samples import (
    FINAL,
    NOW,
    at,
    claim,
    claim_one,
    end,
    everything,
    ids,
    insert,
    make_task,
    running,
    status_of,
    stored,
)

BAD_STATES: tuple[tuple[str, Any], ...] = (
    ("attempt", "one"),
    ("attempt", 2**31),
    ("claim_count", None),
    ("lost_leases", 1.5),
    ("waiting_for", True),
    ("lease_token", "a b"),
    ("worker_id", 7),
    ("cancel_requested", "no"),
    ("progress", float("nan")),
    ("error", ValueError("no text")),
)


class ControlContract:
    """What people do to tasks."""

    async def test_cancel_ends_a_task_that_has_not_started(self, queue: BaseQueue) -> None:
        """Pending, scheduled or waiting; it is never run."""
        await insert(queue, make_task("p"), make_task("s", run_at=at(5)))
        await insert(queue, make_task("w", depends_on=("p",)))

        for task_id in ("w", "s", "p"):
            task = await queue.cancel(task_id, now=at(1))
            assert (task.status, task.finished_at) == (TaskStatus.CANCELLED, at(1))
            assert task == await stored(queue, task_id)

        assert await claim(queue, now=at(99)) == []

    async def test_cancel_of_a_running_task_asks_its_worker(self, queue: BaseQueue) -> None:
        """It stays running until the worker, or its end, says so."""
        await insert(queue, make_task("a"))
        run = await claim_one(queue)

        task = await queue.cancel("a", now=at(1))

        assert (task.status, task.cancel_requested) == (TaskStatus.RUNNING, True)
        assert await queue.cancel("a", now=at(2)) == task
        after = await queue.settle(run, lifecycle.Cancelled(), now=at(3))
        assert after.status is TaskStatus.CANCELLED

    async def test_a_task_that_finished_before_it_heard_is_finished(self, queue: BaseQueue) -> None:
        """A request comes too late rather than undoing work."""
        await insert(queue, make_task("a"))
        run = await claim_one(queue)
        await queue.cancel("a", now=at(1))

        assert (await queue.complete(run, now=at(2))).status is TaskStatus.COMPLETED

    @pytest.mark.parametrize("status", FINAL)
    async def test_cancel_of_a_finished_task_changes_nothing(
        self, queue: BaseQueue, status: TaskStatus
    ) -> None:
        """Final is final."""
        await insert(queue, make_task("a"))
        await end(queue, "a", status)
        before = await stored(queue, "a")

        assert await queue.cancel("a", now=at(9)) == before
        assert await stored(queue, "a") == before

    @pytest.mark.parametrize("status", FINAL)
    async def test_retry_makes_a_finished_task_pending(
        self, queue: BaseQueue, status: TaskStatus
    ) -> None:
        """With a fresh budget, and a claim count that still fences the old runs."""
        await insert(queue, make_task("a", expires_at=at(50)))
        old = await end(queue, "a", status)

        task = await queue.retry_task("a", now=at(9))

        assert (task.status, task.attempt, task.finished_at) == (TaskStatus.PENDING, 0, None)
        assert task.expires_at == at(50)
        assert task == await stored(queue, "a")
        assert (await claim_one(queue, now=at(9))).claim_count == old.claim_count + 1

    async def test_a_requeued_task_does_not_expire_again(self, queue: BaseQueue) -> None:
        """Who asks for it later than its expiry wants it to run."""
        await insert(queue, make_task("a", expires_at=at(5)))
        run = await claim_one(queue, now=at(6))
        await queue.settle(run, lifecycle.Expired(), now=at(6))

        task = await queue.retry_task("a", now=at(9))

        assert task.expires_at is None
        assert task == await stored(queue, "a")
        assert lifecycle.verdict_on_claim(await claim_one(queue, now=at(9)), at(9)) is None

    async def test_retry_of_a_live_task_is_refused(self, queue: BaseQueue) -> None:
        """It runs or will run anyway."""
        await insert(queue, make_task("a"))

        with pytest.raises(StaleTaskError):
            await queue.retry_task("a")

    async def test_what_is_not_there_cannot_be_changed(self, queue: BaseQueue) -> None:
        """Each call says so."""
        for call in (queue.cancel, queue.retry_task):
            with pytest.raises(NotFoundError, match="ghost"):
                await call("ghost")
        with pytest.raises(NotFoundError, match="ghost"):
            await queue.update_task(make_task("ghost"))
        assert await queue.get_task("ghost") is None
        assert await queue.lock_task("ghost") is None

    async def test_lock_task_leases_exactly_this_task(self, queue: BaseQueue) -> None:
        """Whatever its place in the line; once."""
        await insert(queue, make_task("a", priority=9), make_task("b"))

        task = await queue.lock_task("b", worker_id="me", lease_seconds=5, now=at(1))

        assert task is not None
        assert (task.worker_id, task.due_at, task.attempt) == ("me", at(6), 1)
        assert task == await stored(queue, "b")
        assert await queue.lock_task("b") is None
        assert (await queue.complete(task, now=at(2))).status is TaskStatus.COMPLETED

    async def test_update_task_writes_the_state(self, queue: BaseQueue) -> None:
        """And only the state: the request never changes."""
        await insert(queue, make_task("a"))
        task = await stored(queue, "a")
        task.status, task.error, task.args = TaskStatus.FAILED, "by hand", (9,)

        after = await queue.update_task(task, now=at(3))

        assert (after.status, after.error, after.finished_at) == (
            TaskStatus.FAILED,
            "by hand",
            at(3),
        )
        assert after.args == ()
        assert after == await stored(queue, "a")

    async def test_update_task_refuses_a_stale_copy(self, queue: BaseQueue) -> None:
        """Somebody claimed it in between."""
        await insert(queue, make_task("a"))
        copy = await stored(queue, "a")
        run = await claim_one(queue)
        copy.status = TaskStatus.COMPLETED

        with pytest.raises(StaleTaskError):
            await queue.update_task(copy)

        assert await stored(queue, "a") == run

    async def test_update_task_to_running_has_an_end(self, queue: BaseQueue) -> None:
        """A task set running by hand does not stay so for ever."""
        await insert(queue, make_task("a"))
        task = await stored(queue, "a")
        task.status = TaskStatus.RUNNING

        after = await queue.update_task(task, now=NOW)

        assert after.due_at == at(60)
        assert ids(await claim(queue, now=at(59))) == []
        assert ids(await claim(queue, now=at(60))) == ["a"]

    async def test_a_state_nobody_could_read_is_refused(self, queue: BaseQueue) -> None:
        """Stored, it would stand in the way of all other tasks."""
        await insert(queue, make_task("a"), make_task("b"))
        for name, value in BAD_STATES:
            task = await stored(queue, "a")
            setattr(task, name, value)
            with pytest.raises(ValidationError, match=name):
                await queue.update_task(task)
            with pytest.raises(ValidationError, match=name):
                await queue.enqueue(make_task("new", **{name: value}))

        assert ids(await everything(queue)) == ["a", "b"]

    async def test_an_error_may_hold_any_text(self, queue: BaseQueue) -> None:
        """A file name that is no Unicode, and NUL; shown so that every store can hold it."""
        await insert(queue, make_task("a"))
        task = await stored(queue, "a")
        task.error = "no file \ud800\0"

        await queue.update_task(task)

        assert (await stored(queue, "a")).error == r"no file \ud800\0"

    async def test_update_task_reads_what_people_write(self, queue: BaseQueue) -> None:
        """A status as text; and refuses what is none."""
        await insert(queue, make_task("a"))
        task = await stored(queue, "a")
        task.status = "completed"  # type: ignore[assignment]  # as users write it

        assert (await queue.update_task(task)).status is TaskStatus.COMPLETED

        assert await status_of(queue, "a") is TaskStatus.COMPLETED
        task.status = "bogus"  # type: ignore[assignment]  # as users write it
        with pytest.raises(ValueError, match="bogus"):
            await queue.update_task(task)


class DequeueContract:
    """Taking single tasks without a worker."""

    async def test_dequeue_leases_for_a_minute(self, queue: BaseQueue) -> None:
        """By the store's own clock, to be ended by one of the settling calls."""
        await queue.enqueue(make_task("a"))
        before = utcnow()

        task = await queue.dequeue()

        assert task is not None
        assert task.due_at is not None
        lease = (task.due_at - before).total_seconds()
        assert (task.id, task.status) == ("a", TaskStatus.RUNNING)
        assert lease == pytest.approx(60, abs=5)
        assert (await queue.complete(task)).status is TaskStatus.COMPLETED

    async def test_dequeue_looks_once(self, queue: BaseQueue) -> None:
        """Without a timeout it never waits."""
        assert await queue.dequeue() is None
        assert await queue.dequeue("other", 0) is None

    async def test_dequeue_serves_queues_in_order(self, queue: BaseQueue) -> None:
        """One name or several."""
        await queue.enqueue_many([make_task("a", queue_name="qa"), make_task("b", queue_name="qb")])

        tasks = [await queue.dequeue(["qb", "qa"]) for _ in range(3)]

        assert [task and task.id for task in tasks] == ["b", "a", None]

    async def test_each_dequeue_has_a_token_of_its_own(self, queue: BaseQueue) -> None:
        """Two runs of one caller are told apart."""
        await queue.enqueue_many([make_task("a"), make_task("b")])

        first, second = await queue.dequeue(), await queue.dequeue()

        assert first is not None
        assert second is not None
        assert first.lease_token != second.lease_token

    async def test_poisoned_tasks_are_recognised(self, queue: BaseQueue) -> None:
        """After three losses the verdict on the next claim is failure."""
        await insert(queue, make_task("a"))
        run = running(await stored(queue, "a"))
        for n in range(4):
            run = await claim_one(queue, lease_seconds=1, now=at(n))

        verdict = lifecycle.verdict_on_claim(run, at(4))

        assert isinstance(verdict, lifecycle.Failed)
        assert (await queue.settle(run, verdict, now=at(4))).status is TaskStatus.FAILED
