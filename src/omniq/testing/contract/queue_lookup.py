# ruff: noqa: S101 - tests assert; a lease token is no password
"""What `get`, `find`, `counts` and `purge` promise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import ValidationError
from omniq.models.task import TaskStatus
from omniq.storage.base import BaseQueue, TaskFilter
from omniq.testing.contract.samples import (
    MICROSECOND,
    at,
    claim,
    claim_one,
    end,
    everything,
    ids,
    insert,
    make_task,
    make_tasks,
    settle,
    status_of,
)


class LookupContract:
    """Finding tasks."""

    async def test_get_answers_in_order(self, queue: BaseQueue) -> None:
        """With None where there is no such task, and as often as asked."""
        await insert(queue, make_task("a"), make_task("b"))

        found = await queue.get(["b", "ghost", "a", "b"])

        assert [task and task.id for task in found] == ["b", None, "a", "b"]
        assert await queue.get([]) == []

    async def test_get_of_very_many(self, queue: BaseQueue) -> None:
        """More ids than any store takes in one statement."""
        await insert(queue, make_task("a"))
        names = [f"ghost{n}" for n in range(2500)]

        found = await queue.get([*names, "a"])

        assert [task.id for task in found if task] == ["a"]
        assert len(found) == 2501

    async def test_next_due_is_the_earliest_moment_of_its_queues(self, queue: BaseQueue) -> None:
        """Of delayed tasks and of leases; one that is over by now stays it until claimed."""
        assert await queue.next_due(["default"]) is None
        moment, later = utcnow() - timedelta(hours=1), utcnow() + timedelta(hours=1)
        await insert(queue, make_task("late", run_at=later), make_task("ready"))
        await insert(queue, make_task("other", queue_name="other"))
        assert await queue.next_due(["default"]) == later

        await claim_one(queue, now=moment, lease_seconds=60)

        assert await queue.next_due(["default"]) == moment + timedelta(seconds=60)
        assert await queue.next_due(["other"]) is None

    async def test_find_pages_by_id(self, queue: BaseQueue) -> None:
        """Pages neither overlap nor leave out, whatever comes and goes in between."""
        await insert(queue, *make_tasks(25))

        first = await queue.find(limit=10)
        await insert(queue, make_task("a"), make_task("t0095"), make_task("zz"))
        second = await queue.find(after=first[-1].id, limit=10)
        third = await queue.find(after=second[-1].id, limit=10)

        names = ids(make_tasks(25))
        assert ids(first) == names[:10]
        assert ids(second) == ["t0095", *names[10:19]]
        assert ids(third) == [*names[19:], "zz"]

    async def test_after_need_not_exist(self, queue: BaseQueue) -> None:
        """It is a place between ids: the task there may have been purged."""
        await insert(queue, make_task("a"), make_task("c"))

        assert ids(await queue.find(after="b")) == ["c"]
        assert ids(await queue.find(after="c")) == []

    async def test_ids_sort_by_code_point(self, queue: BaseQueue) -> None:
        """The same order on every store, whatever its collation."""
        names = ["a", "B", "a.b", "a-b", "a_b", "A", "10", "9", "ab"]
        await insert(queue, *(make_task(name) for name in names))

        assert ids(await everything(queue)) == sorted(names)

    async def test_find_filters_by_every_field(self, queue: BaseQueue) -> None:
        """Each alone and all together; an empty filter matches all."""
        await insert(
            queue,
            make_task("a", queue_name="q1", func="f1", schedule_id="s1"),
            make_task("b", queue_name="q1", func="f2"),
            make_task("c", queue_name="q2", func="f1", run_at=at(9)),
            make_task("d", queue_name="q2", func="f2", schedule_id="s2"),
        )
        await claim(queue, "q1", limit=1)
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({}, ["a", "b", "c", "d"]),
            ({"queues": frozenset({"q1"})}, ["a", "b"]),
            ({"queues": frozenset({"q1", "q2"})}, ["a", "b", "c", "d"]),
            ({"funcs": frozenset({"f1"})}, ["a", "c"]),
            ({"statuses": frozenset({TaskStatus.RUNNING, TaskStatus.SCHEDULED})}, ["a", "c"]),
            ({"schedule_id": "s2"}, ["d"]),
            ({"worker_id": "worker"}, ["a"]),
            ({"worker_id": "nobody"}, []),
            ({"queues": frozenset({"q2"}), "funcs": frozenset({"f2"})}, ["d"]),
        ]

        for fields, expected in cases:
            assert ids(await queue.find(TaskFilter(**fields))) == expected, fields

    async def test_a_filtered_page_is_full(self, queue: BaseQueue) -> None:
        """The limit counts matches, not tasks looked at."""
        tasks = [make_task(f"t{n:03}", func="rare" if n % 40 == 0 else "job") for n in range(200)]
        await insert(queue, *tasks)

        found = await queue.find(TaskFilter(funcs=frozenset({"rare"})), after="t000", limit=3)

        assert ids(found) == ["t040", "t080", "t120"]

    async def test_a_page_may_follow_one_of_another_filter(self, queue: BaseQueue) -> None:
        """Who looks at all and then at some asks for the same page of those."""
        await insert(
            queue,
            *(make_task(one, queue_name=name) for one, name in zip("abcd", "xyxy", strict=True)),
        )
        only_x, only_y = (TaskFilter(queues=frozenset({name})) for name in "xy")

        assert ids(await queue.find(only_x, limit=1)) == ["a"]
        assert ids(await queue.find(only_y, after="a", limit=2)) == ["b", "d"]
        assert ids(await queue.find(after="d", limit=2)) == []

    @pytest.mark.parametrize("limit", [0, -1, 10_001, 1.5])
    async def test_a_bad_page_size_is_refused(self, queue: BaseQueue, limit: Any) -> None:
        """A page is bounded."""
        with pytest.raises(ValidationError):
            await queue.find(limit=limit)

    async def test_list_tasks_goes_through_all_pages(self, queue: BaseQueue) -> None:
        """By queue, status and function; at most so many."""
        await queue.enqueue_many([make_task(f"t{n:04}") for n in range(1001)])
        await insert(queue, make_task("x", queue_name="other", func="f"), make_task("y"))
        await queue.cancel("y")

        assert len(await queue.list_tasks()) == 1003
        assert len(await queue.list_tasks("default", "pending")) == 1001
        assert ids(await queue.list_tasks(limit=2)) == ["t0000", "t0001"]
        assert ids(await queue.list_tasks("other")) == ["x"]
        assert ids(await queue.list_tasks(func="f")) == ["x"]
        assert ids(await queue.list_tasks(status=TaskStatus.CANCELLED)) == ["y"]

    @pytest.mark.parametrize(
        "wrong", [{"limit": 0}, {"limit": -1}, {"limit": "5"}, {"queue_name": "a/b"}]
    )
    async def test_listing_what_makes_no_sense_is_an_error(
        self, queue: BaseQueue, wrong: dict[str, Any]
    ) -> None:
        """An empty list would hide the mistake."""
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            await queue.list_tasks(**wrong)

    async def test_counts_follow_every_change(self, queue: BaseQueue) -> None:
        """Per queue and status, without zeros."""
        assert await queue.counts() == {}
        await insert(queue, *make_tasks(3), make_task("s", queue_name="other", run_at=at(9)))
        tasks = await claim(queue, limit=2)
        await settle(queue, tasks[0], lifecycle.Completed())

        assert await queue.counts() == {
            "default": {TaskStatus.COMPLETED: 1, TaskStatus.RUNNING: 1, TaskStatus.PENDING: 1},
            "other": {TaskStatus.SCHEDULED: 1},
        }
        await claim(queue, "other", now=at(9))
        assert (await queue.counts())["other"] == {TaskStatus.RUNNING: 1}

    async def test_queue_size_counts_what_is_pending(self, queue: BaseQueue) -> None:
        """Not what runs, waits or is over."""
        await insert(queue, *make_tasks(4), make_task("s", run_at=at(9)))
        await insert(queue, make_task("w", depends_on=("t003",)))
        await claim_one(queue)

        assert await queue.get_queue_size() == 3
        assert await queue.get_queue_size("unknown") == 0


class PurgeContract:
    """Deleting what is over."""

    async def test_purge_deletes_what_finished_before(self, queue: BaseQueue) -> None:
        """Strictly before; what finished at that very moment stays."""
        await insert(queue, *make_tasks(3))
        for n, seconds in enumerate((1 - MICROSECOND, 1.0, 2.0)):
            await end(queue, f"t{n:03}", now=at(seconds))

        assert await queue.purge(at(1)) == 1

        assert ids(await everything(queue)) == ["t001", "t002"]
        assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 2}}

    async def test_purge_leaves_live_tasks_alone(self, queue: BaseQueue) -> None:
        """However old."""
        await insert(queue, make_task("a", created_at=at(-9999)), make_task("b", run_at=at(1)))
        await insert(queue, make_task("w", depends_on=("b",)))
        await claim(queue)

        assert await queue.purge(at(9999)) == 0

        assert ids(await everything(queue)) == ["a", "b", "w"]

    async def test_purge_is_bounded(self, queue: BaseQueue) -> None:
        """It says how many; a full batch means to call again."""
        await insert(queue, *make_tasks(25, status=TaskStatus.FAILED, finished_at=at(-5)))

        assert [await queue.purge(at(0), limit=10) for _ in range(4)] == [10, 10, 5, 0]
        assert await everything(queue) == []

    async def test_a_requeued_task_is_not_purged(self, queue: BaseQueue) -> None:
        """It is not over any more."""
        await insert(queue, make_task("a"))
        await end(queue, "a", now=at(1))
        await queue.retry_task("a", now=at(2))

        assert await queue.purge(at(9)) == 0
        assert await status_of(queue, "a") is TaskStatus.PENDING

    async def test_a_purged_id_is_free(self, queue: BaseQueue) -> None:
        """With nothing left of the old task: payload, state, place."""
        await insert(queue, make_task("a", args=(1,), priority=9))
        await end(queue, "a")
        await queue.purge(at(1))

        await insert(queue, make_task("a", args=(2,)), make_task("b", priority=5))

        tasks = await claim(queue)
        assert [(task.id, task.args, task.claim_count) for task in tasks] == [
            ("b", (), 1),
            ("a", (2,), 1),
        ]

    async def test_cleanup_deletes_what_finished_a_week_ago(self, queue: BaseQueue) -> None:
        """The default keeps seven days; any other moment can be given."""
        now = utcnow()
        for name, days in (("old", 7.1), ("new", 6.9)):
            finished = now - timedelta(days=days)
            await insert(queue, make_task(name, status=TaskStatus.COMPLETED, finished_at=finished))

        assert await queue.cleanup_expired_tasks() == 1
        assert ids(await everything(queue)) == ["new"]
        assert await queue.cleanup_expired_tasks(now) == 1

    async def test_cleanup_goes_on_until_all_is_done(self, queue: BaseQueue) -> None:
        """In bounded batches."""
        finished = at(-86_400 * 8)
        tasks = [
            make_task(f"t{n:04}", status=TaskStatus.FAILED, finished_at=finished)
            for n in range(1001)
        ]
        await queue.enqueue_many(tasks)

        assert await queue.cleanup_expired_tasks() == 1001
