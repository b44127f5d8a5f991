# ruff: noqa: S101, S106 - tests assert; a lease token is no password
"""What `claim` promises: what is claimable, in which order, and to whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from omniq import lifecycle
from omniq.exceptions import ValidationError
from omniq.models.task import RetryPolicy, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.testing.contract.samples import (
    MICROSECOND,
    NOW,
    at,
    claim,
    claim_one,
    end,
    flat,
    ids,
    insert,
    lease_of,
    make_task,
    make_tasks,
    settle,
    status_of,
    stored,
    swap,
)


class ClaimContract:
    """Which tasks a claim returns."""

    async def test_a_claimed_task_is_running_under_a_lease(self, queue: BaseQueue) -> None:
        """All that later writes are fenced by is set in one step, and returned."""
        await insert(queue, make_task("a", args=(1,), progress=0.5))

        task = await claim_one(queue, token="t1", lease_seconds=7.5, now=at(2))

        assert (task.status, task.attempt, task.claim_count) == (TaskStatus.RUNNING, 1, 1)
        assert (task.lease_token, task.worker_id, task.lost_leases) == ("t1", "worker", 0)
        assert (task.started_at, task.due_at, task.progress) == (at(2), at(9.5), None)
        assert task == await stored(queue, "a")

    async def test_nothing_to_claim_is_an_empty_list(self, queue: BaseQueue) -> None:
        """Neither an unknown nor an empty queue is an error."""
        await insert(queue, make_task("a"))
        await end(queue, "a")

        assert await claim(queue, "default", "unknown") == []

    async def test_a_claimed_task_is_not_claimed_again(self, queue: BaseQueue) -> None:
        """One holder at a time."""
        await insert(queue, make_task("a"))

        assert ids(await claim(queue, token="t1")) == ["a"]
        assert await claim(queue, token="t2") == []

    async def test_limit_bounds_the_claim(self, queue: BaseQueue) -> None:
        """A worker takes what it has room for, each call the next ones."""
        await insert(queue, *make_tasks(25))

        sizes = [len(await claim(queue, limit=10)) for _ in range(4)]

        assert sizes == [10, 10, 5, 0]

    @pytest.mark.parametrize("limit", [0, -1, 10_001, True, 1.0, None])
    async def test_a_bad_limit_is_refused(self, queue: BaseQueue, limit: Any) -> None:
        """Nothing is claimed by accident."""
        await insert(queue, make_task("a"))

        with pytest.raises(ValidationError):
            await claim(queue, limit=limit)

        assert await status_of(queue, "a") is TaskStatus.PENDING

    @pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), "5"])
    async def test_a_bad_lease_is_refused(self, queue: BaseQueue, seconds: Any) -> None:
        """A lease has a length, and an end."""
        await insert(queue, make_task("a"))

        with pytest.raises(ValidationError):
            await claim(queue, lease_seconds=seconds)

        assert await status_of(queue, "a") is TaskStatus.PENDING

    async def test_a_claim_names_at_least_one_queue(self, queue: BaseQueue) -> None:
        """An empty list is a mistake, not every queue."""
        with pytest.raises(ValidationError):
            await queue.claim([], worker_id="w", lease_token="t", now=NOW)

    async def test_a_delayed_task_is_claimable_from_its_moment_on(self, queue: BaseQueue) -> None:
        """Not a microsecond early."""
        await insert(queue, make_task("a", run_at=at(10)))

        assert await claim(queue, now=at(10 - MICROSECOND)) == []
        assert ids(await claim(queue, now=at(10))) == ["a"]

    async def test_due_tasks_become_pending_even_if_not_taken(self, queue: BaseQueue) -> None:
        """So counts tell what is claimable now, in every queue that was asked for."""
        await insert(queue, make_task("a"), make_task("b", run_at=at(1)))
        await insert(queue, make_task("c", run_at=at(1), queue_name="other"))
        await insert(queue, make_task("d", run_at=at(1), queue_name="not-asked"))

        assert ids(await claim(queue, "default", "other", limit=1, now=at(1))) == ["a"]

        for task_id in "bc":
            task = await stored(queue, task_id)
            assert (task.status, task.due_at) == (TaskStatus.PENDING, None)
        assert await status_of(queue, "d") is TaskStatus.SCHEDULED

    async def test_a_task_past_its_expiry_is_claimed_all_the_same(self, queue: BaseQueue) -> None:
        """Whether it still runs is the worker's verdict, not the store's."""
        await insert(queue, make_task("a", expires_at=at(1)))

        assert ids(await claim(queue, now=at(2))) == ["a"]

    async def test_an_abandoned_task_is_claimable_when_its_lease_ends(
        self, queue: BaseQueue
    ) -> None:
        """No reaper: the end of the lease is the moment it is due. The loss is counted."""
        await insert(queue, make_task("a"))
        await claim_one(queue, token="t1", lease_seconds=30)

        assert await claim(queue, token="t2", now=at(30 - MICROSECOND)) == []
        task = await claim_one(queue, token="t2", now=at(30))

        assert (task.attempt, task.claim_count, task.lost_leases) == (2, 2, 1)
        assert (task.lease_token, task.started_at) == ("t2", at(30))

    async def test_each_claim_judges_by_its_own_moment(self, queue: BaseQueue) -> None:
        """A lease that ended by one caller's clock has not by that of another, who is behind."""
        await insert(queue, make_task("a"), make_task("b", priority=1))
        await claim(queue, lease_seconds=5)

        assert ids(await claim(queue, limit=1, now=at(5))) == ["b"]
        assert await claim(queue, now=at(5 - MICROSECOND)) == []
        assert ids(await claim(queue, now=at(5))) == ["a"]

    async def test_losses_add_up_until_a_run_speaks_up(self, queue: BaseQueue) -> None:
        """The crash budget counts losses in a row."""
        await insert(queue, make_task("a"))
        await claim_one(queue, now=NOW)
        await claim_one(queue, now=at(30))
        task = await claim_one(queue, now=at(60))
        assert task.lost_leases == 2

        assert await settle(queue, task, lifecycle.Released(), at(61))

        assert (await claim_one(queue, now=at(62))).lost_leases == 0

    async def test_waiting_and_finished_tasks_are_not_claimed(self, queue: BaseQueue) -> None:
        """However much time passes."""
        await insert(queue, make_task("a"), make_task("b", depends_on=("a",)))
        await queue.set_paused("default", True)
        await insert(queue, make_task("c"))
        await end(queue, "c")
        await queue.set_paused("default", False)

        assert ids(await claim(queue, now=at(1))) == ["a"]

    async def test_fifty_concurrent_claimers_get_each_task_once(self, queue: BaseQueue) -> None:
        """No task is lost and none is run twice, whatever the interleaving."""
        await insert(queue, *make_tasks(200))

        async def work(n: int) -> list[str]:
            taken: list[str] = []
            while claimed := await claim(queue, limit=1 + n % 7, token=f"t{n}"):
                taken += ids(claimed)
            return taken

        taken = await asyncio.gather(*(work(n) for n in range(50)))

        assert flat(taken) == ids(make_tasks(200))


