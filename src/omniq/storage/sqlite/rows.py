"""Between records and rows: moments are whole microseconds since 1970, the rest is as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from omniq.clock import from_micros, to_micros
from omniq.exceptions import SerializationError
from omniq.models.task import DAMAGED, Task, TaskStatus
from omniq.serialization import RecordCodec, SerializationFormat

STATE_COLUMNS = (
    "status",
    "attempt",
    "claim_count",
    "lease_token",
    "due_at",
    "lost_leases",
    "worker_id",
    "cancel_requested",
    "waiting_for",
    "progress",
    "error",
    "started_at",
    "finished_at",
    "expires_at",
)
TASK_COLUMNS = (
    "seq",
    "id",
    "queue",
    "priority",
    "created_at",
    "func",
    "unique_key",
    "schedule_id",
    *STATE_COLUMNS,
)
_STATUS: dict[str, TaskStatus] = {status.value: status for status in TaskStatus}


def task_codec(format: SerializationFormat = "json") -> RecordCodec:  # noqa: A002 - as in RecordCodec
    """Return the codec of task payloads."""
    return RecordCodec(Task, ("args", "kwargs", "metadata"), format=format)


def micros(moment: datetime | None) -> int | None:
    """Return a moment as stored."""
    return None if moment is None else to_micros(moment)


def moment(stored: int | None) -> datetime | None:
    """Return a stored moment."""
    return None if stored is None else from_micros(stored)


def state_values(task: Task) -> tuple[Any, ...]:
    """Return the mutable state in the order of `STATE_COLUMNS`."""
    return (
        task.status.value,
        task.attempt,
        task.claim_count,
        task.lease_token,
        micros(task.due_at),
        task.lost_leases,
        task.worker_id,
        task.cancel_requested,
        task.waiting_for,
        task.progress,
        task.error,
        micros(task.started_at),
        micros(task.finished_at),
        micros(task.expires_at),
    )


def task_values(seq: int, task: Task) -> tuple[Any, ...]:
    """Return a whole row in the order of `TASK_COLUMNS`."""
    return (
        seq,
        task.id,
        task.queue_name,
        task.priority,
        to_micros(task.created_at),
        task.func,
        task.unique_key,
        task.schedule_id,
        *state_values(task),
    )


def set_state(task: Task, row: Sequence[Any]) -> Task:
    """Fill in the mutable state from columns in the order of `STATE_COLUMNS`; return the task."""
    task.status = _STATUS[row[0]]
    task.attempt = row[1]
    task.claim_count = row[2]
    task.lease_token = row[3]
    task.due_at = moment(row[4])
    task.lost_leases = row[5]
    task.worker_id = row[6]
    task.cancel_requested = bool(row[7])
    task.waiting_for = row[8]
    task.progress = row[9]
    task.error = row[10]
    task.started_at = moment(row[11])
    task.finished_at = moment(row[12])
    task.expires_at = moment(row[13])
    return task


def read_task(
    decode: Callable[[bytes], Any], task_id: str, queue: str, func: str, data: bytes | None
) -> Task:
    """Return the request in a payload; a damaged one becomes a task that says so when it runs."""
    try:
        task: Task = decode(data or b"")
    except SerializationError as error:
        return Task(id=task_id, queue_name=queue, func=func, metadata={DAMAGED: error.problem})
    return task
