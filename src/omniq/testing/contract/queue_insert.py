# ruff: noqa: S101, S106 - tests assert; a lease token is no password
"""What `insert` promises."""

from __future__ import annotations

import asyncio
from copy import copy
from datetime import timedelta, timezone
from typing import Any

import pytest

from omniq.exceptions import (
    CapabilityError,
    PayloadTooLargeError,
    SerializationError,
    ValidationError,
)
from omniq.models.task import RetryPolicy, TaskStatus
from omniq.serialization import MAX_TASK_BYTES
from omniq.storage.base import BaseQueue, Inserted
from omniq.testing.contract.samples import (
    HOSTILE_NAMES,
    MICROSECOND,
    NAMES,
    NOW,
    UNSTORABLE,
    VALUES,
    Call,
    at,
    claim,
    claim_one,
    end,
    everything,
    ids,
    insert,
    lease_of,
    make_task,
    stored,
)

BAD_FIELDS: dict[str, dict[str, Any]] = {
    "func": {"func": "os; system"},
    "priority": {"priority": 1_000_001},
    "priority of another type": {"priority": True},
    "arguments": {"args": "ab"},
    "keywords": {"kwargs": {1: 2}},
    "metadata": {"metadata": [1]},
    "run_at": {"run_at": "tomorrow"},
    "run_at out of reach": {"run_at": at(86_400 * 4000)},
    "timeout": {"timeout_seconds": 0},
    "result ttl": {"result_ttl_seconds": -1},
    "retries": {"retry": RetryPolicy(max_retries=-1)},
    "unique key": {"unique_key": ""},
    "unprintable unique key": {"unique_key": "a\nb"},
    "schedule": {"schedule_id": "../a"},
    "parents": {"depends_on": "abc"},
    "hostile parent": {"depends_on": ("../a",)},
    "too many parents": {"depends_on": tuple(f"p{n}" for n in range(1001))},
    "parent policy": {"depends_on": ("p",), "on_parent_failure": "explode"},
}


