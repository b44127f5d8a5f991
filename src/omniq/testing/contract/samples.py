# ruff: noqa: S101, S107 - tests assert; a lease token is no password
"""Moments, tasks, names and values the contract is tested with, and calls spelt short."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import BaseQueue, Change, Inserted, Lease

Call = Callable[[], Awaitable[object]]

NOW = utcnow()
MICROSECOND = 0.000_001
TIMEOUT_SECONDS = 10.0
"""How long a test waits for what must happen at once."""

HOSTILE_NAMES: dict[str, object] = {
    "empty": "",
    "dot": ".",
    "parent": "..",
    "inner parent": "a..b",
    "traversal": "../../etc/passwd",
    "slash": "a/b",
    "backslash": "a\\b",
    "absolute": "/a",
    "leading dash": "-a",
    "leading dot": ".a",
    "blank": "a b",
    "nul": "a\0b",
    "newline": "a\n",
    "carriage return": "a\r\nDEL",
    "letter beyond ASCII": "é",
    "digit beyond ASCII": "٣",
    "star": "a*",
    "angle": "a>",
    "brace": "{a}",
    "colon": "a:b",
    "single quote": "a'--",
    "double quote": 'a"b',
    "semicolon": "a;b",
    "percent": "%2e%2e",
    "tilde": "~",
    "too long": "a" * 129,
    "none": None,
    "number": 1,
    "bytes": b"a",
}
NAMES = ["a", "0", "A-1_.z", "a" * 128, "con", "a.b.c", "init__", "select"]

VALUES: dict[str, Any] = {
    "none": None,
    "bools": [True, False],
    "integers": [0, -1, 2**63 - 1, -(2**63)],
    "floats": [0.0, 1.0, -1.5, 1e300, 5e-324],
    "texts": ["", "ä€😀", "quote ' \" \\", "line\nfeed\0nul", "$tuple"],
    "list": [1, [2, [3, []]]],
    "dict": {"a": {"b": {}}, "": 1, "ключ": 2},
    "dict like a tag": {"$tuple": [1, 2]},
    "dict with other keys": {1: "a", (1, 2): "b", None: "c"},
    "tuple": (1, (2, ()), [3]),
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "bytes": bytes(range(256)),
    "aware moment": datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "moment of a zone": datetime(2020, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-3))),
    "naive moment": datetime(2020, 1, 2, 3, 4, 5),  # noqa: DTZ001 - a value like any other
    "date": date(2020, 2, 29),
    "time": time(23, 59, 59, 999999),
    "duration": timedelta(days=-1, seconds=3, microseconds=4),
    "uuid": UUID("12345678-1234-5678-1234-567812345678"),
    "decimal": Decimal("1.10"),
}
UNSTORABLE: dict[str, Any] = {
    "object": object(),
    "function": len,
    "nan": float("nan"),
    "infinity": float("inf"),
    "large integer": 2**63,
    "lone surrogate": "\ud800",
    "nested object": [{"a": (object(),)}],
}
FINAL = [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.EXPIRED]
ENDINGS: dict[TaskStatus, lifecycle.Outcome] = {
    TaskStatus.COMPLETED: lifecycle.Completed(),
    TaskStatus.FAILED: lifecycle.failure("no", final=True),
    TaskStatus.CANCELLED: lifecycle.Cancelled(),
    TaskStatus.EXPIRED: lifecycle.Expired(),
}
"""An outcome that leads to each final status."""


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def make_task(task_id: str | None = None, **fields: Any) -> Task:
    """Return a task, created at `NOW` unless `fields` say otherwise."""
    known: dict[str, Any] = {"func": "job", "created_at": NOW}
    if task_id is not None:
        known["id"] = task_id
    return Task(**(known | fields))


def make_tasks(count: int, **fields: Any) -> list[Task]:
    """Return tasks ``t000``, ``t001`` … in the order they are claimed."""
    return [make_task(f"t{n:03}", **fields) for n in range(count)]


async def insert(queue: BaseQueue, *tasks: Task, now: datetime = NOW) -> list[Inserted]:
    """Insert tasks in one call."""
    return await queue.insert(tasks, now=now)


async def claim(
    queue: BaseQueue,
    *queues: str,
    limit: int = 100,
    token: str = "token",
    lease_seconds: float = 30.0,
    now: datetime = NOW,
) -> list[Task]:
    """Claim from these queues, or from ``default``."""
    return await queue.claim(
        queues or ["default"],
        worker_id="worker",
        lease_token=token,
        limit=limit,
        lease_seconds=lease_seconds,
        now=now,
    )


async def claim_one(
    queue: BaseQueue,
    *queues: str,
    token: str = "token",
    lease_seconds: float = 30.0,
    now: datetime = NOW,
) -> Task:
    """Claim one task that must be there."""
    claimed = await claim(
        queue, *queues, limit=1, token=token, lease_seconds=lease_seconds, now=now
    )
    assert len(claimed) == 1, "there was nothing to claim"
    return claimed[0]


async def swap(queue: BaseQueue, before: Task, after: Task, now: datetime = NOW) -> bool:
    """Swap one task."""
    return (await queue.swap([Change(before, after)], now=now))[0]


async def settle(
    queue: BaseQueue, task: Task, outcome: lifecycle.Outcome, now: datetime = NOW
) -> bool:
    """End the run of a claimed task; whether the store took it."""
    return await swap(queue, task, lifecycle.settle(task, outcome, now), now)


async def end(
    queue: BaseQueue, task_id: str, status: TaskStatus = TaskStatus.COMPLETED, now: datetime = NOW
) -> Task:
    """Lease exactly this PENDING task and end it with `status`; return it as it was claimed."""
    before = await stored(queue, task_id)
    assert before.status is TaskStatus.PENDING, f"{task_id} is {before.status}"
    run = running(before, now)
    assert await swap(queue, before, run, now)
    assert await settle(queue, run, ENDINGS[status], now)
    return run


def running(task: Task, now: datetime = NOW, token: str = "locked") -> Task:
    """Return a task as a claim of 30 seconds leaves it."""
    return lifecycle.claim(
        task,
        worker_id="worker",
        lease_token=token,
        lease_ends_at=now + timedelta(seconds=30),
        now=now,
    )


async def stored(queue: BaseQueue, task_id: str) -> Task:
    """Return a task that must be there."""
    (task,) = await queue.get([task_id])
    assert task is not None, f"there is no task {task_id}"
    return task


async def status_of(queue: BaseQueue, task_id: str) -> TaskStatus:
    """Return the status of a task that must be there."""
    return (await stored(queue, task_id)).status


async def everything(queue: BaseQueue) -> list[Task]:
    """Return all tasks, by id."""
    return await queue.list_tasks()


def lease_of(task: Task) -> Lease:
    """Return the lease of a claimed task."""
    return Lease(task.id, task.claim_count, task.lease_token or "")


def ids(tasks: Sequence[Task]) -> list[str]:
    """Return the ids of tasks, in order."""
    return [task.id for task in tasks]


def flat(lists: Sequence[list[str]]) -> list[str]:
    """Return the items of all lists, sorted."""
    return sorted(item for items in lists for item in items)


def missing_twins(component: object) -> list[str]:
    """Return the names of the public coroutine methods that have no blocking twin."""
    methods = inspect.getmembers(type(component), inspect.iscoroutinefunction)
    public = [name for name, _ in methods if not name.startswith("_")]
    return [name for name in public if not hasattr(component, f"{name}_sync")]
