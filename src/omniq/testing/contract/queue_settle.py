# ruff: noqa: S101, S106 - tests assert; a lease token is no password
"""What ending a run promises: `complete`, `fail`, `release`, `snooze`, `finish`, `heartbeat`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from omniq import lifecycle
from omniq.exceptions import LeaseLostError, ValidationError
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
    ids,
    insert,
    make_task,
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
