# ruff: noqa: S101, S106 - tests assert; a lease token is no password
"""What `depends_on` promises: a task starts when all its parents have finished."""

from __future__ import annotations

import pytest

from omniq import lifecycle
from omniq.exceptions import ValidationError
from omniq.models.task import RetryPolicy, Task, TaskStatus
from omniq.storage.base import BaseQueue, Change
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
    make_tasks,
    running,
    settle,
    status_of,
    stored,
    swap,
)

NOT_COMPLETED = [status for status in FINAL if status is not TaskStatus.COMPLETED]


def child(task_id: str, *parents: str, **fields: object) -> Task:
    """Return a task that depends on `parents`."""
    return make_task(task_id, depends_on=parents, **fields)


class AdmissionContract:
    """The state a new task with parents starts in."""

    async def test_a_task_waits_for_its_unfinished_parents(self, queue: BaseQueue) -> None:
        """It is not claimable, and says how many it waits for."""
        await insert(queue, *make_tasks(3))
        await end(queue, "t000")

        await insert(queue, child("c", "t000", "t001", "t002"))

        task = await stored(queue, "c")
        assert (task.status, task.waiting_for, task.due_at) == (TaskStatus.WAITING, 2, None)
        assert ids(await claim(queue)) == ["t001", "t002"]

    async def test_a_task_whose_parents_completed_is_pending(self, queue: BaseQueue) -> None:
        """Nothing to wait for."""
        await insert(queue, make_task("p"))
        await end(queue, "p")

        await insert(queue, child("c", "p"))

        assert ids(await claim(queue)) == ["c"]

    @pytest.mark.parametrize("status", NOT_COMPLETED)
    async def test_a_parent_that_did_not_complete_cancels_a_new_task(
        self, queue: BaseQueue, status: TaskStatus
    ) -> None:
        """It ends at once, naming the parent; unless it asked to be released."""
        await insert(queue, make_task("p"))
        await end(queue, "p", status)

        await insert(queue, child("c", "p"), now=at(4))
        await insert(queue, child("r", "p", on_parent_failure="release"))

        task = await stored(queue, "c")
        assert (task.status, task.finished_at) == (TaskStatus.CANCELLED, at(4))
        assert task.error is not None
        assert "p" in task.error
        assert ids(await claim(queue)) == ["r"]

    async def test_a_missing_parent_counts_as_one_that_did_not_complete(
        self, queue: BaseQueue
    ) -> None:
        """The primitive decides by what is there; `enqueue` refuses before."""
        await insert(queue, child("c", "ghost"), child("r", "ghost", on_parent_failure="release"))

        assert await status_of(queue, "c") is TaskStatus.CANCELLED
        assert await status_of(queue, "r") is TaskStatus.PENDING

    async def test_parents_may_come_earlier_in_the_same_call(self, queue: BaseQueue) -> None:
        """A whole graph is stored in one step."""
        await insert(queue, make_task("a"), child("b", "a"), child("c", "a", "b"))

        assert [(await stored(queue, one)).waiting_for for one in "abc"] == [0, 1, 2]
        for task_id in "abc":
            assert ids(await claim(queue)) == [task_id]
            run = await stored(queue, task_id)
            assert await settle(queue, run, lifecycle.Completed())

    async def test_a_parent_named_twice_counts_once(self, queue: BaseQueue) -> None:
        """Or the child would wait for ever."""
        await insert(queue, make_task("p"), child("c", "p", "p"))
        assert (await stored(queue, "c")).waiting_for == 1

        await end(queue, "p")

        assert ids(await claim(queue)) == ["c"]

    async def test_a_task_cannot_wait_for_itself(self, queue: BaseQueue) -> None:
        """It would never start."""
        with pytest.raises(ValidationError, match="itself"):
            await insert(queue, child("c", "c"))

        assert await everything(queue) == []

    async def test_a_child_of_a_cancelled_child_is_cancelled_at_insert(
        self, queue: BaseQueue
    ) -> None:
        """Within one call, too."""
        await insert(queue, child("b", "ghost"), child("c", "b"), child("d", "c"))

        assert {task.status for task in await everything(queue)} == {TaskStatus.CANCELLED}


