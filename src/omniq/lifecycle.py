"""Every state change of a task, as pure functions: Task in, Task out; no clock, no I/O.

Workers decide with these, stores only write what they return. The states:

    WAITING ──parents done──► PENDING ◄──due── SCHEDULED ◄──retry, snooze──┐
                                 └──claim──► RUNNING ──────────────────────┤
                                                                           └──► COMPLETED FAILED
                                                                                CANCELLED EXPIRED
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from omniq.models.checks import storable_text
from omniq.models.result import ErrorInfo
from omniq.models.task import DAMAGED, Task, TaskStatus, copied, exception_name
from omniq.retry import NO_RETRY, allows_retry, delay_before_retry, names_of

CRASH_LIMIT = 3
"""A task whose lease was lost this often without a word fails as poisoned."""
ERROR_TEXT_LIMIT = 2_000
TRACEBACK_LIMIT = 64 << 10
EDITED_LEASE_SECONDS = 60.0
PARKING_SECONDS = (1.0, 60.0)
"""First and longest wait of a task that no present worker can run."""
UNKNOWN_TASK = "no task "
UNKNOWN_CLASS = "no class is registered here as "
"""How the reasons begin for which tasks are parked."""
POISONED = "omniq.PoisonedTask"
DAMAGED_TASK = "omniq.DamagedTask"
"""The error types of tasks given up before they ran."""


class Completed(msgspec.Struct, frozen=True):
    """The function returned `value`."""

    value: object = None


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed; `exception_names` decide with the retry policy whether another follows.

    `final` fails the task whatever the policy says; `delay_seconds` overrides the policy's delay.
    """

    error: ErrorInfo
    exception_names: tuple[str, ...] = ()
    final: bool = False
    delay_seconds: float | None = None


class Held(Protocol):
    """What a change of a RUNNING task must keep of it."""

    due_at: datetime | None
    cancel_requested: bool


class Snoozed(msgspec.Struct, frozen=True):
    """Run again after `delay_seconds`; the attempt is given back."""

    delay_seconds: float
    reason: str = "snoozed"


class Released(msgspec.Struct, frozen=True):
    """Given back unfinished (the worker stops): claimable at once, the attempt is given back."""

    reason: str = "released"


class Parked(msgspec.Struct, frozen=True):
    """No present worker can run it: it comes back later and later, its reason visible."""

    reason: str


class Cancelled(msgspec.Struct, frozen=True):
    """Stopped for good on request."""

    reason: str = "cancelled"


class Expired(msgspec.Struct, frozen=True):
    """Its `expires_at` passed before it could start."""

    reason: str = "expired before it could run"


Outcome = Completed | Failed | Snoozed | Released | Parked | Cancelled | Expired


def settle(task: Task, outcome: Outcome, now: datetime) -> Task:
    """Return the running `task` as the end of its run leaves it."""
    match outcome:
        case Completed():
            after = _ended(task, TaskStatus.COMPLETED, now)
            after.error = None
            return after
        case Failed():
            return _failed(task, outcome, now)
        case Snoozed():
            return _postponed(task, now, outcome.delay_seconds, outcome.reason)
        case Released():
            after = _left(task)
            after.status, after.due_at = TaskStatus.PENDING, None
            after.attempt = task.attempt - 1
            return after
        case Parked():
            return _postponed(task, now, _parking_delay(task), outcome.reason)
        case Cancelled():
            return _ended(task, TaskStatus.CANCELLED, now, outcome.reason)
        case Expired():
            return _ended(task, TaskStatus.EXPIRED, now, outcome.reason)


def failure(error: BaseException | str, *, final: bool = False) -> Failed:
    """Return the `Failed` outcome of an exception, or of a text that says what went wrong."""
    if isinstance(error, str):
        return Failed(ErrorInfo("omniq.TaskError", error), final=final)
    return Failed(error_info(error), names_of(error), final=final)


def error_info(error: BaseException) -> ErrorInfo:
    """Return an exception as text, with its traceback shortened to its last 64 KiB."""
    trace = _trace_of(error)[-TRACEBACK_LIMIT:]
    message = clean_text(said(error), TRACEBACK_LIMIT)
    return ErrorInfo(exception_name(type(error)), message, clean_text(trace, TRACEBACK_LIMIT))


