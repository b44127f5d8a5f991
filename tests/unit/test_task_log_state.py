"""The tasks of a log: whatever a batch did can be taken back, and told to another process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omniq import lifecycle
from omniq.models.task import Task, TaskStatus
from omniq.storage.base import EVERY_TASK, Change, Lease
from omniq.storage.objectstore.taskstate import TaskLogState
from omniq.testing.contract.samples import NOW, at

NAMES = [f"t{n}" for n in range(8)]
QUEUES = ["alpha", "beta"]
A_TASK: dict[str, Any] = {"id": "a", "queue_name": "alpha", "priority": 1, "depends_on": ()}
Step = Callable[[TaskLogState], None]

ids = st.sampled_from(NAMES)
moments = st.sampled_from([0.0, 1.0, 5.0, 30.0]).map(at)


def new_state() -> TaskLogState:
    return TaskLogState(lambda queue, due: None, lambda task_id: None)


def insert(fields: dict[str, Any], now: datetime, state: TaskLogState) -> None:
    parents = tuple(one for one in fields["depends_on"] if one < fields["id"])
    more: dict[str, Any] = {"func": "f", "created_at": NOW, "depends_on": parents}
    task = Task(**(fields | more))
    state.insert(task, b'{"n":1}' if fields["priority"] else None, now)


def with_family() -> TaskLogState:
    """Return a state where children wait for their parents, so that steps have somebody to tell."""
    state = new_state()
    for name, parents in (("t4", ()), ("t5", ("t4",)), ("t6", ("t4", "t5")), ("t7", ("t6",))):
        task = Task(func="f", created_at=NOW, id=name, queue_name="alpha", depends_on=parents)
        task.on_parent_failure = "release"
        state.insert(task, None, NOW)
    return state


def claim(limit: int, now: datetime, state: TaskLogState) -> None:
    run = partial(
        lifecycle.claim,
        worker_id="w",
        lease_token="k",
        lease_ends_at=now + timedelta(seconds=5),
        now=now,
    )
    state.claim(QUEUES, limit, run, now)


def change(task_id: str, how: str, now: datetime, state: TaskLogState) -> None:
    record = state.get(task_id)
    if record is None:
        return
    task = record.task
    if how == "cancel":
        after = lifecycle.request_cancel(task, now)
    elif how == "requeue" and task.is_final:
        after = lifecycle.requeue(task, now)
    elif how == "complete" and task.status is TaskStatus.RUNNING:
        after = lifecycle.settle(task, lifecycle.Completed(), now)
    elif how == "snooze" and task.status is TaskStatus.RUNNING:
        after = lifecycle.settle(task, lifecycle.Snoozed(5.0), now)
    elif how == "fail" and task.status is TaskStatus.RUNNING:
        after = lifecycle.settle(task, lifecycle.failure("no"), now)
    else:
        return
    state.swap(Change(task, after), now)


def extend(task_id: str, now: datetime, state: TaskLogState) -> None:
    record = state.get(task_id)
    if record is not None:
        task = record.task
        state.extend(Lease(task_id, task.claim_count, task.lease_token or ""), now)


def purge(now: datetime, state: TaskLogState) -> None:
    state.purge(now, 3)


def pause(queue: str, paused: bool, state: TaskLogState) -> None:
    state.set_paused(queue, paused=paused)


new_tasks = st.fixed_dictionaries(
    {
        "id": ids,
        "queue_name": st.sampled_from(QUEUES),
        "priority": st.integers(0, 1),
        "run_at": st.none() | moments,
        "unique_key": st.sampled_from([None, "key"]),
        "depends_on": st.just(()) | st.lists(ids, max_size=2, unique=True).map(tuple),
        "on_parent_failure": st.sampled_from(["cancel", "release"]),
    }
)
WAYS = ["cancel", "requeue", "complete", "complete", "snooze", "fail"]
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(partial, st.just(insert), new_tasks, moments),
    st.builds(partial, st.just(claim), st.integers(1, 4), moments),
    st.builds(partial, st.just(change), ids, st.sampled_from(WAYS), moments),
    st.builds(partial, st.just(extend), ids, moments),
    st.builds(partial, st.just(purge), moments),
    st.builds(partial, st.just(pause), st.sampled_from(QUEUES), st.booleans()),
)
batches = st.lists(steps, max_size=12)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def everything(state: TaskLogState) -> dict[str, Any]:
    """Return all that a table knows, in an order that does not depend on how it came to know it."""
    children: dict[str, dict[str, None]] = state._children  # pyright: ignore[reportPrivateUsage] - all of it
    return {
        "tasks": {
            one.task.id: (one.task, one.data, sorted(one.waits_on)) for one in state.records()
        },
        "ids": state.sorted_ids(),
        "counts": state.counts(),
        "keys": dict(state._keys),  # pyright: ignore[reportPrivateUsage] - all of it
        "children": {parent: sorted(found) for parent, found in children.items() if found},
        "paused": state.paused(),
        "due": [state.next_due([name]) for name in QUEUES],
        "found": [one.task for one in state.find(EVERY_TASK, state.sorted_ids(), 100)],
    }


def future(state: TaskLogState) -> list[Any]:
    """Return what claims give from here on until all has come due; changes the state."""
    told: list[Any] = []
    for name in QUEUES:
        state.set_paused(name, paused=False)
    for seconds in (0, 1, 5, 30, 60):
        for _ in range(2 * len(NAMES)):
            before = {one.task.id: one.task for one in state.records()}
            claim(1, at(seconds), state)
            after = {one.task.id: one.task for one in state.records()}
            told.append(sorted(name for name, task in after.items() if before[name] != task))
    while state.purge(at(10_000), 1):
        told.append(state.sorted_ids())
    return told


def copied(state: TaskLogState) -> TaskLogState:
    copy = new_state()
    assert copy.apply(list(state.dump())) == []
    return copy


@unhurried
@given(batches, batches, batches)
def test_what_steps_did_is_taken_back_exactly(
    before: list[Step], first: list[Step], second: list[Step]
) -> None:
    """Order of claims, counts, keys, children, timers: a lost race leaves no trace."""
    state = with_family()
    for step in before:
        step(state)
    known, twin = everything(state), copied(state)

    for steps_done in (first, second):
        state.begin()
        for step in steps_done:
            step(state)
    state.take_back()
    state.take_back()

    assert everything(state) == known
    assert everything(twin) == known
    assert future(state) == future(twin)


@unhurried
@given(batches, batches, batches)
def test_another_process_comes_to_the_same_state(
    before: list[Step], first: list[Step], second: list[Step]
) -> None:
    """By the effects alone, whether it saw the steps or a snapshot."""
    state = with_family()
    for step in before:
        step(state)
    twin = copied(state)

    for steps_done in (first, second):
        state.begin()
        for step in steps_done:
            step(state)
    assert twin.apply(state.changes()) == []
    state.keep()

    assert everything(twin) == everything(state)
    assert everything(copied(state)) == everything(state)
    assert future(twin) == future(state)


@unhurried
@given(batches, batches)
def test_the_failure_of_one_step_leaves_the_others(first: list[Step], second: list[Step]) -> None:
    """A job that raises takes back its own changes only."""
    state, twin = with_family(), with_family()
    state.begin()
    for step in first:
        step(state)
        step(twin)
    state.begin()
    for step in second:
        step(state)
    state.take_back()

    assert everything(state) == everything(twin)
    other = with_family()
    other.apply(state.changes())
    assert everything(other) == everything(twin)


@unhurried
@given(batches)
def test_clearing_leaves_nothing(before: list[Step]) -> None:
    """So that a snapshot can be loaded instead."""
    state = with_family()
    for step in before:
        step(state)

    state.clear()

    assert everything(state) == everything(new_state())


def test_records_that_make_no_sense_are_told_apart() -> None:
    """Whether they are no records, or of tasks nobody knows; the others count."""
    state, twin = new_state(), new_state()
    insert(A_TASK, NOW, state)
    good = list(state.dump())
    state.begin()
    change("a", "cancel", NOW, state)
    (cancelled,) = state.changes()

    assert twin.apply([b"}", cancelled, *good]) == [b"}", cancelled]
    assert twin.counts() == {"alpha": {TaskStatus.PENDING: 1}}


def test_nothing_changed_makes_no_record() -> None:
    """A commit that changes nothing is none."""
    state = new_state()
    insert(A_TASK, NOW, state)

    state.begin()
    claim(1, NOW, state)
    purge(at(99), state)
    pause("beta", False, state)
    state.set_paused("alpha", paused=True)
    state.set_paused("alpha", paused=False)
    state.take_back()
    state.begin()
    state.set_paused("alpha", paused=False)

    assert state.changes() == []