class InsertContract:
    """Putting tasks in."""

    async def test_insert_returns_the_id_of_each_task_in_order(self, queue: BaseQueue) -> None:
        """A caller matches answers to tasks by place."""
        answers = await insert(queue, make_task("b"), make_task("a"), make_task("c"))

        assert answers == [Inserted("b", True), Inserted("a", True), Inserted("c", True)]

    async def test_insert_of_nothing_does_nothing(self, queue: BaseQueue) -> None:
        """An empty batch is no error."""
        assert await queue.insert([]) == []

    async def test_a_caller_s_transaction_needs_a_known_connection(self, queue: BaseQueue) -> None:
        """What a store cannot take part in is refused, never left out: the task would be lost."""
        expected = ValidationError if queue.capabilities.transactions else CapabilityError

        with pytest.raises(expected, match="connection"):
            await queue.insert_within(object(), [make_task("a")])
        with pytest.raises(expected, match="connection"):
            await asyncio.to_thread(queue.insert_within_sync, object(), [make_task("a")])

        assert await queue.find() == []

    async def test_a_known_id_is_not_stored_again(self, queue: BaseQueue) -> None:
        """Insert is put-if-absent, so a repeated call after a lost reply does no harm."""
        await insert(queue, make_task("a", args=(1,)))

        answers = await insert(queue, make_task("a", args=(2,), queue_name="other"))

        assert answers == [Inserted("a", False)]
        assert (await stored(queue, "a")).args == (1,)
        assert await queue.counts() == {"default": {TaskStatus.PENDING: 1}}

    async def test_an_id_repeated_within_one_call_is_stored_once(self, queue: BaseQueue) -> None:
        """The first of the call wins."""
        first, second = make_task("a", args=(1,)), make_task("a", args=(2,))

        assert await insert(queue, first, second) == [Inserted("a", True), Inserted("a", False)]
        assert (await stored(queue, "a")).args == (1,)

    async def test_the_id_of_a_finished_task_stays_taken(self, queue: BaseQueue) -> None:
        """A retried insert must not run a finished task a second time."""
        await insert(queue, make_task("a"))
        await end(queue, "a")

        assert await insert(queue, make_task("a")) == [Inserted("a", False)]
        assert await claim(queue) == []

    async def test_a_known_id_does_not_stop_the_others_of_the_call(self, queue: BaseQueue) -> None:
        """Each task of a batch stands for itself."""
        await insert(queue, make_task("b"))

        answers = await insert(queue, *(make_task(one) for one in "abc"))

        assert [answer.stored for answer in answers] == [True, False, True]
        assert ids(await everything(queue)) == ["a", "b", "c"]

    async def test_a_new_task_is_pending_and_unclaimed(self, queue: BaseQueue) -> None:
        """State given by the caller does not make a new task look claimed."""
        await insert(queue, make_task("a", lease_token="x", worker_id="w", due_at=at(9)))

        task = await stored(queue, "a")
        assert (task.status, task.attempt, task.claim_count) == (TaskStatus.PENDING, 0, 0)
        assert (task.lease_token, task.worker_id, task.due_at) == (None, None, None)

    @pytest.mark.parametrize(
        ("seconds", "status", "due"),
        [
            (-5.0, TaskStatus.PENDING, None),
            (0.0, TaskStatus.PENDING, None),
            (MICROSECOND, TaskStatus.SCHEDULED, MICROSECOND),
        ],
    )
    async def test_run_at_decides_between_pending_and_scheduled(
        self, queue: BaseQueue, seconds: float, status: TaskStatus, due: float | None
    ) -> None:
        """Only a moment ahead delays a task, to the microsecond."""
        await insert(queue, make_task("a", run_at=at(seconds)))

        task = await stored(queue, "a")
        assert (task.status, task.due_at) == (status, None if due is None else at(due))

    async def test_every_field_of_the_request_comes_back(self, queue: BaseQueue) -> None:
        """What is given at enqueue is what the worker sees."""
        await insert(queue, make_task("parent"))
        task = make_task(
            "child",
            func="pkg.mod:Class.method",
            args=(1, "b"),
            kwargs={"c": [3]},
            queue_name="q1",
            priority=-7,
            created_at=at(-1.000001),
            run_at=at(5),
            expires_at=at(99),
            timeout_seconds=1.5,
            retry=RetryPolicy(
                max_retries=3,
                delay_seconds=0.5,
                backoff="linear",
                factor=3.0,
                max_delay_seconds=9.0,
                jitter=True,
                retry_on=("builtins.ValueError",),
            ),
            result_ttl_seconds=0.0,
            unique_key="ключ / *",
            depends_on=("parent",),
            on_parent_failure="release",
            metadata={"trace": {"id": 1}},
            schedule_id="s1",
        )

        await insert(queue, task)

        expected = copy(task)
        expected.status, expected.waiting_for = TaskStatus.WAITING, 1
        assert await stored(queue, "child") == expected

    async def test_moments_are_read_as_utc(self, queue: BaseQueue) -> None:
        """Naive moments are UTC, others are converted; both come back aware."""
        zone = timezone(timedelta(hours=5, minutes=30))
        naive = at(60).replace(tzinfo=None)

        await insert(queue, make_task("a", run_at=naive, expires_at=at(90).astimezone(zone)))

        task = await stored(queue, "a")
        assert (task.run_at, task.due_at, task.expires_at) == (at(60), at(60), at(90))
        assert task.expires_at is not None
        assert task.expires_at.utcoffset() == timedelta(0)

    @pytest.mark.parametrize("kind", VALUES)
    async def test_values_of_every_type_come_back_the_same(
        self, queue: BaseQueue, kind: str
    ) -> None:
        """Arguments, keywords and metadata keep type and value through every store."""
        value = VALUES[kind]
        await insert(
            queue, make_task("a", args=(value,), kwargs={"k": value}, metadata={"m": value})
        )

        task = await claim_one(queue)

        for found in (task.args[0], task.kwargs["k"], task.metadata["m"]):
            assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize("kind", UNSTORABLE)
    @pytest.mark.parametrize("field", ["args", "kwargs", "metadata"])
    async def test_a_value_that_cannot_be_stored_stops_the_whole_call(
        self, queue: BaseQueue, kind: str, field: str
    ) -> None:
        """Refused at once rather than when a worker reads it; nothing of the call is stored."""
        value = (UNSTORABLE[kind],) if field == "args" else {"k": UNSTORABLE[kind]}

        with pytest.raises(SerializationError):
            await insert(queue, make_task("a"), make_task("b", **{field: value}))

        assert await everything(queue) == []

    async def test_arguments_over_the_limit_stop_the_whole_call(self, queue: BaseQueue) -> None:
        """A queue is no place for megabytes."""
        with pytest.raises(PayloadTooLargeError):
            await insert(queue, make_task("a"), make_task("b", args=("x" * MAX_TASK_BYTES,)))

        assert await everything(queue) == []

    @pytest.mark.parametrize("field", BAD_FIELDS)
    async def test_a_bad_field_stops_the_whole_call(self, queue: BaseQueue, field: str) -> None:
        """Input is checked before anything is stored."""
        with pytest.raises(ValidationError):
            await insert(queue, make_task("a"), make_task("b", **BAD_FIELDS[field]))

        assert await everything(queue) == []

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    async def test_hostile_names_are_refused_everywhere(self, queue: BaseQueue, name: str) -> None:
        """No name ever reaches a path, a key, a subject or a statement of the store."""
        bad: Any = HOSTILE_NAMES[name]
        calls: list[Call] = [
            lambda: insert(queue, make_task(id=bad)),
            lambda: insert(queue, make_task("a", queue_name=bad)),
            lambda: queue.enqueue(make_task("a", queue_name=bad)),
            lambda: claim(queue, "default", bad),
            lambda: claim(queue, token=bad),
            lambda: queue.claim(["default"], worker_id=bad, lease_token="t"),
            lambda: queue.get(["a", bad]),
            lambda: queue.set_paused(bad, True),
            lambda: queue.wait([bad], 0),
            lambda: queue.wait_final([bad], 0),
            lambda: queue.announce(bad),
            lambda: queue.get_queue_size(bad),
        ]

        for call in calls:
            with pytest.raises(ValidationError):
                await call()

        assert await everything(queue) == []
        assert await queue.paused() == set()

    @pytest.mark.parametrize("name", NAMES)
    async def test_every_allowed_name_works(self, queue: BaseQueue, name: str) -> None:
        """Names the check lets through mean nothing special to the store."""
        await insert(queue, make_task(name, queue_name=name))
        await queue.set_paused(name, True)
        await queue.set_paused(name, False)

        task = await claim_one(queue, name, token=name)

        assert (task.id, task.queue_name) == (name, name)
        assert await queue.counts() == {name: {TaskStatus.RUNNING: 1}}

    async def test_names_differ_by_case(self, queue: BaseQueue) -> None:
        """Neither a file system nor a collation merges ``Job`` and ``job``."""
        await insert(queue, make_task("Job", queue_name="Q"), make_task("job", queue_name="q"))

        assert ids(await claim(queue, "q")) == ["job"]
        assert ids(await everything(queue)) == ["Job", "job"]

    async def test_changing_a_task_after_insert_changes_nothing_stored(
        self, queue: BaseQueue
    ) -> None:
        """The store keeps copies, however deep the change."""
        task = make_task("a", args=([1],), kwargs={"k": {}}, retry=RetryPolicy(max_retries=1))
        await insert(queue, task)

        task.args[0].append(2)
        task.kwargs["k"]["x"] = 1
        task.priority, task.retry.max_retries = 9, 9  # type: ignore[union-attr]  # given above
        found = await stored(queue, "a")

        assert (found.args, found.kwargs, found.priority) == (([1],), {"k": {}}, 0)
        assert found.retry == RetryPolicy(max_retries=1)

    @pytest.mark.parametrize("args", [(), ([1],)])
    async def test_changing_a_task_got_changes_nothing_stored(
        self, queue: BaseQueue, args: tuple[list[int], ...]
    ) -> None:
        """Each caller gets a task of its own."""
        retry = RetryPolicy(max_retries=1) if args else None
        await insert(queue, make_task("a", args=args, retry=retry))
        claimed = await claim_one(queue)
        (extended,) = await queue.extend([lease_of(claimed)], lease_seconds=30, now=NOW)

        for task in [await stored(queue, "a"), (await queue.find())[0], claimed, extended]:
            task.kwargs["k"], task.metadata["m"], task.priority = 1, 2, 9
            if task.retry is not None:
                task.retry.max_retries = 9
            for one in task.args:
                one.append(2)

        found = await stored(queue, "a")
        assert (found.args, found.kwargs, found.metadata) == (args, {}, {})
        assert (found.priority, found.retry) == (0, RetryPolicy(max_retries=1) if args else None)