class DependencyContract:
    """What the end of a parent does to its children."""

    async def test_the_last_parent_frees_the_child(self, queue: BaseQueue) -> None:
        """All of them have to complete, in any order."""
        await insert(queue, *make_tasks(3), child("c", "t000", "t001", "t002"))
        waiting: list[int] = []

        for parent_id in ("t001", "t000", "t002"):
            await end(queue, parent_id)
            waiting.append((await stored(queue, "c")).waiting_for)

        assert waiting == [2, 1, 0]
        assert ids(await claim(queue)) == ["c"]

    async def test_parents_that_complete_in_one_call_all_count(self, queue: BaseQueue) -> None:
        """A worker settles in batches."""
        await insert(queue, *make_tasks(3), child("c", "t000", "t001", "t002"))
        runs = await claim(queue)

        await queue.swap(
            [Change(run, lifecycle.settle(run, lifecycle.Completed(), NOW)) for run in runs],
            now=NOW,
        )

        assert ids(await claim(queue)) == ["c"]

    @pytest.mark.parametrize("status", NOT_COMPLETED)
    async def test_a_parent_that_fails_cancels_the_child(
        self, queue: BaseQueue, status: TaskStatus
    ) -> None:
        """In the same step, while other parents still run; or releases it, if asked to."""
        await insert(queue, make_task("p"), make_task("q"), child("c", "p", "q"))
        await insert(queue, child("r", "p", on_parent_failure="release"))

        await end(queue, "p", status, at(4))

        cancelled = await stored(queue, "c")
        assert (cancelled.status, cancelled.finished_at) == (TaskStatus.CANCELLED, at(4))
        assert (cancelled.waiting_for, cancelled.attempt) == (0, 0)
        assert cancelled.error is not None
        assert "p" in cancelled.error
        assert await status_of(queue, "r") is TaskStatus.PENDING

    async def test_a_released_child_still_waits_for_the_other_parents(
        self, queue: BaseQueue
    ) -> None:
        """Released means: that parent's failure does not matter."""
        await insert(queue, make_task("p"), make_task("q"))
        await insert(queue, child("r", "p", "q", on_parent_failure="release"))

        await end(queue, "p", TaskStatus.FAILED)
        assert (await stored(queue, "r")).waiting_for == 1
        await end(queue, "q")

        assert await status_of(queue, "r") is TaskStatus.PENDING

    async def test_cancelling_goes_through_all_generations(self, queue: BaseQueue) -> None:
        """However long the chain, in one atomic step."""
        chain = [make_task("g000")]
        chain += [child(f"g{n:03}", f"g{n - 1:03}") for n in range(1, 150)]
        await insert(queue, *chain)

        await end(queue, "g000", TaskStatus.FAILED, at(3))

        tasks = await everything(queue)
        assert {task.status for task in tasks[1:]} == {TaskStatus.CANCELLED}
        assert {task.finished_at for task in tasks} == {at(3)}

    async def test_a_release_in_between_ends_the_cascade(self, queue: BaseQueue) -> None:
        """What a released task depends on is settled; its own children wait for it."""
        await insert(queue, make_task("a"), child("b", "a"))
        await insert(queue, child("c", "b", on_parent_failure="release"), child("d", "c"))

        await end(queue, "a", TaskStatus.CANCELLED)

        assert await status_of(queue, "b") is TaskStatus.CANCELLED
        assert await status_of(queue, "c") is TaskStatus.PENDING
        assert (await stored(queue, "d")).waiting_for == 1

    async def test_a_diamond_is_cancelled_once(self, queue: BaseQueue) -> None:
        """Both ways lead to the same task."""
        await insert(queue, make_task("a"), child("b", "a"), child("c", "a"), child("d", "b", "c"))

        await end(queue, "a", TaskStatus.FAILED, at(1))

        assert [(await stored(queue, one)).finished_at for one in "bcd"] == [at(1)] * 3

    async def test_a_diamond_completes(self, queue: BaseQueue) -> None:
        """The last task runs after both in the middle."""
        await insert(queue, make_task("a"), child("b", "a"), child("c", "a"), child("d", "b", "c"))

        for task_id in "abcd":
            await end(queue, task_id)

        assert {task.status for task in await everything(queue)} == {TaskStatus.COMPLETED}

    async def test_a_retry_of_the_parent_frees_nobody(self, queue: BaseQueue) -> None:
        """It has not finished."""
        await insert(queue, make_task("p", retry=RetryPolicy(max_retries=1)), child("c", "p"))
        run = await claim_one(queue)

        assert await settle(queue, run, lifecycle.failure("no"), at(1))

        assert (await stored(queue, "c")).waiting_for == 1

    async def test_cancelling_a_waiting_parent_cancels_its_children(self, queue: BaseQueue) -> None:
        """Cancelled before it ran is final like any other."""
        await insert(queue, make_task("a"), child("b", "a"), child("c", "b"))

        await queue.cancel("b", now=at(1))

        assert await status_of(queue, "c") is TaskStatus.CANCELLED
        assert ids(await claim(queue)) == ["a"]

    async def test_a_freed_child_with_a_moment_ahead_is_scheduled(self, queue: BaseQueue) -> None:
        """Both its parents and its `run_at` must have come."""
        await insert(queue, make_task("p"), child("c", "p", run_at=at(50)))
        await insert(queue, child("d", "p", run_at=at(20)))

        await end(queue, "p", now=at(20))

        task = await stored(queue, "c")
        assert (task.status, task.due_at) == (TaskStatus.SCHEDULED, at(50))
        assert ids(await claim(queue, now=at(20), lease_seconds=99)) == ["d"]
        assert ids(await claim(queue, now=at(50))) == ["c"]

    async def test_a_freed_child_has_its_place_by_creation(self, queue: BaseQueue) -> None:
        """Waiting costs no place in the line."""
        await insert(queue, make_task("p", created_at=at(-9)), child("c", "p", created_at=at(-5)))
        await insert(queue, make_task("x"))

        await end(queue, "p")

        assert ids(await claim(queue)) == ["c", "x"]

    async def test_children_may_be_in_other_queues(self, queue: BaseQueue) -> None:
        """Dependencies know no queues."""
        await insert(queue, make_task("p"), child("c", "p", queue_name="other"))

        await end(queue, "p")

        assert ids(await claim(queue, "other")) == ["c"]

    async def test_many_children_are_freed_in_one_step(self, queue: BaseQueue) -> None:
        """However many."""
        await insert(queue, make_task("p"))
        await insert(queue, *(child(f"c{n:03}", "p") for n in range(300)))

        await end(queue, "p")

        assert len(await claim(queue, limit=1000)) == 300

    async def test_a_parent_that_finishes_twice_counts_once(self, queue: BaseQueue) -> None:
        """A requeued parent must not free a child that waits for another."""
        await insert(queue, make_task("p"), make_task("q"), child("c", "p", "q"))
        await end(queue, "p")
        await queue.retry_task("p", now=at(1))

        await end(queue, "p", TaskStatus.FAILED)

        task = await stored(queue, "c")
        assert (task.status, task.waiting_for) == (TaskStatus.WAITING, 1)

    async def test_a_parent_done_before_the_child_came_does_not_count_again(
        self, queue: BaseQueue
    ) -> None:
        """Requeued and finished once more, it frees no child that never waited for it."""
        await insert(queue, make_task("p"), make_task("q"))
        await end(queue, "p")
        await insert(queue, child("c", "p", "q"))
        await queue.retry_task("p", now=at(1))

        await end(queue, "p")

        assert (await stored(queue, "c")).waiting_for == 1

    async def test_a_cancelled_child_stays_cancelled(self, queue: BaseQueue) -> None:
        """Its parents' end does not revive it."""
        await insert(queue, make_task("p"), child("c", "p"))
        await queue.cancel("c", now=at(1))

        await end(queue, "p", now=at(2))

        task = await stored(queue, "c")
        assert (task.status, task.finished_at) == (TaskStatus.CANCELLED, at(1))

    async def test_a_requeued_child_is_not_touched_by_its_parents(self, queue: BaseQueue) -> None:
        """Asked for by hand, it runs whatever they do."""
        await insert(queue, make_task("p"), child("c", "p"))
        await queue.cancel("c", now=at(1))
        await queue.retry_task("c", now=at(2))

        await end(queue, "p", TaskStatus.FAILED)

        assert await status_of(queue, "c") is TaskStatus.PENDING

    async def test_a_purged_child_is_forgotten_by_its_parents(self, queue: BaseQueue) -> None:
        """A new task of the same id waits for its own parents only."""
        await insert(queue, make_task("p"), make_task("q"), child("c", "p"))
        await queue.cancel("c", now=at(1))
        assert await queue.purge(at(2)) == 1
        await insert(queue, child("c", "q"))

        await end(queue, "p")

        assert (await stored(queue, "c")).waiting_for == 1

    async def test_a_purged_child_may_come_back_to_the_same_parent(self, queue: BaseQueue) -> None:
        """And is freed by it."""
        await insert(queue, make_task("p"), child("c", "p"))
        await queue.cancel("c", now=at(1))
        await queue.purge(at(2))
        await insert(queue, child("c", "p"))

        await end(queue, "p")

        assert await status_of(queue, "c") is TaskStatus.PENDING

    async def test_a_lost_swap_moves_no_dependants(self, queue: BaseQueue) -> None:
        """A zombie's verdict on the parent means nothing."""
        await insert(queue, make_task("p"), child("c", "p"))
        zombie = running(await stored(queue, "p"), token="zombie")
        await claim_one(queue)

        assert not await swap(queue, zombie, lifecycle.settle(zombie, lifecycle.Completed(), NOW))

        assert (await stored(queue, "c")).waiting_for == 1

    async def test_a_parent_finished_by_hand_frees_its_children(self, queue: BaseQueue) -> None:
        """A swap is a swap."""
        await insert(queue, make_task("p"), child("c", "p"))
        parent = await stored(queue, "p")
        parent.status = TaskStatus.COMPLETED

        await queue.update_task(parent, now=at(1))

        assert ids(await claim(queue)) == ["c"]
