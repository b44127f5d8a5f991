# ruff: noqa: S101 - tests assert
"""A state machine that drives a queue beside the model and compares every answer and all state.

With `make` a coroutine function that returns a new, empty queue::

    run_state_machine_as_test(queue_machine(make))

"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import OmniQError
from omniq.models.result import ErrorInfo
from omniq.models.task import RetryPolicy, Task, TaskStatus
from omniq.storage.base import BaseQueue, Change, Inserted, Lease
from omniq.testing.model import ModelQueue

Call = Callable[[BaseQueue], Awaitable[Any]]

QUEUES = ("alpha", "beta")
SECONDS = st.sampled_from([0.0, 0.000_001, 1.0, 5.0, 30.0])
LEASES = st.sampled_from([0.001, 5.0, 30.0])
NAMES = [f"task-{n}" for n in range(8)]
IDS = st.sampled_from(NAMES)
PLACES = st.integers(0, len(NAMES) - 1)
"""A place among the tasks there are, so that calls about one task rarely miss."""

NOTHING = cast("Any", multiple())

outcomes = st.one_of(
    st.builds(lifecycle.Completed),
    st.builds(
        lifecycle.Failed,
        st.just(ErrorInfo("builtins.ValueError", "no")),
        final=st.booleans(),
        delay_seconds=st.none() | SECONDS,
    ),
    st.builds(lifecycle.Snoozed, SECONDS),
    st.builds(lifecycle.Released),
    st.builds(lifecycle.Parked, st.just("unknown here")),
    st.builds(lifecycle.Cancelled),
    st.builds(lifecycle.Expired),
)


@st.composite
def new_tasks(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the fields of a task; moments are seconds after the present of the machine."""
    return {
        "id": draw(IDS),
        "queue_name": draw(st.sampled_from(QUEUES)),
        "priority": draw(st.integers(-1, 1)),
        "created_at": draw(st.sampled_from([-2.0, -1.0])),
        "run_at": draw(st.sampled_from([None, None, 0.0, 0.000_001, 5.0])),
        "expires_at": draw(st.sampled_from([None, None, 5.0])),
        "unique_key": draw(st.sampled_from([None, "key"])),
        "depends_on": draw(st.just(()) | st.lists(IDS, max_size=2, unique=True).map(tuple)),
        "on_parent_failure": draw(st.sampled_from(["cancel", "release"])),
        "retry": draw(st.sampled_from([None, RetryPolicy(max_retries=1, delay_seconds=5.0)])),
        "args": draw(st.sampled_from([(), (1, "two", [3])])),
    }


def queue_machine(
    make: Callable[[], Awaitable[BaseQueue]],
) -> type[RuleBasedStateMachine]:
    """Return a state machine class for the queues that `make` returns, each new and empty."""

    class Machine(QueueMachine):
        async def make_queue(self) -> BaseQueue:
            return await make()

    return Machine