def _trace_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as second:  # noqa: BLE001 - as in `said`
        return f"<no traceback: showing it raised {type(second).__name__}>"


def said(thing: object) -> str:
    """Return as text what a user's exception says, or what was given as a reason."""
    try:
        return str(thing)
    except Exception as second:  # noqa: BLE001 - a thing of the user's that cannot say what it is
        return f"<no message: its __str__ raised {type(second).__name__}>"


def clean_text(text: str, limit: int = ERROR_TEXT_LIMIT) -> str:
    """Return a text every store can hold, of bounded length."""
    return storable_text(text[:limit])


def verdict_on_claim(task: Task, now: datetime) -> Outcome | None:
    """Return how a just claimed task ends without running, or None when it should run."""
    if task.cancel_requested:
        return Cancelled("cancelled before it ran again")
    if DAMAGED in task.metadata:
        problem = f"the stored request cannot be read: {task.metadata[DAMAGED]}"
        return Failed(ErrorInfo(DAMAGED_TASK, problem), final=True)
    if task.lost_leases >= CRASH_LIMIT:
        reason = f"poisoned: {task.lost_leases} workers died or hung while running it"
        return Failed(ErrorInfo(POISONED, reason), final=True)
    if task.expires_at is not None and task.expires_at <= now:
        return Expired()
    return None


def is_parked(task: Task) -> bool:
    """Whether the last worker that claimed the task could not run it, and no other came since."""
    reason = task.error or ""
    return task.status is TaskStatus.SCHEDULED and reason.startswith((UNKNOWN_TASK, UNKNOWN_CLASS))


def admit(task: Task, parents: Mapping[str, TaskStatus], now: datetime) -> Task:
    """Return a new task in the state it is stored in, given its parents' states.

    A task that is final already (a migrated one) keeps its state and times. A parent missing from
    `parents` counts as one that did not complete.
    """
    after = copied(task)
    if task.is_final:
        after.lease_token, after.due_at = None, None
        after.finished_at = task.finished_at or now
        return after
    after.lease_token, after.worker_id, after.finished_at = None, None, None
    after.waiting_for = 0
    for parent_id in dict.fromkeys(task.depends_on):
        status = parents.get(parent_id, TaskStatus.CANCELLED)
        if not status.is_final:
            after.waiting_for += 1
        elif status is not TaskStatus.COMPLETED and task.on_parent_failure == "cancel":
            return _ended(after, TaskStatus.CANCELLED, now, _parent_reason(parent_id, status))
    return _waiting(after) if after.waiting_for else _ready(after, now)


def parent_finished(child: Task, parent_id: str, parent: TaskStatus, now: datetime) -> Task:
    """Return a WAITING child after one of its parents became final."""
    if parent is not TaskStatus.COMPLETED and child.on_parent_failure == "cancel":
        return _ended(child, TaskStatus.CANCELLED, now, _parent_reason(parent_id, parent))
    after = copied(child)
    after.waiting_for = max(0, child.waiting_for - 1)
    return after if after.waiting_for else _ready(after, now)


def promote(task: Task) -> Task:
    """Return a SCHEDULED task whose `due_at` has come as PENDING."""
    after = copied(task)
    after.status, after.due_at = TaskStatus.PENDING, None
    return after


def claim(
    task: Task, *, worker_id: str, lease_token: str, lease_ends_at: datetime, now: datetime
) -> Task:
    """Return a claimable task as RUNNING under a fresh lease.

    A task that was RUNNING already is one whose lease ran out: its holder was lost.
    """
    after = copied(task)
    after.lost_leases += task.status is TaskStatus.RUNNING
    after.status = TaskStatus.RUNNING
    after.attempt += 1
    after.claim_count += 1
    after.lease_token = lease_token
    after.worker_id = worker_id
    after.due_at = lease_ends_at
    after.started_at = now
    after.progress = None
    return after


def request_cancel(task: Task, now: datetime, reason: str = "cancelled on request") -> Task:
    """Return the task cancelled, or, when it runs, with the request its worker will see.

    A final task is returned as it is.
    """
    if task.is_final:
        return task
    if task.status is not TaskStatus.RUNNING:
        return _ended(task, TaskStatus.CANCELLED, now, reason)
    after = copied(task)
    after.cancel_requested = True
    return after