class OrderContract:
    """In which order tasks are claimed."""

    async def test_higher_priority_goes_first(self, queue: BaseQueue) -> None:
        """Whatever the age."""
        priorities = {"low": -1_000_000, "none": 0, "high": 1, "top": 1_000_000}
        for n, (name, priority) in enumerate(priorities.items()):
            await insert(queue, make_task(name, priority=priority, created_at=at(n)))

        assert ids(await claim(queue)) == ["top", "high", "none", "low"]

    async def test_older_goes_first_within_a_priority(self, queue: BaseQueue) -> None:
        """By the moment of creation, not of insertion."""
        for name, seconds in (("b", -1.0), ("c", MICROSECOND), ("a", 0.0)):
            await insert(queue, make_task(name, created_at=at(seconds)))

        assert ids(await claim(queue)) == ["b", "a", "c"]

    async def test_the_id_breaks_ties(self, queue: BaseQueue) -> None:
        """So the order is the same on every store."""
        await insert(queue, *(make_task(name) for name in ("c", "A", "b", "a")))

        assert ids(await claim(queue)) == ["A", "a", "b", "c"]

    async def test_queues_are_served_in_strict_order(self, queue: BaseQueue) -> None:
        """A task of an earlier queue goes before any of a later one, priority or not."""
        await insert(queue, make_task("a1", queue_name="a", priority=-5, created_at=at(9)))
        await insert(queue, make_task("b1", queue_name="b", priority=99))
        await insert(queue, make_task("a2", queue_name="a", priority=-6))

        assert ids(await claim(queue, "a", "b", limit=2)) == ["a1", "a2"]
        assert ids(await claim(queue, "a", "b", limit=2)) == ["b1"]

    async def test_the_order_is_that_of_the_call(self, queue: BaseQueue) -> None:
        """Two workers may prefer differently; a repeated name changes nothing."""
        for name in ("a", "b", "c"):
            await insert(queue, make_task(f"{name}1", queue_name=name))

        assert ids(await claim(queue, "c", "a", "c", "b")) == ["c1", "a1", "b1"]

    async def test_a_claim_fills_up_from_the_next_queue(self, queue: BaseQueue) -> None:
        """One call, up to the limit, over all queues named."""
        await insert(queue, *make_tasks(3, queue_name="a"))
        await insert(queue, make_task("x", queue_name="b"), make_task("y", queue_name="b"))

        assert ids(await claim(queue, "a", "b", limit=4)) == ["t000", "t001", "t002", "x"]

    async def test_order_holds_over_many_claims(self, queue: BaseQueue) -> None:
        """Batches are slices of one order."""
        tasks = [make_task(f"t{n}", priority=n % 5, created_at=at(-(n % 7))) for n in range(120)]
        await insert(queue, *tasks)

        taken: list[str] = []
        while claimed := await claim(queue, limit=13):
            taken += ids(claimed)

        tasks.sort(key=lambda task: (-task.priority, task.created_at, task.id))
        assert taken == ids(tasks)

    async def test_a_retried_task_keeps_its_place(self, queue: BaseQueue) -> None:
        """It does not go to the end of the line: its age counts from its creation."""
        retry = RetryPolicy(max_retries=1, delay_seconds=5)
        await insert(queue, make_task("old", retry=retry, created_at=at(-9)), make_task("new"))
        old = await claim_one(queue)

        assert await settle(queue, old, lifecycle.failure("no"), at(1))

        assert ids(await claim(queue, now=at(6))) == ["old", "new"]

    async def test_a_released_task_keeps_its_place(self, queue: BaseQueue) -> None:
        """A stopped worker sends nobody to the end of the line."""
        await insert(queue, make_task("old", created_at=at(-9)), make_task("new"))
        old = await claim_one(queue)

        assert await settle(queue, old, lifecycle.Released(), at(1))

        assert ids(await claim(queue, now=at(1))) == ["old", "new"]

    async def test_an_abandoned_task_keeps_its_place(self, queue: BaseQueue) -> None:
        """Among pending tasks it stands where it stood, by priority and age."""
        await insert(queue, make_task("mid", priority=1), make_task("high", priority=2))
        await claim(queue, lease_seconds=5)
        await insert(queue, make_task("low"), make_task("older", priority=1, created_at=at(-1)))

        assert ids(await claim(queue, now=at(5))) == ["high", "older", "mid", "low"]

    async def test_a_delayed_task_has_its_place_by_creation(self, queue: BaseQueue) -> None:
        """When it came due does not matter."""
        await insert(queue, make_task("b"), make_task("a", run_at=at(3), created_at=at(-1)))

        assert ids(await claim(queue, now=at(3))) == ["a", "b"]


