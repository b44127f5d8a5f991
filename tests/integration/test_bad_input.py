# length: all tables of bad input in one place, so that a gap is seen
"""Bad input, case by case: a typed error that names the field, and nothing stored anywhere."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest

from omniq import OmniQ, RetryPolicy, Task, TaskStatus, Worker, lifecycle
from omniq.exceptions import (
    NotFoundError,
    OmniQError,
    PayloadTooLargeError,
    ResultTimeoutError,
    SerializationError,
    SyncInAsyncError,
    ValidationError,
)
from omniq.models.event import TaskEvent
from omniq.models.result import TaskResult
from omniq.registry import TaskFunction
from omniq.testing.waiting import wait_until


class Refused(NamedTuple):
    """What is given, and the error it must meet.

    Attributes:
        given: fields of a task, options of a call, or what else the table is about.
        field: what the error names.
        error: its class.
    """

    given: Any
    field: str
    error: type[ValidationError] = ValidationError


IN_9999, IN_YEAR_1 = datetime.max, datetime.min  # noqa: DTZ901 - naive ones are read as UTC
A_DATE_FAR_AHEAD = datetime.now(UTC) + timedelta(days=7300)


class Unregistered:
    """A class that is not stored."""


def nested(levels: int) -> list[Any]:
    """Return a list in a list in a list …"""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.fixture
async def empty(app: OmniQ) -> AsyncIterator[OmniQ]:
    """An application in whose stores nothing may be found at the end."""
    yield app
    assert await app.list_tasks(limit=None) == []
    assert await app.event_storage.get_events() == []
    assert await app.result_storage.list_results() == []
    assert await app.schedule_storage.list_schedules() == []
    assert await app.paused_queues() == set()


async def assert_refused(call: Callable[[], Awaitable[object]], case: Refused) -> None:
    """Make the call; its error must be of the class and name the field."""
    with pytest.raises(OmniQError) as error:
        await call()
    assert type(error.value) is case.error
    assert error.value.field == case.field  # type: ignore[attr-defined]  # of ValidationError
    assert str(error.value).startswith(f"{case.field}: ")


# Fields of a task

BAD_NAMES = {
    "slash": "a/b",
    "parent folder": "..",
    "hidden parent folder": "a..b",
    "nul": "a\0b",
    "blank": "a b",
    "newline": "a\n",
    "not ASCII": "ü",
    "empty": "",
    "too long": "a" * 129,
    "number": 7,
}
TOO_MANY = tuple(f"t{n}" for n in range(1001))
UNSTORABLE = {
    "an object": (Unregistered(), "", SerializationError),
    "a class": (Unregistered, "", SerializationError),
    "a function": (len, "", SerializationError),
    "an exception": (ValueError("no"), "", SerializationError),
    "nested in lists and dicts": ([0, {"a": [1, Unregistered()]}], "[1].a[1]", SerializationError),
    "nested in a tuple": (("x", (Unregistered(),)), "[1][0]", SerializationError),
    "not a number": (math.nan, "", SerializationError),
    "infinite": ([1.0, -math.inf], "[1]", SerializationError),
    "over 64 bits": (2**63, "", SerializationError),
    "under 64 bits": ({"n": -(2**63) - 1}, ".n", SerializationError),
    "deeper than 64 levels": (nested(65), "[0]" * 63, SerializationError),
    "containing itself": (itself(), "[0]" * 63, SerializationError),
    "over 100,000 items": ([0] * 100_001, "", SerializationError),
}
FIELDS = {
    **{f"id {name}": Refused({"id": bad}, "id") for name, bad in BAD_NAMES.items()},
    **{
        f"queue {name}": Refused({"queue_name": bad}, "queue_name")
        for name, bad in BAD_NAMES.items()
    },
    **{
        f"argument {name}": Refused({"args": (1, bad)}, f"args[1]{path}", error)
        for name, (bad, path, error) in UNSTORABLE.items()
    },
    "keyword argument": Refused({"kwargs": {"x": [len]}}, "kwargs.x[0]", SerializationError),
    "metadata": Refused({"metadata": {"x": len}}, "metadata.x", SerializationError),
    "half a character": Refused({"args": ("\ud800",)}, "task", SerializationError),
    "payload over the limit": Refused({"args": ("x" * (1 << 20),)}, "task", PayloadTooLargeError),
    "args no tuple": Refused({"args": "abc"}, "args"),
    "kwargs no dict": Refused({"kwargs": [1]}, "kwargs"),
    "kwargs not by name": Refused({"kwargs": {1: 2}}, "kwargs"),
    "function name": Refused({"func": "no name!"}, "func"),
    "function in a parent": Refused({"func": "a..b"}, "func"),
    "priority no integer": Refused({"priority": 1.5}, "priority"),
    "priority too high": Refused({"priority": 10**7}, "priority"),
    "priority a truth": Refused({"priority": True}, "priority"),
    "created in 9999": Refused({"created_at": IN_9999}, "created_at"),
    "created in year 1": Refused({"created_at": IN_YEAR_1}, "created_at"),
    "created in year 0": Refused({"created_at": "0000-01-01T00:00:00Z"}, "created_at"),
    "run in 9999": Refused({"run_at": IN_9999.replace(tzinfo=UTC)}, "run_at"),
    "run in year 1": Refused({"run_at": IN_YEAR_1}, "run_at"),
    "run at a text": Refused({"run_at": "9999-12-31T00:00:00"}, "run_at"),
    "run at a date": Refused({"run_at": date(2030, 1, 1)}, "run_at"),
    "run in 20 years": Refused({"run_at": A_DATE_FAR_AHEAD}, "run_at"),
    "expires in 9999": Refused({"expires_at": IN_9999}, "expires_at"),
    "expires at a text": Refused({"expires_at": "tomorrow"}, "expires_at"),
    "timeout negative": Refused({"timeout_seconds": -1}, "timeout_seconds"),
    "timeout no number": Refused({"timeout_seconds": math.nan}, "timeout_seconds"),
    "result_ttl negative": Refused({"result_ttl_seconds": -0.001}, "result_ttl_seconds"),
    "result_ttl a text": Refused({"result_ttl_seconds": "3"}, "result_ttl_seconds"),
    "no retry policy": Refused({"retry": 3}, "retry"),
    "retries negative": Refused({"retry": RetryPolicy(max_retries=-1)}, "retry.max_retries"),
    "retry delay": Refused({"retry": RetryPolicy(delay_seconds=-1)}, "retry.delay_seconds"),
    "key empty": Refused({"unique_key": ""}, "unique_key"),
    "key with nul": Refused({"unique_key": "a\0"}, "unique_key"),
    "key too long": Refused({"unique_key": "k" * 257}, "unique_key"),
    "depends on itself": Refused({"id": "me", "depends_on": ("me",)}, "depends_on"),
    "depends on a bad id": Refused({"depends_on": ("a/b",)}, "depends_on"),
    "depends on a text": Refused({"depends_on": "abc"}, "depends_on"),
    "depends on too many": Refused(
        {"depends_on": tuple(f"t{n}" for n in range(1001))}, "depends_on"
    ),
    "status unknown": Refused({"status": "bogus"}, "status"),
    "schedule": Refused({"schedule_id": "a/b"}, "schedule_id"),
}


@pytest.mark.parametrize("case", FIELDS.values(), ids=FIELDS)
async def test_a_bad_field_of_a_task_is_refused(empty: OmniQ, case: Refused) -> None:
    """By the application as by the queue itself, alone or among good ones."""
    bad, good = Task(**{"func": "f"} | case.given), Task(func="f")

    await assert_refused(lambda: empty.enqueue_task(bad), case)
    await assert_refused(lambda: empty.enqueue_tasks([good, bad]), case)
    await assert_refused(lambda: empty.task_queue.enqueue(bad), case)
    await assert_refused(lambda: empty.task_queue.insert([good, bad]), case)


async def test_a_parent_that_does_not_exist_is_named(empty: OmniQ) -> None:
    """A typo must not leave a task waiting for ever."""
    with pytest.raises(NotFoundError, match="depends_on: there is no task nobody"):
        await empty.enqueue_task(Task(func="f", depends_on=("nobody",)))


# Calls of a task function

OPTIONS = {
    "delay negative": Refused({"delay": -0.5}, "delay"),
    "delay a negative timedelta": Refused({"delay": timedelta(seconds=-1)}, "delay"),
    "delay no number": Refused({"delay": math.nan}, "delay"),
    "delay endless": Refused({"delay": math.inf}, "delay"),
    "delay a text": Refused({"delay": "5"}, "delay"),
    "delay and run_at": Refused({"delay": 1, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, "delay"),
    "two queues": Refused({"queue": "a", "queue_name": "b"}, "queue"),
    "queue": Refused({"queue": "a/b"}, "queue"),
    "run_at": Refused({"run_at": IN_9999}, "run_at"),
    "run_at a text": Refused({"run_at": "0000-00-00"}, "run_at"),
    "expires at once": Refused({"expires": 0}, "expires"),
    "expires before it may run": Refused({"delay": 10, "expires": 5}, "expires"),
    "id": Refused({"task_id": "../x"}, "task_id"),
    "depends on itself": Refused({"task_id": "me", "depends_on": "me"}, "depends_on"),
    "retries": Refused({"max_retries": -1}, "retry.max_retries"),
    "retry on a number": Refused({"retry_on": 3}, "retry.retry_on"),
    "timeout": Refused({"timeout": 0}, "timeout"),
    "result_ttl": Refused({"result_ttl": -1}, "result_ttl"),
    "priority": Refused({"priority": "high"}, "priority"),
    "metadata": Refused({"metadata": [1]}, "metadata"),
    "unique_key": Refused({"unique_key": "a\nb"}, "unique_key"),
    "parents' failure": Refused({"on_parent_failure": "ignore"}, "on_parent_failure"),
}
ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "none": ((), {}),
    "too many": ((1, 2, 3), {}),
    "unknown keyword": ((1,), {"c": 3}),
    "given twice": ((1,), {"a": 3}),
}


def adding(app: OmniQ) -> TaskFunction[..., Any]:
    """Return a registered task function of one to two arguments."""

    @app.task
    async def add(a: int, b: int = 0) -> int:
        return a + b

    return add


@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS)
async def test_a_bad_option_is_refused(empty: OmniQ, case: Refused) -> None:
    """When the options are set, not when a worker meets them."""
    add = adding(empty)

    async def enqueue() -> None:
        await add.options(**case.given).enqueue(1)

    await assert_refused(enqueue, case)


async def test_an_unknown_option_is_refused_with_the_nearest_name(empty: OmniQ) -> None:
    """An option misspelt must not be an option ignored."""
    with pytest.raises(TypeError, match="did you mean 'delay'"):
        adding(empty).options(dealy=3)  # type: ignore[call-arg]  # the typo is the point


@pytest.mark.parametrize(("args", "kwargs"), ARGUMENTS.values(), ids=ARGUMENTS)
async def test_arguments_the_function_does_not_take_are_refused(
    empty: OmniQ, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """The caller hears of it, not a log file of a worker an hour later."""
    add = adding(empty)
    case = Refused(None, "arguments")

    await assert_refused(lambda: add.enqueue(*args, **kwargs), case)
    await assert_refused(lambda: empty.enqueue(add, *args, **kwargs), case)


async def test_one_bad_call_among_many_stores_none_and_is_named(empty: OmniQ) -> None:
    """`enqueue_many` of a thousand rows says which one is wrong."""
    add = adding(empty)
    unstorable = Refused(None, "args[0]", SerializationError)

    await assert_refused(
        lambda: add.enqueue_many([(1,), (1, 2, 3)]), Refused(None, "call 1: arguments")
    )
    await assert_refused(lambda: add.enqueue_many([(1,), (object(),)]), unstorable)


# Everything else that takes a name or a value

CALLS: dict[str, tuple[Callable[[OmniQ], Awaitable[object]], Refused]] = {
    "get_task": (lambda app: app.get_task("../x"), Refused(None, "task_id")),
    "cancel": (lambda app: app.cancel("a\0b"), Refused(None, "task_id")),
    "retry": (lambda app: app.retry("a b"), Refused(None, "task_id")),
    "get_result": (lambda app: app.get_result("a/b"), Refused(None, "task_id")),
    "get_events": (lambda app: app.get_events("a/b"), Refused(None, "task_id")),
    "pause_queue": (lambda app: app.pause_queue("a/b"), Refused(None, "queue_name")),
    "resume_queue": (lambda app: app.resume_queue("a/b"), Refused(None, "queue_name")),
    "queue_size": (lambda app: app.queue_size("a/b"), Refused(None, "queue_name")),
    "list_tasks": (lambda app: app.list_tasks(status="bogus"), Refused(None, "status")),
    "a result's id": (
        lambda app: app.result_storage.store_result("a/b", 1),
        Refused(None, "task_id"),
    ),
    "a result's ttl": (
        lambda app: app.result_storage.store_result("a", 1, ttl=-1),
        Refused(None, "ttl"),
    ),
    "a result's value": (
        lambda app: app.result_storage.store_result("a", {"x": [math.nan]}),
        Refused(None, "result.x[0]", SerializationError),
    ),
    "a result among others": (
        lambda app: app.result_storage.set_many(
            [TaskResult(task_id="a"), TaskResult(task_id="b", result=len)]
        ),
        Refused(None, "result", SerializationError),
    ),
    "a result over the limit": (
        lambda app: app.result_storage.store_result("a", "x" * (9 << 20)),
        Refused(None, "taskresult", PayloadTooLargeError),
    ),
    "an event's type": (
        lambda app: app.event_storage.log_event(TaskEvent(task_id="a", event_type="")),
        Refused(None, "event_type"),
    ),
    "an event's moment": (
        lambda app: app.event_storage.log_event(
            TaskEvent(task_id="a", event_type="X", timestamp=IN_9999)
        ),
        Refused(None, "timestamp"),
    ),
    "an event among others": (
        lambda app: app.event_storage.append(
            [
                TaskEvent(task_id="a", event_type="X"),
                TaskEvent(task_id="b", event_type="X", details={"a": [len]}),
            ]
        ),
        Refused(None, "details.a[0]", SerializationError),
    ),
    "a schedule's arguments": (
        lambda app: app.schedule(adding(app), every=1),
        Refused(None, "arguments"),
    ),
    "a schedule's id": (
        lambda app: app.schedule("f", every=1, schedule_id="a/b"),
        Refused(None, "id"),
    ),
    "a schedule's value": (
        lambda app: app.schedule("f", every=1, args=(len,)),
        Refused(None, "args[0]", SerializationError),
    ),
    "a schedule's moment": (
        lambda app: app.schedule("f", at=IN_9999),
        Refused(None, "at"),
    ),
}


@pytest.mark.parametrize(("call", "case"), CALLS.values(), ids=CALLS)
async def test_a_bad_name_or_value_is_refused_everywhere(
    empty: OmniQ, call: Callable[[OmniQ], Awaitable[object]], case: Refused
) -> None:
    """Ids and names reach file paths, keys and SQL in other backends: checked at the door."""
    await assert_refused(partial(call, empty), case)


# Blocking calls where a loop runs

TWINS: dict[str, Callable[[OmniQ], object]] = {
    "OmniQ.enqueue": lambda app: app.enqueue_sync("f"),
    "OmniQ.enqueue_task": lambda app: app.enqueue_task_sync(Task(func="f")),
    "OmniQ.cancel": lambda app: app.cancel_sync("a"),
    "OmniQ.connect": lambda app: app.__enter__(),
    "OmniQ.pause_queue": lambda app: app.pause_queue_sync("a"),
    "OmniQ.schedule": lambda app: app.schedule_sync("f", every=1),
    "TaskHandle.result": lambda app: app.handle("a").result_sync(),
    "Queue.enqueue": lambda app: app.task_queue.enqueue_sync(Task(func="f")),
    "ResultStorage.store_result": lambda app: app.result_storage.store_result_sync("a", 1),
    "EventStorage.log_event": lambda app: app.event_storage.log_event_sync(
        TaskEvent(task_id="a", event_type="X")
    ),
    "ScheduleStorage.list_schedules": lambda app: app.schedule_storage.list_schedules_sync(),
    "Worker.run": lambda app: app.worker().run_sync(),
}


@pytest.mark.parametrize("name", TWINS)
async def test_a_blocking_call_in_a_running_loop_names_what_to_await(
    empty: OmniQ, name: str
) -> None:
    """It would stop the very loop that has to serve it."""
    method = name.partition(".")[2]

    with pytest.raises(SyncInAsyncError, match=rf"`await \w*{name}\(…\)`") as error:
        TWINS[name](empty)
    assert f"{method}_sync()" in str(error.value)


# A task nobody knows


async def test_a_task_no_worker_knows_is_parked_visibly_and_run_later(
    app: OmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment in the wrong order costs time, not tasks."""
    monkeypatch.setattr(lifecycle, "PARKING_SECONDS", (0.02, 0.02))
    handle = await app.enqueue("elsewhere.rare", 20)
    ignorant = Worker(app, burst=True, cleanup=False, schedules=False)
    await ignorant.run()

    task = await handle.task()
    assert (task.status, task.attempt) == (TaskStatus.SCHEDULED, 0)
    with pytest.raises(ResultTimeoutError, match=r"no task 'elsewhere\.rare' is registered"):
        await handle.result(timeout=0)

    @app.task(name="elsewhere.rare")
    async def rare(n: int) -> int:
        return n + 1

    async def ran() -> bool:
        await Worker(app, burst=True, cleanup=False, schedules=False).run()
        return await handle.status() is TaskStatus.COMPLETED

    await wait_until(ran, description="the parked task ran")
    assert await handle.result(timeout=5) == 21