def requeue(task: Task, now: datetime) -> Task:
    """Return a final task made PENDING again with a fresh retry and crash budget."""
    after = _left(task)
    after.status, after.due_at = TaskStatus.PENDING, None
    after.attempt = after.lost_leases = 0
    after.cancel_requested = False
    after.started_at = after.finished_at = after.progress = None
    after.expires_at = None if after.expires_at and after.expires_at <= now else after.expires_at
    return after


def edited(stored: Task, wanted: Task, now: datetime) -> Task:
    """Return a state set by hand with what its status implies: leases, moments, holders.

    A task set to RUNNING by hand gets no lease token and a lease of 60 seconds, so that it does
    not stay RUNNING for ever.
    """
    if wanted.is_final:
        return _ended(wanted, wanted.status, wanted.finished_at or now, wanted.error)
    after = copied(wanted)
    after.finished_at = None
    if wanted.status is TaskStatus.RUNNING:
        after.due_at = stored.due_at or now + timedelta(seconds=EDITED_LEASE_SECONDS)
        after.started_at = wanted.started_at or now
        return after
    after.lease_token = after.worker_id = None
    waits = wanted.status is TaskStatus.WAITING and wanted.waiting_for > 0
    return _waiting(after) if waits else _ready(after, now)


def merge_running(stored: Held, after: Task) -> Task:
    """Return `after` as a store must write it over the RUNNING `stored`, a task or its state.

    A change that stays RUNNING never moves the lease, and a cancel request, once made, holds until
    the task is final.
    """
    merged = copied(after)
    if after.status is TaskStatus.RUNNING:
        merged.due_at = stored.due_at
    if not after.is_final:
        merged.cancel_requested = stored.cancel_requested or after.cancel_requested
    return merged


def _failed(task: Task, outcome: Failed, now: datetime) -> Task:
    policy = task.retry or NO_RETRY
    text = str(outcome.error)
    if outcome.final or not allows_retry(policy, task.attempt, outcome.exception_names):
        return _ended(task, TaskStatus.FAILED, now, text)
    delay = outcome.delay_seconds
    if delay is None:
        delay = delay_before_retry(policy, task.attempt)
    return _scheduled(_left(task), now, delay, text)


def _postponed(task: Task, now: datetime, delay: float, reason: str) -> Task:
    after = _scheduled(_left(task), now, delay, reason)
    after.attempt = task.attempt - 1
    return after


def _parking_delay(task: Task) -> float:
    first, longest = PARKING_SECONDS
    return float(min(first * 2 ** min(task.claim_count - 1, 16), longest))


def _scheduled(after: Task, now: datetime, delay: float, reason: str) -> Task:
    after.status = TaskStatus.SCHEDULED
    after.due_at = now + timedelta(seconds=delay)
    after.error = clean_text(reason)
    return after


def _left(task: Task) -> Task:
    """Return a copy without its holder; lost leases count anew, as this run spoke up."""
    after = copied(task)
    after.lease_token = after.worker_id = None
    after.lost_leases = 0
    return after


def _ended(task: Task, status: TaskStatus, now: datetime, error: str | None = None) -> Task:
    after = copied(task)
    after.status = status
    after.lease_token = after.due_at = None
    after.finished_at = now
    after.waiting_for = 0
    after.error = None if error is None else clean_text(error)
    return after


def _waiting(after: Task) -> Task:
    after.status, after.due_at = TaskStatus.WAITING, None
    return after


def _ready(after: Task, now: datetime) -> Task:
    """PENDING, or SCHEDULED when its moment (kept from a migrated state or `run_at`) is ahead."""
    due_at = after.due_at if after.status is TaskStatus.SCHEDULED else None
    due_at = due_at or after.run_at
    ahead = due_at is not None and due_at > now
    after.status = TaskStatus.SCHEDULED if ahead else TaskStatus.PENDING
    after.due_at = due_at if ahead else None
    return after


def _parent_reason(parent_id: str, status: TaskStatus) -> str:
    return f"parent {parent_id} did not complete ({status.value})"
