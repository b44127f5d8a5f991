"""A history checker: what clients, workers and the store wrote down must fit together.

`violations` is a pure function. Times are of the machine's monotonic clock, which its processes
share.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Run(NamedTuple):
    """What a worker wrote down of one run.

    Attributes:
        ended: ``ok``, ``failed`` or ``snoozed``; None where no end was written.
    """

    task_id: str
    claim: int
    pid: int
    started_at: float
    ended_at: float | None = None
    ended: str | None = None


class Struck(NamedTuple):
    """A process that was killed, or stopped until later: meanwhile others may run its tasks.

    What it had claimed before, it may still start in the moment it goes on.
    """

    pid: int
    at: float
    until: float


class Enqueued(NamedTuple):
    """An acknowledged call: the id asked for, and the id that stands for it."""

    task_id: str
    standing_id: str


class Stored(NamedTuple):
    """A task as the store has it in the end.

    Attributes:
        result: claim count and value of its result.
        final_events: what the history says of its ends.
    """

    task_id: str
    status: str
    claim_count: int
    max_retries: int = 0
    unique_key: str | None = None
    parents: tuple[str, ...] = ()
    error: str = ""
    result: tuple[int, object] | None = None
    final_events: tuple[str, ...] = ()


class Seen(NamedTuple):
    """A final task, as a look in between found it."""

    task_id: str
    status: str
    claim_count: int


class History(NamedTuple):
    """All that was written down."""

    enqueued: tuple[Enqueued, ...]
    runs: tuple[Run, ...]
    struck: tuple[Struck, ...]
    stored: dict[str, Stored]
    seen: tuple[Seen, ...] = ()


FINAL = {"completed", "failed", "cancelled", "expired"}
POISONED_AFTER = 3
SETTLED_WITHIN_SECONDS = 2.0
REACTION_SECONDS = 0.25
"""How long a signal may take to reach its process, and that to find its lease lost."""


def violations(history: History) -> list[str]:
    """Return what does not fit, one line each; nothing when all is well."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(history.runs, key=lambda run: run.claim):
        runs[run.task_id].append(run)
    return [
        *_lost(history),
        *_changed_after_the_end(history),
        *_overlaps(history, runs),
        *_keys(history),
        *(
            problem
            for task in history.stored.values()
            for check in (_claims, _end, _failure, _order)
            for problem in check(task, runs, history)
        ),
    ]


_Runs = dict[str, list[Run]]


def _lost(history: History) -> Iterator[str]:
    """Each acknowledged enqueue reaches a final state."""
    for call in history.enqueued:
        task = history.stored.get(call.standing_id)
        if task is None:
            yield f"{call.task_id}: acknowledged as {call.standing_id}, which is lost"
        elif task.status not in FINAL:
            yield f"{call.standing_id}: not final but {task.status}"
        elif call.standing_id != call.task_id and call.task_id in history.stored:
            yield f"{call.task_id}: stored, though {call.standing_id} was said to stand for it"


def _changed_after_the_end(history: History) -> Iterator[str]:
    """Nothing leaves a final state."""
    for seen in history.seen:
        task = history.stored.get(seen.task_id)
        if task is None or (task.status, task.claim_count) != seen[1:]:
            yield f"{seen.task_id}: was final as {seen[1:]}, then changed"


def _overlaps(history: History, runs: _Runs) -> Iterator[str]:
    """The next claim of a task runs only after the run before ended, or its process was struck."""
    for task_id, claims in runs.items():
        for before, after in pairwise(claims):
            if before.claim == after.claim:
                yield f"{task_id}: claim {before.claim} ran twice"
            elif after.started_at < _free_at(before, history):
                yield f"{task_id}: claim {after.claim} ran beside claim {before.claim}"


def _free_at(run: Run, history: History) -> float:
    """The moment from which on another run of the same task, or key, is in order."""
    strikes = [
        one.at
        for one in history.struck
        if one.pid == run.pid and run.started_at <= one.until + REACTION_SECONDS
    ]
    ended_at = math.inf if run.ended_at is None else run.ended_at
    return min([ended_at, *strikes])


def _keys(history: History) -> Iterator[str]:
    """Two tasks of one key are never alive, so never run, at the same time."""
    by_key: dict[str, list[Run]] = defaultdict(list)
    for run in history.runs:
        task = history.stored.get(run.task_id)
        if task is not None and task.unique_key is not None:
            by_key[task.unique_key].append(run)
    for key, runs in by_key.items():
        runs.sort(key=lambda run: run.started_at)
        for before, after in pairwise(runs):
            if after.started_at < _free_at(before, history):
                yield f"{after.task_id}: ran beside {before.task_id}, both of key {key}"


def _claims(task: Stored, runs: _Runs, history: History) -> Iterator[str]:
    """The runs written down are claims the store has counted."""
    if any(run.claim > task.claim_count for run in runs[task.task_id]):
        yield f"{task.task_id}: a run of a claim over {task.claim_count}"
    failed = [run for run in runs[task.task_id] if run.ended == "failed"]
    stored = [run for run in failed if not _struck_while_settling(run, history)]
    if len(stored) > task.max_retries + 1:
        yield f"{task.task_id}: failed {len(stored)} times, {task.max_retries} retries allowed"


def _struck_while_settling(run: Run, history: History) -> bool:
    """Whether the end that was written down may not have reached the store."""
    ended_at = run.ended_at or run.started_at
    strikes = [one.at for one in history.struck if one.pid == run.pid]
    return any(ended_at <= at <= ended_at + SETTLED_WITHIN_SECONDS for at in strikes)


def _end(task: Stored, runs: _Runs, history: History) -> Iterator[str]:
    """At most one end was accepted: that of the last claim, and the result is of that very run."""
    if len(task.final_events) > 1:
        yield f"{task.task_id}: ended more than once: {', '.join(task.final_events)}"
    if any(event.lower() != task.status for event in task.final_events):
        yield f"{task.task_id}: {task.status}, but its history says {', '.join(task.final_events)}"
    if task.status != "completed":
        return
    accepted = [run for run in runs[task.task_id] if run.claim == task.claim_count]
    if not accepted or accepted[0].ended != "ok":
        yield f"{task.task_id}: completed, but claim {task.claim_count} did not return"
    elif task.result != (task.claim_count, _value_of(accepted[0])):
        yield f"{task.task_id}: the result {task.result} is not that of {accepted[0]}"


def _value_of(run: Run) -> list[object]:
    """What the tasks of the storm return."""
    return [run.task_id, run.claim, run.pid]


def _failure(task: Stored, runs: _Runs, history: History) -> Iterator[str]:
    """A task failed because its last run did, or because it was left without a word too often."""
    if task.status != "failed":
        return
    if "poisoned" in task.error:
        if task.claim_count <= POISONED_AFTER:
            yield f"{task.task_id}: poisoned after {task.claim_count} claims"
    elif not any(run.ended == "failed" for run in runs[task.task_id]):
        yield f"{task.task_id}: failed, but no run did"


def _order(task: Stored, runs: _Runs, history: History) -> Iterator[str]:
    """A child runs after its parents; not at all if one did not complete."""
    for parent_id in task.parents:
        parent = history.stored.get(parent_id)
        if parent is None or parent.status != "completed":
            if runs[task.task_id] or task.status != "cancelled":
                yield f"{task.task_id}: {task.status}, but parent {parent_id} did not complete"
            continue
        ends = [run.ended_at for run in runs[parent_id] if run.claim == parent.claim_count]
        for run in runs[task.task_id]:
            if any(end is None or run.started_at < end for end in ends):
                yield f"{task.task_id}: ran before its parent {parent_id} had ended"