class PauseContract:
    """What pausing a queue stops, and what it does not."""

    async def test_nothing_of_a_paused_queue_is_claimed(self, queue: BaseQueue) -> None:
        """Pending, due and abandoned tasks alike; other queues go on."""
        await insert(queue, make_task("abandoned"))
        await claim(queue, lease_seconds=1)
        await insert(queue, make_task("pending"), make_task("delayed", run_at=at(1)))
        await insert(queue, make_task("other", queue_name="other"))

        await queue.set_paused("default", True)

        assert ids(await claim(queue, "default", "other", now=at(60))) == ["other"]
        assert await status_of(queue, "delayed") is TaskStatus.SCHEDULED

    async def test_a_resumed_queue_goes_on(self, queue: BaseQueue) -> None:
        """Everything that came due meanwhile is claimable."""
        await insert(queue, make_task("a"), make_task("b", run_at=at(1)))
        await queue.set_paused("default", True)
        assert await claim(queue, now=at(1)) == []

        await queue.set_paused("default", False)

        assert ids(await claim(queue, now=at(1))) == ["a", "b"]

    async def test_paused_names_the_paused_queues(self, queue: BaseQueue) -> None:
        """Also those without a task; doing it twice is the same as once."""
        for name in ("b", "a", "a", "c"):
            await queue.set_paused(name, True)
        for name in ("c", "c", "never-paused"):
            await queue.set_paused(name, False)

        assert await queue.paused() == {"a", "b"}

    async def test_a_running_task_of_a_paused_queue_goes_on(self, queue: BaseQueue) -> None:
        """Pausing stops claims, not runs."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        await queue.set_paused("default", True)

        assert len(await queue.extend([lease_of(task)], now=at(1))) == 1
        assert await settle(queue, task, lifecycle.Completed(), at(2))

    async def test_tasks_can_be_put_into_a_paused_queue(self, queue: BaseQueue) -> None:
        """They wait there."""
        await queue.set_paused("default", True)

        await insert(queue, make_task("a"))

        assert await queue.get_queue_size() == 1

    async def test_a_paused_queue_has_nothing_coming_due(self, queue: BaseQueue) -> None:
        """Or an idle worker would spin: wait must not return for tasks it cannot claim."""
        await insert(queue, make_task("a", run_at=at(-5)), now=at(-10))
        await insert(queue, make_task("b"))
        await queue.set_paused("default", True)
        rounds = 0

        async def spin() -> None:
            nonlocal rounds
            while True:
                await queue.wait(["default"], 5.0)
                rounds += 1

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(spin(), 0.3)

        assert rounds < 30

    async def test_a_swap_into_a_paused_queue_counts(self, queue: BaseQueue) -> None:
        """A task released into a paused queue waits until the queue is resumed."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        await queue.set_paused("default", True)

        assert await swap(queue, task, lifecycle.settle(task, lifecycle.Released(), NOW))

        assert await claim(queue) == []
        assert await status_of(queue, "a") is TaskStatus.PENDING
