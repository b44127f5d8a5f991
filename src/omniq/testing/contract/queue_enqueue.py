# ruff: noqa: S101, S106 - tests assert; a lease token is no password
"""What `enqueue` and `enqueue_many` promise, and what becomes of migrated tasks."""

from __future__ import annotations

import asyncio

import pytest

from omniq.exceptions import (
    NotFoundError,
    SerializationError,
    TaskExistsError,
    ValidationError,
)
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.testing.contract.samples import (
    FINAL,
    MICROSECOND,
    NOW,
    at,
    claim,
    claim_one,
    everything,
    ids,
    insert,
    make_task,
    make_tasks,
    stored,
)


class MigrationContract:
    """Tasks that lived in another store before."""

    @pytest.mark.parametrize("status", FINAL)
    async def test_a_finished_task_keeps_its_state_and_times(
        self, queue: BaseQueue, status: TaskStatus
    ) -> None:
        """A moved history stays what it was, and is never run again."""
        task = make_task(
            "a",
            status=status,
            attempt=3,
            claim_count=4,
            error="why",
            worker_id="w",
            started_at=at(-20),
            finished_at=at(-10),
        )

        assert await queue.enqueue(task) == "a"

        assert await stored(queue, "a") == task
        assert await claim(queue, now=at(999)) == []

    async def test_a_finished_task_without_an_end_ended_now(self, queue: BaseQueue) -> None:
        """So that it is purged in due time."""
        await insert(queue, make_task("a", status=TaskStatus.COMPLETED), now=at(1))

        assert (await stored(queue, "a")).finished_at == at(1)

    async def test_a_running_task_comes_in_as_pending(self, queue: BaseQueue) -> None:
        """Its lease was one of the other store."""
        await insert(
            queue,
            make_task("a", status=TaskStatus.RUNNING, attempt=2, lease_token="x", due_at=at(9)),
        )

        task = await claim_one(queue)
        assert (task.id, task.attempt) == ("a", 3)

    async def test_a_retrying_task_keeps_its_moment(self, queue: BaseQueue) -> None:
        """Its wait is part of its state."""
        await insert(queue, make_task("a", status=TaskStatus.SCHEDULED, attempt=1, due_at=at(7)))

        assert await claim(queue, now=at(7 - MICROSECOND)) == []
        assert (await claim_one(queue, now=at(7))).attempt == 2


class EnqueueContract:
    """The calls users make."""

    async def test_enqueue_returns_the_id(self, queue: BaseQueue) -> None:
        """The id is known before the store is."""
        task = Task(func="job")

        assert await queue.enqueue(task) == task.id
        assert (await stored(queue, task.id)).func == "job"

    async def test_enqueue_of_a_known_id_is_an_error(self, queue: BaseQueue) -> None:
        """A user's own id that is taken is not passed over in silence."""
        await queue.enqueue(make_task("a"))

        with pytest.raises(TaskExistsError, match="a"):
            await queue.enqueue(make_task("a"))

    async def test_enqueue_many_keeps_the_order(self, queue: BaseQueue) -> None:
        """Ids come back in the order of the tasks, over any number of batches."""
        tasks = [make_task(f"t{n:04}") for n in range(1100)]

        assert await queue.enqueue_many(tasks) == ids(tasks)
        assert await queue.get_queue_size() == 1100

    async def test_enqueue_many_stores_the_others_when_an_id_is_taken(
        self, queue: BaseQueue
    ) -> None:
        """What the docstring promises of the rest of the call."""
        await queue.enqueue(make_task("b"))

        with pytest.raises(TaskExistsError, match="b"):
            await queue.enqueue_many([make_task("a"), make_task("b"), make_task("c")])

        assert ids(await everything(queue)) == ["a", "b", "c"]

    async def test_a_bad_task_stops_enqueue_many_before_anything_is_stored(
        self, queue: BaseQueue
    ) -> None:
        """Also when it is in a later batch of the same call."""
        tasks = [make_task(f"t{n:04}") for n in range(1100)]
        tasks[-1].func = "not a name"

        with pytest.raises(ValidationError):
            await queue.enqueue_many(tasks)

        assert await everything(queue) == []

    async def test_a_task_that_cannot_be_stored_stops_enqueue_many_before_anything_is(
        self, queue: BaseQueue
    ) -> None:
        """The first of a thousand must not be stored when the last cannot be; its place is told."""
        tasks = [make_task(f"t{n:04}") for n in range(1100)]
        tasks[-1].args = (object(),)

        with pytest.raises(SerializationError, match="task 1099"):
            await queue.enqueue_many(tasks)

        assert await everything(queue) == []

    async def test_a_bad_task_does_not_harm_tasks_enqueued_at_the_same_time(
        self, queue: BaseQueue
    ) -> None:
        """Concurrent calls share a batch, but not their errors."""
        bad = [make_task("bad", func="no name"), make_task("worse", args=(object(),))]
        good = make_tasks(5)

        answers = await asyncio.gather(
            *(queue.enqueue(task) for task in [*good[:3], *bad, *good[3:]]), return_exceptions=True
        )

        assert [type(answer) for answer in answers[3:5]] == [ValidationError, SerializationError]
        assert answers[:3] + answers[5:] == ids(good)
        assert ids(await everything(queue)) == ids(good)

    async def test_an_unknown_parent_is_an_error(self, queue: BaseQueue) -> None:
        """A task that would wait for nothing is a mistake of the caller."""
        with pytest.raises(NotFoundError, match="ghost"):
            await queue.enqueue(make_task("a", depends_on=("ghost",)))

        assert await everything(queue) == []

    async def test_a_parent_after_its_child_is_an_error(self, queue: BaseQueue) -> None:
        """Parents come first, and nothing is stored otherwise."""
        child, parent = make_task("child", depends_on=("parent",)), make_task("parent")

        with pytest.raises(NotFoundError, match="parent"):
            await queue.enqueue_many([child, parent])

        assert await everything(queue) == []
        assert await queue.enqueue_many([parent, child]) == ["parent", "child"]

    async def test_many_concurrent_enqueues_store_each_task_once(self, queue: BaseQueue) -> None:
        """Coalescing loses and doubles nothing."""
        tasks = make_tasks(200, created_at=NOW)

        answers = await asyncio.gather(*(queue.enqueue(task) for task in tasks))

        assert answers == ids(tasks)
        assert ids(await everything(queue)) == ids(tasks)
