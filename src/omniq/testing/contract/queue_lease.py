# ruff: noqa: S101, S105, S106 - tests assert; a lease token is no password
"""What `extend` and `swap` promise: who may change a task, and what a change may not touch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from datetime import timedelta

import pytest

from omniq import lifecycle
from omniq.models.task import STATE_FIELDS, RetryPolicy, Task, TaskStatus
from omniq.storage.base import BaseQueue, Change, Lease
from omniq.testing.contract.samples import (
    ENDINGS,
    FINAL,
    MICROSECOND,
    NOW,
    at,
    claim,
    claim_one,
    end,
    ids,
    insert,
    lease_of,
    make_task,
    make_tasks,
    running,
    settle,
    status_of,
    stored,
    swap,
)

Staleness = Callable[[Task], None]


def _other_claim(task: Task) -> None:
    task.claim_count += 1


def _earlier_claim(task: Task) -> None:
    task.claim_count -= 1


def _other_token(task: Task) -> None:
    task.lease_token = "other"


def _no_token(task: Task) -> None:
    task.lease_token = None


def _other_status(task: Task) -> None:
    task.status = TaskStatus.PENDING


STALE: dict[str, Staleness] = {
    "later claim_count": _other_claim,
    "earlier claim_count": _earlier_claim,
    "other lease_token": _other_token,
    "no lease_token": _no_token,
    "other status": _other_status,
}


class ExtendContract:
    """Heartbeats."""

    async def test_extend_moves_the_end_of_the_lease(self, queue: BaseQueue) -> None:
        """To so many seconds from now, and nothing else."""
        await insert(queue, make_task("a", args=(1,)))
        task = await claim_one(queue, lease_seconds=30)

        (held,) = await queue.extend([lease_of(task)], lease_seconds=30, now=at(20))

        task.due_at = at(50)
        assert held == task == await stored(queue, "a")
        assert await claim(queue, now=at(50 - MICROSECOND)) == []
        assert ids(await claim(queue, now=at(50))) == ["a"]

    async def test_extend_shows_a_cancel_request(self, queue: BaseQueue) -> None:
        """The heartbeat is how a worker hears of it."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        await queue.cancel("a", now=at(1))

        (held,) = await queue.extend([lease_of(task)], now=at(2))

        assert held.cancel_requested

    async def test_extend_returns_only_what_is_held(self, queue: BaseQueue) -> None:
        """Whatever is missing from the answer is lost: another claim, token, status, or no task."""
        await insert(queue, *make_tasks(4))
        tasks = await claim(queue)
        leases = [lease_of(task) for task in tasks]
        await settle(queue, tasks[1], lifecycle.Completed())
        leases[2] = leases[2]._replace(claim_count=2)
        leases[3] = leases[3]._replace(lease_token="other")
        leases.append(Lease("ghost", 1, "token"))

        held = await queue.extend(leases, lease_seconds=99, now=at(1))

        assert ids(held) == ["t000"]
        assert {(await stored(queue, one)).due_at for one in ("t002", "t003")} == {at(30)}

    async def test_only_a_running_task_is_held(self, queue: BaseQueue) -> None:
        """Claim and token alone are no lease."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        after = copy(task)
        after.status, after.due_at = TaskStatus.SCHEDULED, at(5)
        assert await swap(queue, task, after)

        assert await queue.extend([lease_of(task)], lease_seconds=99, now=at(1)) == []

        assert (await stored(queue, "a")).due_at == at(5)

    async def test_extend_of_many_returns_all_held(self, queue: BaseQueue) -> None:
        """One call a heartbeat, however many tasks run."""
        await insert(queue, *make_tasks(600))
        tasks = await claim(queue, limit=600)

        held = await queue.extend([lease_of(task) for task in tasks], lease_seconds=60, now=at(1))

        assert sorted(ids(held)) == ids(tasks)
        assert {task.due_at for task in held} == {at(61)}

    async def test_an_ended_lease_nobody_claimed_is_still_held(self, queue: BaseQueue) -> None:
        """A late heartbeat beats no heartbeat."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue, lease_seconds=5)

        assert len(await queue.extend([lease_of(task)], lease_seconds=5, now=at(8))) == 1

        assert await claim(queue, now=at(12)) == []

    async def test_a_lease_can_be_extended_after_it_was_seen_to_end(self, queue: BaseQueue) -> None:
        """A claim that had no room for the abandoned task leaves it to its holder."""
        await insert(queue, make_task("a"), make_task("b", priority=1))
        tasks = await claim(queue, lease_seconds=5)
        assert ids(await claim(queue, limit=1, token="t2", now=at(5))) == ["b"]

        held = await queue.extend([lease_of(task) for task in tasks], now=at(6))

        assert ids(held) == ["a"]
        assert await claim(queue, token="t3", now=at(7)) == []

    async def test_a_claim_by_another_ends_the_first_lease(self, queue: BaseQueue) -> None:
        """The zombie's heartbeat and its result are refused; the new holder's are taken."""
        await insert(queue, make_task("a"))
        first = await claim_one(queue, token="t1", lease_seconds=5)
        second = await claim_one(queue, token="t2", now=at(5))

        assert await queue.extend([lease_of(first)], now=at(6)) == []
        assert not await settle(queue, first, lifecycle.Completed(), at(6))
        assert await stored(queue, "a") == second
        assert await settle(queue, second, lifecycle.Completed(), at(7))

    async def test_a_claim_with_the_same_token_is_another_claim(self, queue: BaseQueue) -> None:
        """The claim count fences where a token was used twice."""
        await insert(queue, make_task("a"))
        first = await claim_one(queue, lease_seconds=5)
        await claim_one(queue, now=at(5))

        assert await queue.extend([lease_of(first)], now=at(6)) == []
        assert not await settle(queue, first, lifecycle.Completed(), at(6))

    async def test_a_lease_can_be_ended_at_once(self, queue: BaseQueue) -> None:
        """Zero seconds from now is now."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)

        assert len(await queue.extend([lease_of(task)], lease_seconds=0, now=at(1))) == 1

        assert (await claim_one(queue, now=at(1))).claim_count == 2

    async def test_extend_of_nothing_is_nothing(self, queue: BaseQueue) -> None:
        """An idle worker's heartbeat."""
        assert await queue.extend([], now=NOW) == []


