# ruff: noqa: S101, S106 - tests assert; a lease token is no password
"""What the methods of `BaseQueue` promise on top of the primitives."""

from __future__ import annotations

from datetime import timedelta

import pytest

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import LeaseLostError, NotFoundError, StaleTaskError, ValidationError
from omniq.models.result import TaskResult
from omniq.models.task import RetryPolicy, Task, TaskStatus
from omniq.storage.base import BaseQueue, BaseResultStorage, Change
from omniq.testing.contract.samples import (
    ENDINGS,
    FINAL,
    NOW,
    at,
    claim,
    claim_one,
    end,
    ids,
    insert,
    make_task,
    running,
    status_of,
    stored,
)


class SettleContract:
    """Ending a run."""

    async def test_complete_ends_the_task(self, queue: BaseQueue) -> None:
        """And returns it as it is now."""
        await insert(queue, make_task("a", args=(1,)))
        task = await claim_one(queue)

        after = await queue.complete(task, now=at(2))

        assert (after.status, after.finished_at) == (TaskStatus.COMPLETED, at(2))
        assert after == await stored(queue, "a")

    async def test_fail_without_a_policy_fails_for_good(self, queue: BaseQueue) -> None:
        """The reason is kept on the task."""
        await insert(queue, make_task("a"))

        after = await queue.fail(await claim_one(queue), ValueError("no"), now=at(2))

        assert (after.status, after.error) == (TaskStatus.FAILED, "ValueError: no")
        assert after == await stored(queue, "a")

    async def test_fail_with_retries_left_schedules_the_next_attempt(
        self, queue: BaseQueue
    ) -> None:
        """By the delay of the policy; then it fails for good."""
        retry = RetryPolicy(max_retries=1, delay_seconds=5)
        await insert(queue, make_task("a", retry=retry))

        after = await queue.fail(await claim_one(queue), "first", now=at(1))
        assert (after.status, after.due_at, after.attempt) == (TaskStatus.SCHEDULED, at(6), 1)

        again = await claim_one(queue, now=at(6))
        assert again.attempt == 2
        assert (await queue.fail(again, "second", now=at(7))).status is TaskStatus.FAILED

    async def test_release_gives_the_task_and_the_attempt_back(self, queue: BaseQueue) -> None:
        """Stopping a worker costs no retry."""
        await insert(queue, make_task("a"))

        after = await queue.release(await claim_one(queue), now=at(1))

        assert (after.status, after.attempt, after.claim_count) == (TaskStatus.PENDING, 0, 1)
        again = await claim_one(queue, now=at(1))
        assert (again.attempt, again.claim_count) == (1, 2)

    async def test_snooze_comes_back_later_without_costing_an_attempt(
        self, queue: BaseQueue
    ) -> None:
        """The delay in seconds or as a timedelta."""
        await insert(queue, make_task("a"))

        after = await queue.snooze(await claim_one(queue), timedelta(seconds=5), now=at(1))

        assert (after.status, after.due_at, after.attempt) == (TaskStatus.SCHEDULED, at(6), 0)
        again = await claim_one(queue, now=at(6))
        assert (again.attempt, again.claim_count) == (1, 2)
        with pytest.raises(ValidationError):
            await queue.snooze(again, -1)

    async def test_a_parked_task_waits_longer_each_time(self, queue: BaseQueue) -> None:
        """Its reason is visible, and it costs no attempt."""
        await insert(queue, make_task("a"))
        waits: list[float] = []
        moment = NOW
        for _ in range(3):
            run = await claim_one(queue, now=moment)
            after = await queue.settle(run, lifecycle.Parked("no such task here"), now=moment)
            assert after.due_at is not None
            waits.append((after.due_at - moment).total_seconds())
            moment = after.due_at

        found = await stored(queue, "a")
        assert waits == [1.0, 2.0, 4.0]
        assert (found.error, found.attempt) == ("no such task here", 0)

    @pytest.mark.parametrize("status", FINAL)
    async def test_a_lost_run_is_told_so(self, queue: BaseQueue, status: TaskStatus) -> None:
        """Each verdict of a run that lost its lease is refused, and nothing changes."""
        await insert(queue, make_task("a"))
        lost = await claim_one(queue, token="t1", lease_seconds=5)
        holder = await claim_one(queue, token="t2", now=at(5))

        with pytest.raises(LeaseLostError, match="a"):
            await queue.settle(lost, ENDINGS[status], now=at(6))
        with pytest.raises(LeaseLostError):
            await queue.heartbeat(lost, now=at(6))

        assert await stored(queue, "a") == holder

    async def test_heartbeat_returns_the_task_fresh(self, queue: BaseQueue) -> None:
        """With its new end and any cancel request."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        await queue.cancel("a", now=at(1))

        held = await queue.heartbeat(task, lease_seconds=60, now=at(10))

        assert (held.due_at, held.cancel_requested) == (at(70), True)


class FinishContract:
    """Ending many runs together with their results."""

    async def test_finish_stores_results_and_ends_the_runs(
        self, queue: BaseQueue, result_storage: BaseResultStorage
    ) -> None:
        """One call a batch; runs without a result end all the same."""
        await insert(queue, make_task("a"), make_task("b"))
        changes = [_completed(task) for task in await claim(queue)]
        result = TaskResult(task_id="a", result=(1,), claim_count=1, stored_at=NOW)

        answers = await queue.finish(changes, [result], result_storage, now=at(1))

        assert answers == [True, True]
        assert await result_storage.get("a") == result
        assert (await queue.counts())["default"] == {TaskStatus.COMPLETED: 2}

    async def test_a_lost_run_finishes_nothing(
        self, queue: BaseQueue, result_storage: BaseResultStorage
    ) -> None:
        """Its result gives way to that of the holder, whichever comes first."""
        await insert(queue, make_task("a"))
        lost = await claim_one(queue, lease_seconds=5)
        held = await claim_one(queue, now=at(5))
        late = TaskResult(task_id="a", result="late", claim_count=lost.claim_count)
        good = TaskResult(task_id="a", result="good", claim_count=held.claim_count)

        assert await queue.finish([_completed(lost)], [late], result_storage) == [False]
        assert await queue.finish([_completed(held)], [good], result_storage) == [True]
        assert await queue.finish([_completed(lost)], [late], result_storage) == [False]

        assert await result_storage.get_result("a") == "good"

    async def test_a_result_that_cannot_be_stored_ends_nothing(
        self, queue: BaseQueue, result_storage: BaseResultStorage
    ) -> None:
        """The result comes first: a task never looks completed without one."""
        await insert(queue, make_task("a"))
        run = await claim_one(queue)
        bad = TaskResult(task_id="a", result=object(), claim_count=1)

        with pytest.raises(ValidationError):
            await queue.finish([_completed(run)], [bad], result_storage)

        assert await stored(queue, "a") == run
        assert await result_storage.get("a") is None

    async def test_finish_frees_children_and_keys(
        self, queue: BaseQueue, result_storage: BaseResultStorage
    ) -> None:
        """It is a swap in all respects."""
        await insert(queue, make_task("p", unique_key="k"), make_task("c", depends_on=("p",)))
        run = await claim_one(queue)

        await queue.finish([_completed(run)], [], result_storage, now=at(1))

        assert ids(await claim(queue)) == ["c"]
        assert (await insert(queue, make_task("q", unique_key="k")))[0].stored


def _completed(task: Task) -> Change:
    return Change(task, lifecycle.settle(task, lifecycle.Completed(), at(1)))


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