class QueueMachine(RuleBasedStateMachine):
    """Calls of clients and workers in any order, with crashes and repeated calls in between."""

    held = Bundle("held")
    """Tasks as their claims returned them; some have been lost since."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = utcnow()
        self.claims = 0
        self.last: Call | None = None
        self.model = ModelQueue()
        self.queue = self.runner.run(self.make_queue())

    async def make_queue(self) -> BaseQueue:
        """Return the queue under test, new and empty."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Close the queue and the event loop."""
        self.runner.run(self.queue.disconnect())
        self.runner.close()

    @initialize(tasks=st.lists(new_tasks(), min_size=4, max_size=len(NAMES)))
    def start_with(self, tasks: list[dict[str, Any]]) -> None:
        """Begin with a graph of tasks, parents first, so that the rules have something to do."""
        for n, fields in enumerate(tasks):
            parents = {NAMES[NAMES.index(one) % n] for one in fields["depends_on"] if n}
            fields.update(id=NAMES[n], depends_on=tuple(sorted(parents)))
        self.enqueue(tasks)

    @rule(tasks=st.lists(new_tasks(), min_size=1, max_size=3))
    def enqueue(self, tasks: list[dict[str, Any]]) -> None:
        """Insert tasks in one call; ids, keys and parents collide on purpose."""
        built = [self._task(fields) for fields in tasks]
        now = self.now

        async def insert(queue: BaseQueue) -> list[Inserted]:
            return await queue.insert(built, now=now)

        self._both(insert)

    @rule(target=held, queues=st.permutations(QUEUES), limit=st.integers(1, 4), lease=LEASES)
    def claim(self, queues: list[str], limit: int, lease: float) -> Any:
        """Lease some tasks."""
        return multiple(*self._claim(queues, limit, lease))

    @rule(limit=st.integers(1, 4), ends=st.lists(outcomes, min_size=4, max_size=4))
    def work(self, limit: int, ends: list[lifecycle.Outcome]) -> None:
        """Lease tasks and settle all of them at once, as a worker does."""
        tasks = self._claim(list(QUEUES), limit, 30.0)
        now = self.now
        changes = [
            Change(task, lifecycle.settle(task, outcome, now))
            for task, outcome in zip(tasks, ends, strict=False)
        ]

        async def swap(queue: BaseQueue) -> list[bool]:
            return await queue.swap(changes, now=now)

        self._both(swap)

    def _claim(self, queues: list[str], limit: int, lease: float) -> list[Task]:
        self.claims += 1
        token, now = f"token-{self.claims}", self.now

        async def claim(queue: BaseQueue) -> list[Task]:
            return await queue.claim(
                queues,
                worker_id="worker",
                lease_token=token,
                limit=limit,
                lease_seconds=lease,
                now=now,
            )

        return cast("list[Task]", self._both(claim))

    @rule(target=held, place=PLACES)
    def lock(self, place: int) -> Any:
        """Lease exactly this task by compare-and-swap."""
        task = self._look(self._id_at(place))
        if task is None or task.status is not TaskStatus.PENDING:
            return NOTHING
        self.claims += 1
        after = lifecycle.claim(
            task,
            worker_id="worker",
            lease_token=f"token-{self.claims}",
            lease_ends_at=self.now + timedelta(seconds=5),
            now=self.now,
        )
        return multiple(after) if self._swap(task, after) else NOTHING

    @rule(tasks=st.lists(held, min_size=1, max_size=3), seconds=SECONDS)
    def beat(self, tasks: list[Task], seconds: float) -> None:
        """Extend leases, held and lost ones."""
        unique = {task.id: task for task in tasks}.values()
        leases = [Lease(task.id, task.claim_count, task.lease_token or "") for task in unique]
        now = self.now

        async def extend(queue: BaseQueue) -> list[Task]:
            held = await queue.extend(leases, lease_seconds=seconds, now=now)
            return sorted(held, key=lambda task: task.id)

        self._both(extend)

    @rule(task=held, outcome=outcomes)
    def settle(self, task: Task, outcome: lifecycle.Outcome) -> None:
        """End a run, whether or not it still holds its task."""
        self._swap(task, lifecycle.settle(task, outcome, self.now))

    @rule(task=consumes(held))
    def complete(self, task: Task) -> None:
        """End a run well: the commonest end, and the one that children wait for."""
        self._swap(task, lifecycle.settle(task, lifecycle.Completed(), self.now))

    @rule(task=held)
    def report_progress(self, task: Task) -> None:
        """Change a running task that stays running; its lease must not move."""
        after = copy(task)
        after.progress, after.due_at = 0.5, self.now + timedelta(days=1)
        self._swap(task, after)

    @rule(task=consumes(held))
    def crash(self, task: Task) -> None:
        """Forget a claim: nobody will settle it."""

    @rule(place=PLACES)
    def cancel(self, place: int) -> None:
        """Cancel a task or ask its worker to stop."""
        task_id, now = self._id_at(place), self.now

        async def cancel(queue: BaseQueue) -> Task:
            return await queue.cancel(task_id, now=now)

        self._both(cancel)

    @rule(place=PLACES)
    def requeue(self, place: int) -> None:
        """Run a finished task again."""
        finished = [task.id for task in self._all() if task.is_final]
        task_id, now = self._id_at(place, finished), self.now

        async def retry(queue: BaseQueue) -> Task:
            return await queue.retry_task(task_id, now=now)

        self._both(retry)

    @rule(
        place=PLACES,
        status=st.sampled_from(
            [TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.FAILED]
        ),
    )
    def edit(self, place: int, status: TaskStatus) -> None:
        """Write a state by hand."""
        task = self._look(self._id_at(place))
        if task is None:
            return
        task.status = status
        now = self.now

        async def update(queue: BaseQueue) -> Task:
            return await queue.update_task(task, now=now)

        self._both(update)

    @rule(name=st.sampled_from(QUEUES), paused=st.sampled_from([False, False, True]))
    def pause(self, name: str, paused: bool) -> None:
        """Pause or resume a queue."""

        async def pause(queue: BaseQueue) -> None:
            await queue.set_paused(name, paused)

        self._both(pause)

    @rule(seconds=SECONDS.filter(bool))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    @rule()
    def advance_to_next_due(self) -> None:
        """Let time pass to the very moment something comes due."""
        due = self.runner.run(_next_due(self.model))
        if due is not None:
            self.now = max(self.now, due)

    @rule(age=st.sampled_from([0.0, 5.0, 60.0]))
    def purge(self, age: float) -> None:
        """Delete what finished some time ago."""
        before = self.now - timedelta(seconds=age)

        async def purge(queue: BaseQueue) -> int:
            return await queue.purge(before)

        self._both(purge)

    @rule()
    def repeat(self) -> None:
        """Make the last call again, as a client does that lost the reply."""
        if self.last is not None:
            self._both(self.last)

    @invariant()
    def all_state_agrees(self) -> None:
        """Compare every task, the counts, the paused queues and what comes due next."""
        expected, found = (self.runner.run(_state(queue)) for queue in (self.model, self.queue))
        assert found == expected

    def _task(self, fields: dict[str, Any]) -> Task:
        moments: dict[str, Any] = {
            name: None if fields[name] is None else self.now + timedelta(seconds=fields[name])
            for name in ("created_at", "run_at", "expires_at")
        }
        parents = tuple(one for one in fields["depends_on"] if one != fields["id"])
        known: dict[str, Any] = {"func": "job", "depends_on": parents}
        return Task(**(fields | moments | known))

    def _id_at(self, place: int, preferred: Sequence[str] = ()) -> str:
        """Return one of the preferred ids, or else that of any task there is."""
        names = preferred or [task.id for task in self._all()] or NAMES
        return names[place % len(names)]

    def _all(self) -> list[Task]:
        return self.runner.run(self.model.find(limit=100))

    def _look(self, task_id: str) -> Task | None:
        return self.runner.run(self.model.get_task(task_id))

    def _swap(self, before: Task, after: Task) -> bool:
        now = self.now

        async def swap(queue: BaseQueue) -> bool:
            return (await queue.swap([Change(before, after)], now=now))[0]

        return bool(self._both(swap))

    def _both(self, call: Call) -> Any:
        """Make a call on both sides; return the answer after comparing them."""
        self.last = call
        expected = self.runner.run(_answer(call, self.model))
        found = self.runner.run(_answer(call, self.queue))
        assert _comparable(found) == _comparable(expected)
        return found


async def _answer(call: Call, queue: BaseQueue) -> object:
    """Return what the call returned, or the class of the error it raised."""
    try:
        return await call(queue)
    except OmniQError as error:
        return type(error)


async def _state(queue: BaseQueue) -> Any:
    return (
        _comparable(await queue.find(limit=100)),
        await queue.counts(),
        await queue.paused(),
        [await _next_due(queue, name) for name in QUEUES],
    )


async def _next_due(queue: BaseQueue, *names: str) -> datetime | None:
    return await queue._next_due(list(names or QUEUES))  # pyright: ignore[reportPrivateUsage] - a primitive


def _comparable(answer: object) -> object:
    """Which of several failed parents an error names is not promised: leave that out."""
    if isinstance(answer, list):
        return [_comparable(item) for item in cast("list[object]", answer)]
    if isinstance(answer, Task) and answer.error and answer.error.startswith("parent "):
        answer = copy(answer)
        answer.error = "parent"
    return answer
