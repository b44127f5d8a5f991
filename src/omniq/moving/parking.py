"""The forms a task takes on its way from one store to another (pure).

A claimable task moves in four steps, each of them atomic by itself:

1. the target gets a *parked* copy: out of reach of every claim;
2. the source swaps the task, as it was read, for a *stub*: final, so never claimable again;
3. the target swaps the parked copy for the task as the stub remembers it.

Before the second step the task can run in the source alone, after the third in the target alone,
and in between nowhere: whoever goes on with the move finds the stub and does the third. A worker
that claimed the task in the meantime wins the second step, and the parked copy waits.

A WAITING task cannot be parked, as what a task waits for never changes: it is made a stub first
and stored in the target then. It could not run in between anyway.

Parked copies, stubs and tokens have a `claim_count` no run can have, so that no change meant for
the task itself ever matches them.
"""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime

from omniq.clock import utcnow
from omniq.models.task import Task, TaskStatus

MOVE = "omniq.move"
"""Id and queue of the marker, function of tokens, worker of stubs."""
FAR = datetime(2899, 1, 1, tzinfo=UTC)
OUT_OF_REACH = 1 << 30


def is_mark(task: Task) -> bool:
    """Whether this is a parked copy, a stub or a token rather than a task of its own."""
    return task.claim_count >= OUT_OF_REACH


def is_token(task: Task) -> bool:
    """Whether this only reserves an id and a unique key; see `token`."""
    return task.func == MOVE


def is_open(task: Task) -> bool:
    """Whether this is a stub of a waiting task that is not stored in the target yet."""
    return is_mark(task) and task.is_final and task.waiting_for > 0


def parked(task: Task) -> Task:
    """Return the copy that waits in the target until the source has let go of the task."""
    after = copy(task)
    after.claim_count += OUT_OF_REACH
    after.status, after.due_at = TaskStatus.SCHEDULED, FAR
    after.lease_token = after.worker_id = None
    after.depends_on = ()
    return after


def stub(task: Task, now: datetime) -> Task:
    """Return what is left of a moved task in the source: it remembers how the task stood.

    Of a task that waits it keeps `waiting_for`, until that is stored in the target.
    """
    after = copy(task)
    after.claim_count += OUT_OF_REACH
    after.lost_leases += task.status is TaskStatus.RUNNING
    after.due_at = task.due_at if task.status is TaskStatus.SCHEDULED else None
    after.status = TaskStatus.CANCELLED
    after.lease_token, after.worker_id, after.finished_at = None, MOVE, now
    return after


def restored(left: Task) -> Task:
    """Return the task that a stub remembers, as it goes on in the target."""
    after = copy(left)
    after.claim_count -= OUT_OF_REACH
    after.status = TaskStatus.PENDING if left.due_at is None else TaskStatus.SCHEDULED
    after.worker_id = after.finished_at = None
    after.waiting_for = 0
    return after


def waiting_again(left: Task) -> Task:
    """Return the waiting task that an open stub stands for."""
    after = restored(left)
    after.status, after.waiting_for = TaskStatus.WAITING, left.waiting_for
    return after


def closed(left: Task) -> Task:
    """Return a stub whose task is stored in the target, or a token no longer needed."""
    after = copy(left)
    after.status, after.due_at = TaskStatus.CANCELLED, left.due_at if left.is_final else None
    after.waiting_for = 0
    after.finished_at = left.finished_at or utcnow()
    return after


def token(task: Task) -> Task:
    """Return what holds the id and the key of a new task in the source, out of reach of claims.

    The source decides who has an id or a key as long as it is in use.
    """
    return Task(
        func=MOVE,
        id=task.id,
        queue_name=task.queue_name,
        unique_key=None if task.is_final else task.unique_key,
        status=TaskStatus.SCHEDULED,
        due_at=FAR,
        claim_count=OUT_OF_REACH,
    )
