"""The application: enqueueing with its events, looking after tasks and queues."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from omniq import OmniQ, Task, TaskEvent, TaskHandle, TaskStatus
from omniq.exceptions import (
    NotFoundError,
    PayloadTooLargeError,
    SerializationError,
    TaskExistsError,
    UnknownTaskError,
    ValidationError,
)
from omniq.models import EventType
from omniq.storage.base import BaseEventStorage
from omniq.storage.memory import MemoryEventStorage, MemoryQueue
from tests.naming import stable_id


class LoggingQueue(MemoryQueue):
    """Keeps the order of the writes of both, and writes nothing but tasks."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def logs_with(self, events: BaseEventStorage) -> bool:
        return False

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Any]:
        self.log.append(f"insert {len(tasks)}")
        await asyncio.sleep(0)
        inserted = await super()._insert(tasks, now)
        self.log.append("inserted")
        return inserted


class LoggingEvents(MemoryEventStorage):
    """As `LoggingQueue`."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def _append(self, events: list[TaskEvent]) -> None:
        self.log.append(f"append {len(events)}")
        await super()._append(events)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
async def app(log: list[str]) -> AsyncIterator[OmniQ]:
    app = OmniQ("memory://", tasks=LoggingQueue(log), events=LoggingEvents(log))
    async with app:
        yield app


async def events_of(app: OmniQ) -> list[tuple[str, str]]:
    return [(event.task_id, event.event_type) for event in await app.get_events()]


def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


class TestEnqueue:
    """From a call to a stored task and its event."""

    async def test_the_task_and_its_event_are_stored(self, app: OmniQ) -> None:
        """With what was called."""
        handle = await app.task(add).enqueue(2, b=3)

        task = await handle.task()
        assert (task.func, task.args, task.kwargs) == (f"{__name__}.add", (2,), {"b": 3})
        assert await events_of(app) == [(handle.id, EventType.ENQUEUED)]

    async def test_both_are_written_at_the_same_time(self, app: OmniQ, log: list[str]) -> None:
        """A store with group commit then needs one sync to disk, not two."""
        await app.task(add).enqueue(1)

        assert sorted(log[:2]) == ["append 1", "insert 1"]
        assert log[2:] == ["inserted"]

    @pytest.mark.parametrize(
        "options", [{"unique_key": "k"}, {"task_id": "t"}, {"metadata": {"big": "x" * 70_000}}]
    )
    async def test_where_the_outcome_is_open_the_event_comes_after(
        self, app: OmniQ, log: list[str], options: Any
    ) -> None:
        """No event of a task that was not stored."""
        await app.task(add).options(**options).enqueue(1)

        assert log == ["insert 1", "inserted", "append 1"]

    @pytest.mark.parametrize(
        "value", [float("nan"), object(), 2**64, "\ud800", {1: {2}, "x": [object()]}], ids=stable_id
    )
    async def test_an_argument_that_cannot_be_stored_stores_nothing(
        self, app: OmniQ, value: Any
    ) -> None:
        """Neither task nor event."""
        with pytest.raises(SerializationError):
            await app.task(add).enqueue(value)

        assert await app.list_tasks() == []
        assert await events_of(app) == []

    async def test_too_large_a_payload_stores_nothing(self, app: OmniQ) -> None:
        """And says what to do."""
        with pytest.raises(PayloadTooLargeError, match="pass a reference"):
            await app.enqueue("f", "x" * 2_000_000)

        assert (await app.counts(), await events_of(app)) == ({}, [])

    async def test_a_wrong_call_stores_nothing(self, app: OmniQ) -> None:
        """It is refused where it is written, not in a worker at night."""
        with pytest.raises(ValidationError, match="missing a required argument"):
            await app.enqueue(app.task(add))

        assert (await app.counts(), await events_of(app)) == ({}, [])

    async def test_one_bad_call_harms_no_other_of_the_same_moment(self, app: OmniQ) -> None:
        """They share a batch, not a fate."""
        task = app.task(add)
        values: list[Any] = [1, float("nan"), 3, object(), 5]

        results = await asyncio.gather(
            *(task.enqueue(value) for value in values), return_exceptions=True
        )

        kinds = [isinstance(result, TaskHandle) for result in results]
        assert kinds == [True, False, True, False, True]
        assert len(await app.list_tasks()) == len(await events_of(app)) == 3

    async def test_a_unique_key_gives_the_handle_of_the_standing_task(self, app: OmniQ) -> None:
        """One task, one event, two handles of the same."""
        call = app.task(add).options(unique_key="k")

        first, second = await call.enqueue(1), await call.enqueue(2)

        assert first == second
        assert (await second.task()).args == (1,)
        assert len(await events_of(app)) == 1

    async def test_a_taken_id_is_refused(self, app: OmniQ) -> None:
        """An id names one task for ever."""
        call = app.task(add).options(task_id="t")
        await call.enqueue(1)

        with pytest.raises(TaskExistsError, match="id t exists already"):
            await call.enqueue(2)
        assert len(await events_of(app)) == 1

    async def test_a_missing_parent_is_refused(self, app: OmniQ) -> None:
        """The child would wait for ever."""
        with pytest.raises(NotFoundError, match="depends_on: there is no task nobody"):
            await app.task(add).options(depends_on="nobody").enqueue(1)
        assert await events_of(app) == []

    async def test_a_child_waits_for_its_parent(self, app: OmniQ) -> None:
        """A handle is enough to say so."""
        task = app.task(add)
        parent = await task.enqueue(1)

        child = await task.options(depends_on=parent).enqueue(2)

        assert await child.status() is TaskStatus.WAITING

    async def test_without_a_log_nothing_is_logged(self) -> None:
        """For those who need speed more than history."""
        app = OmniQ("memory://", log_events=False)
        task = app.task(add)

        await task.enqueue(1)
        handles = await task.enqueue_many([(1,), (2,)])
        await handles[0].cancel()

        assert await app.get_events() == []

    async def test_a_store_with_pickle_takes_what_others_do_not(self) -> None:
        """The check beforehand only decides about the order of writes."""
        from omniq.backend.memory import MemoryBackend

        app = OmniQ(backend=MemoryBackend(serialization_format="pickle"))

        handle = await app.enqueue("f", complex(1, 2))

        assert (await handle.task()).args == (1 + 2j,)
        assert len(await handle.events()) == 1


class TestEnqueueMany:
    """Bulk."""

    async def test_each_call_becomes_a_task_in_order(self, app: OmniQ, log: list[str]) -> None:
        """Tuples by position, dicts by name; one insert, one append."""
        handles = await app.task(add).enqueue_many([(1, 2), {"a": 3}, (4,)])

        tasks = [await handle.task() for handle in handles]
        assert [(task.args, task.kwargs) for task in tasks] == [
            ((1, 2), {}),
            ((), {"a": 3}),
            ((4,), {}),
        ]
        assert log == ["insert 3", "inserted", "append 3"]
        assert [task_id for task_id, _ in await events_of(app)] == [one.id for one in handles]

    async def test_thousands_go_in_bounded_chunks(self, app: OmniQ, log: list[str]) -> None:
        """No transaction blocks the workers for long; events follow while the next are stored."""
        handles = await app.task(add).enqueue_many((n,) for n in range(2500))

        assert len({handle.id for handle in handles}) == 2500
        for what in ("insert", "append"):
            lines = [line for line in log if line.startswith(f"{what} ")]
            assert lines == [f"{what} 1000", f"{what} 1000", f"{what} 500"]
        assert log.index("append 1000") < log.index("insert 500") < log.index("append 500")

    async def test_none_is_none(self, app: OmniQ, log: list[str]) -> None:
        """An empty list is no error."""
        assert await app.task(add).enqueue_many([]) == []
        assert log == []

    @pytest.mark.parametrize(
        ("calls", "problem"),
        [
            (
                [(1,), 5],
                r"call 1: expected a tuple .* got int; a single argument x is written \(x,\)",
            ),
            ([(1,), "ab"], "call 1: expected a tuple"),
            ([(1,), [1, 2]], "call 1: expected a tuple"),
            ([(1,), ()], "call 1: arguments: .*missing a required argument"),
            ([(1,), (1, 2, 3)], "call 1: arguments: .*too many"),
            ([(1,), {"c": 1}], "call 1: arguments: "),
        ],
        ids=stable_id,
    )
    async def test_a_bad_call_is_found_by_its_place_and_nothing_is_stored(
        self, app: OmniQ, calls: list[Any], problem: str
    ) -> None:
        """All or nothing, as far as mistakes go."""
        with pytest.raises(ValidationError, match=problem):
            await app.task(add).enqueue_many(calls)

        assert await app.counts() == {}

    async def test_one_id_cannot_name_many(self, app: OmniQ) -> None:
        """A single call may have it."""
        call = app.task(add).options(task_id="t")

        with pytest.raises(ValidationError, match="task_id: one id cannot name 2 tasks"):
            await call.enqueue_many([(1,), (2,)])
        assert [handle.id for handle in await call.enqueue_many([(1,)])] == ["t"]

    async def test_unique_keys_hold_within_the_batch(self, app: OmniQ) -> None:
        """The first stands for all; one event."""
        handles = await app.task(add).options(unique_key="k").enqueue_many([(1,), (2,), (3,)])

        assert len({handle.id for handle in handles}) == 1
        assert len(await events_of(app)) == 1


class TestOtherTargets:
    """What can be enqueued besides task functions."""

    async def test_a_name_that_is_registered_is_checked_and_has_its_options(
        self, app: OmniQ
    ) -> None:
        """The same as the task function itself."""
        app.task(name="sum", queue="math")(add)

        handle = await app.enqueue("sum", 1, b=2)

        assert (await handle.task()).queue_name == "math"
        with pytest.raises(ValidationError):
            await app.enqueue("sum")

    async def test_a_name_known_elsewhere_is_taken_as_it_is(self, app: OmniQ) -> None:
        """Clients need not import the workers' code."""
        elsewhere = app.task_function("elsewhere.work").options(priority=3)

        handle = await elsewhere.enqueue(1, target=2)

        task = await handle.task()
        assert (task.func, task.args, task.kwargs) == ("elsewhere.work", (1,), {"target": 2})
        assert task.priority == 3
        with pytest.raises(UnknownTaskError, match="not defined in this program"):
            elsewhere(1)

    async def test_a_bad_name_is_refused(self, app: OmniQ) -> None:
        """As everywhere."""
        with pytest.raises(ValidationError, match="not a valid task name"):
            await app.enqueue("a/b")

    async def test_a_plain_function_goes_by_its_name(self, app: OmniQ) -> None:
        """Workers run it if its module is allowed there; it is not registered by that."""
        handle = await app.enqueue(add, 1)

        assert (await handle.task()).func == f"{__name__}.add"
        assert len(app.registry) == 0
        with pytest.raises(ValidationError):
            await app.enqueue(add, 1, 2, 3)

    async def test_the_function_of_a_task_is_the_task(self, app: OmniQ) -> None:
        """By its registered name."""
        app.task(name="sum")(add)

        assert (await (await app.enqueue(add, 1)).task()).func == "sum"

    async def test_the_defaults_of_the_application_hold(self) -> None:
        """For all of them."""
        app = OmniQ("memory://", default_queue="q", max_retries=2, timeout=timedelta(seconds=3))

        for target in (add, "elsewhere", app.task(name="n")(add)):
            task = await (await app.enqueue(target, 1)).task()
            assert (task.queue_name, task.timeout_seconds) == ("q", 3)
            assert task.retry is not None
            assert task.retry.max_retries == 2

    async def test_tasks_made_by_hand(self, app: OmniQ) -> None:
        """One or many, with their events."""
        one = await app.enqueue_task(Task(func="f", id="a"))
        two, same = await app.enqueue_tasks(
            [Task(func="f", unique_key="k", id="b"), Task(func="f", unique_key="k", id="c")]
        )

        assert (one.id, two.id, same.id) == ("a", "b", "b")
        assert [task_id for task_id, _ in await events_of(app)] == ["a", "b"]
        with pytest.raises(ValidationError):
            await app.enqueue_tasks(
                [Task(func="f", id="d"), Task(func="f", id="e", priority=10**9)]
            )
        assert await app.get_task("d") is None


async def test_what_is_no_task_is_refused_as_one() -> None:
    """Of any type, alone or among others, with a message that says what was expected."""
    async with OmniQ("memory://") as app:
        wrong: Any = "send_mail"
        for call in (app.enqueue_task(wrong), app.enqueue_tasks([wrong])):
            with pytest.raises(ValidationError, match="expected a Task, got str"):
                await call