class SwapContract:
    """Compare-and-swap."""

    @pytest.mark.parametrize("field", STALE)
    async def test_a_stale_swap_changes_nothing(self, queue: BaseQueue, field: str) -> None:
        """Each field of the fence alone makes the difference."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        before = copy(task)
        STALE[field](before)

        assert not await swap(queue, before, lifecycle.settle(task, lifecycle.Completed(), NOW))

        assert await stored(queue, "a") == task

    async def test_a_swap_of_an_unknown_task_is_lost(self, queue: BaseQueue) -> None:
        """It never creates one."""
        task = running(make_task("a"))

        assert not await swap(queue, task, lifecycle.settle(task, lifecycle.Completed(), NOW))
        assert await queue.counts() == {}

    async def test_a_repeated_swap_is_lost(self, queue: BaseQueue) -> None:
        """A call repeated after a lost reply does not count twice."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)

        assert await settle(queue, task, lifecycle.Completed(), at(1))
        assert not await settle(queue, task, lifecycle.failure("late", final=True), at(2))

        assert (await stored(queue, "a")).finished_at == at(1)

    async def test_the_same_change_twice_in_a_call_is_made_once(self, queue: BaseQueue) -> None:
        """Also within one batch."""
        await insert(queue, make_task("a"), make_task("b"))
        changes = [
            Change(task, lifecycle.settle(task, lifecycle.Completed(), NOW))
            for task in await claim(queue)
        ]

        assert await queue.swap([*changes, changes[0]], now=NOW) == [True, True, False]

    async def test_a_lost_change_does_not_stop_the_others(self, queue: BaseQueue) -> None:
        """Answers come in the order of the changes, each for itself."""
        await insert(queue, *make_tasks(300))
        tasks = await claim(queue, limit=300)
        lost = [n for n in range(300) if n % 7 == 0]
        for n in lost:
            await settle(queue, tasks[n], lifecycle.Released())

        answers = await queue.swap(
            [Change(task, lifecycle.settle(task, lifecycle.Completed(), NOW)) for task in tasks],
            now=NOW,
        )

        assert [n for n, answer in enumerate(answers) if not answer] == lost
        assert (await queue.counts())["default"] == {
            TaskStatus.PENDING: len(lost),
            TaskStatus.COMPLETED: 300 - len(lost),
        }

    async def test_swap_of_nothing_is_nothing(self, queue: BaseQueue) -> None:
        """An empty batch is no error."""
        assert await queue.swap([]) == []

    async def test_all_state_is_taken_from_after(self, queue: BaseQueue) -> None:
        """Every field of the state is written, and comes back as it was."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        after = copy(task)
        after.status, after.attempt, after.claim_count = TaskStatus.SCHEDULED, 7, 8
        after.lease_token, after.due_at, after.lost_leases = "next", at(1.000001), 2
        after.worker_id, after.cancel_requested, after.waiting_for = "w2", True, 3
        after.progress, after.error = 0.25, "ошибка\n" * 200
        after.started_at, after.expires_at = at(-3), at(99)

        assert await swap(queue, task, after)

        found = await stored(queue, "a")
        assert {name: getattr(found, name) for name in STATE_FIELDS} == {
            name: getattr(after, name) for name in STATE_FIELDS
        }

    async def test_the_request_is_never_changed(self, queue: BaseQueue) -> None:
        """Arguments, priority and the rest are fixed at the insert."""
        await insert(queue, make_task("a", args=(1,), unique_key="k"))
        task = await claim_one(queue)
        after = lifecycle.settle(task, lifecycle.Released(), NOW)
        after.args, after.kwargs, after.func, after.priority = (2,), {"k": 1}, "other", 9
        after.queue_name, after.unique_key, after.created_at = "other", None, at(5)
        after.retry, after.run_at = RetryPolicy(max_retries=9), at(1)

        assert await swap(queue, task, after)

        expected = lifecycle.settle(task, lifecycle.Released(), NOW)
        assert await stored(queue, "a") == expected

    async def test_a_change_that_stays_running_never_moves_the_lease(
        self, queue: BaseQueue
    ) -> None:
        """Progress and heartbeat come from two threads; neither undoes the other."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue, lease_seconds=30)
        await queue.extend([lease_of(task)], lease_seconds=90, now=at(1))
        after = copy(task)
        after.progress, after.due_at = 0.5, at(10)

        assert await swap(queue, task, after)

        found = await stored(queue, "a")
        assert (found.progress, found.due_at) == (0.5, at(91))

    async def test_a_cancel_request_survives_a_worker_that_has_not_seen_it(
        self, queue: BaseQueue
    ) -> None:
        """Progress, retries and releases written from an older copy keep it."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        await queue.cancel("a", now=at(1))

        assert await swap(queue, task, copy(task))
        assert (await stored(queue, "a")).cancel_requested
        assert await settle(queue, task, lifecycle.Snoozed(5), at(2))

        again = await claim_one(queue, now=at(7))
        assert again.cancel_requested

    @pytest.mark.parametrize("status", FINAL)
    async def test_a_finished_task_is_over(self, queue: BaseQueue, status: TaskStatus) -> None:
        """No lease, an end, and no claim ever again."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)

        assert await settle(queue, task, ENDINGS[status], at(3))

        found = await stored(queue, "a")
        assert (found.status, found.finished_at) == (status, at(3))
        assert (found.lease_token, found.due_at) == (None, None)
        assert await claim(queue, now=NOW + timedelta(days=99)) == []

    async def test_a_task_put_off_is_claimable_at_its_moment(self, queue: BaseQueue) -> None:
        """A swap to SCHEDULED is an insert into the future."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue, lease_seconds=1)

        assert await settle(queue, task, lifecycle.Snoozed(10), at(2))

        assert await claim(queue, now=at(12 - MICROSECOND)) == []
        assert ids(await claim(queue, now=at(12))) == ["a"]

    async def test_a_pending_task_can_be_leased_by_swap(self, queue: BaseQueue) -> None:
        """Another way to a lease, with the same rights and the same end."""
        await insert(queue, make_task("a"))
        before = await stored(queue, "a")
        run = running(before)

        assert await swap(queue, before, run)

        assert await claim(queue, now=at(29)) == []
        assert len(await queue.extend([lease_of(run)], lease_seconds=5, now=at(29))) == 1
        assert (await claim_one(queue, now=at(34))).lost_leases == 1

    async def test_a_task_finished_and_requeued_is_claimable(self, queue: BaseQueue) -> None:
        """A final state can be left, by an explicit swap only."""
        await insert(queue, make_task("a"))
        await end(queue, "a")
        before = await stored(queue, "a")

        assert await swap(queue, before, lifecycle.requeue(before, at(9)))

        task = await claim_one(queue, now=at(9))
        assert (task.attempt, task.claim_count, task.finished_at) == (1, 2, None)

    async def test_one_of_many_concurrent_writers_wins(self, queue: BaseQueue) -> None:
        """The fence decides, not the timing."""
        await insert(queue, make_task("a"))
        task = await claim_one(queue)
        outcomes = [lifecycle.failure(f"writer {n}", final=True) for n in range(30)]

        answers = await asyncio.gather(*(settle(queue, task, one) for one in outcomes))

        assert answers.count(True) == 1
        found = await stored(queue, "a")
        assert found.error == f"omniq.TaskError: writer {answers.index(True)}"
        assert await status_of(queue, "a") is TaskStatus.FAILED
