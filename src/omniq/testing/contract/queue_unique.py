# ruff: noqa: S101 - tests assert; a lease token is no password
"""What a `unique_key` promises: at most one live task of a queue holds it."""

from __future__ import annotations

import asyncio

import pytest

from omniq import lifecycle
from omniq.exceptions import DuplicateTaskError
from omniq.models.task import RetryPolicy, TaskStatus
from omniq.storage.base import BaseQueue, Change, Inserted
from omniq.testing.contract.samples import (
    FINAL,
    at,
    claim,
    claim_one,
    end,
    everything,
    ids,
    insert,
    make_task,
    settle,
    status_of,
    stored,
    swap,
)

TAKEN = Inserted("a", False)


class UniqueKeyContract:
    """Unique keys."""

    async def test_a_live_task_stands_for_a_new_one_of_the_same_key(self, queue: BaseQueue) -> None:
        """The caller learns which; nothing is dropped in silence."""
        await insert(queue, make_task("a", unique_key="k"))

        assert await insert(queue, make_task("b", unique_key="k")) == [TAKEN]
        assert await queue.enqueue(make_task("c", unique_key="k")) == "a"

        assert ids(await everything(queue)) == ["a"]

    async def test_a_key_is_taken_within_one_call(self, queue: BaseQueue) -> None:
        """The first of the batch holds it."""
        tasks = [make_task(one, unique_key="k") for one in "ab"]

        answers = await insert(queue, *tasks, make_task("c"))

        assert answers == [Inserted("a", True), TAKEN, Inserted("c", True)]

    async def test_a_known_id_is_told_before_a_taken_key(self, queue: BaseQueue) -> None:
        """A repeated insert of the same task is recognised as such."""
        await insert(queue, make_task("a", unique_key="k"), make_task("b"))

        assert await insert(queue, make_task("b", unique_key="k")) == [Inserted("b", False)]
        assert await insert(queue, make_task("a", unique_key="k")) == [TAKEN]

    async def test_a_key_belongs_to_its_queue(self, queue: BaseQueue) -> None:
        """The same key in another queue is another key."""
        await insert(queue, make_task("a", unique_key="k"))

        (answer,) = await insert(queue, make_task("b", unique_key="k", queue_name="other"))

        assert answer.stored

    @pytest.mark.parametrize("key", ["K", "k ", "k\u0301", "%", "x" * 256, "' OR 1=1 --", "a/../b"])
    async def test_keys_are_compared_exactly(self, queue: BaseQueue, key: str) -> None:
        """No folding, no trimming, no meaning."""
        await insert(queue, make_task("a", unique_key="k"))

        (first, second) = await insert(
            queue, make_task("b", unique_key=key), make_task("c", unique_key=key)
        )

        assert (first, second) == (Inserted("b", True), Inserted("b", False))

    async def test_tasks_without_a_key_never_conflict(self, queue: BaseQueue) -> None:
        """None is no key."""
        answers = await insert(queue, make_task("a"), make_task("b"))

        assert all(answer.stored for answer in answers)

    async def test_every_live_status_holds_the_key(self, queue: BaseQueue) -> None:
        """Scheduled, waiting, pending, running and abandoned alike."""
        await insert(queue, make_task("parent", priority=-9))
        await insert(queue, make_task("a", unique_key="k", run_at=at(5)))
        assert await insert(queue, make_task("b", unique_key="k")) == [TAKEN]
        await insert(queue, make_task("w", unique_key="kw", depends_on=("parent",)))
        assert (await insert(queue, make_task("x", unique_key="kw")))[0].task_id == "w"

        await claim_one(queue, now=at(5))

        assert await status_of(queue, "a") is TaskStatus.RUNNING
        assert await insert(queue, make_task("b", unique_key="k"), now=at(6)) == [TAKEN]
        assert await insert(queue, make_task("b", unique_key="k"), now=at(99)) == [TAKEN]

    @pytest.mark.parametrize("status", FINAL)
    async def test_each_final_status_frees_the_key(
        self, queue: BaseQueue, status: TaskStatus
    ) -> None:
        """In the same step as the task ends: a lock never outlives its task."""
        await insert(queue, make_task("a", unique_key="k"))

        await end(queue, "a", status)

        assert await insert(queue, make_task("b", unique_key="k")) == [Inserted("b", True)]

    async def test_cancelling_a_task_that_waits_frees_the_key(self, queue: BaseQueue) -> None:
        """Cancelled before it ran."""
        await insert(queue, make_task("a", unique_key="k", run_at=at(60)))

        await queue.cancel("a", now=at(1))

        assert await insert(queue, make_task("b", unique_key="k")) == [Inserted("b", True)]

    async def test_a_retry_keeps_the_key(self, queue: BaseQueue) -> None:
        """Between two attempts the task is live."""
        await insert(queue, make_task("a", unique_key="k", retry=RetryPolicy(max_retries=1)))
        task = await claim_one(queue)

        assert await settle(queue, task, lifecycle.failure("no"), at(1))

        assert await insert(queue, make_task("b", unique_key="k"), now=at(1)) == [TAKEN]

    async def test_a_child_cancelled_with_its_parent_frees_its_key(self, queue: BaseQueue) -> None:
        """Keys are freed through all generations."""
        await insert(queue, make_task("p"), make_task("c", unique_key="k", depends_on=("p",)))

        await end(queue, "p", TaskStatus.FAILED)

        assert await insert(queue, make_task("b", unique_key="k")) == [Inserted("b", True)]

    async def test_a_task_final_from_the_start_needs_no_key(self, queue: BaseQueue) -> None:
        """A migrated history is stored whole, and takes no key."""
        await insert(queue, make_task("a", unique_key="k"))
        old = make_task("old", unique_key="k", status=TaskStatus.COMPLETED)

        assert await insert(queue, old) == [Inserted("old", True)]
        assert await insert(queue, make_task("b", unique_key="k")) == [TAKEN]
        await end(queue, "a")
        assert await insert(queue, make_task("b", unique_key="k")) == [Inserted("b", True)]

    async def test_a_requeued_task_takes_its_key_again(self, queue: BaseQueue) -> None:
        """Live is live."""
        await insert(queue, make_task("a", unique_key="k"))
        await end(queue, "a")

        await queue.retry_task("a", now=at(1))

        assert await insert(queue, make_task("b", unique_key="k")) == [TAKEN]

    async def test_a_requeue_is_lost_while_another_holds_the_key(self, queue: BaseQueue) -> None:
        """Nothing is changed, and the error says why."""
        await insert(queue, make_task("a", unique_key="k"))
        await end(queue, "a")
        await insert(queue, make_task("b", unique_key="k"))
        before = await stored(queue, "a")

        assert not await swap(queue, before, lifecycle.requeue(before, at(1)))
        with pytest.raises(DuplicateTaskError, match="k"):
            await queue.retry_task("a", now=at(1))

        assert await stored(queue, "a") == before
        assert ids(await claim(queue)) == ["b"]

    async def test_a_requeue_works_once_the_key_is_free(self, queue: BaseQueue) -> None:
        """The conflict was of the moment."""
        await insert(queue, make_task("a", unique_key="k"))
        await end(queue, "a")
        await insert(queue, make_task("b", unique_key="k"))
        await end(queue, "b")

        await queue.retry_task("a", now=at(1))

        assert await status_of(queue, "a") is TaskStatus.PENDING

    async def test_a_key_lost_in_a_batch_does_not_stop_the_others(self, queue: BaseQueue) -> None:
        """One requeue of several meets a taken key."""
        await insert(queue, make_task("a", unique_key="k"), make_task("c"))
        await end(queue, "a")
        await end(queue, "c")
        await insert(queue, make_task("b", unique_key="k"))
        before = [await stored(queue, one) for one in "ac"]

        answers = await queue.swap(
            [Change(task, lifecycle.requeue(task, at(1))) for task in before], now=at(1)
        )

        assert answers == [False, True]

    async def test_a_purged_task_leaves_its_key_free(self, queue: BaseQueue) -> None:
        """Nothing of it remains."""
        await insert(queue, make_task("a", unique_key="k"))
        await end(queue, "a")
        await queue.purge(at(1))

        assert await insert(queue, make_task("a", unique_key="k")) == [Inserted("a", True)]
        assert await insert(queue, make_task("b", unique_key="k")) == [TAKEN]

    async def test_of_concurrent_inserts_one_gets_the_key(self, queue: BaseQueue) -> None:
        """All callers are told the same id."""
        tasks = [make_task(f"t{n}", unique_key="k") for n in range(40)]

        answers = await asyncio.gather(*(queue.enqueue(task) for task in tasks))

        assert len(set(answers)) == 1
        assert ids(await everything(queue)) == answers[:1]
