"""Tasks as the scripts keep them: a record (state and a few parts of the request) and a payload."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from omniq.clock import from_micros, to_micros
from omniq.exceptions import SchemaError, SerializationError
from omniq.models.checks import PRIORITY_LIMIT
from omniq.models.task import Task, TaskStatus
from omniq.serialization import RecordCodec

State = tuple[Any, ...]
"""Status, attempt, claim_count, token, due_at, lost_leases, worker, cancel_requested, waiting_for,
progress, error, started_at, finished_at, expires_at: see the head of ``lua/tasks.lua``."""
_NEVER = -1
_STATUS: dict[str, TaskStatus] = {status.value: status for status in TaskStatus}


class Record(msgspec.Struct, array_like=True, gc=False):
    """The array of ``lua/tasks.lua``."""

    status: str
    attempt: int
    claim_count: int
    lease_token: str
    due_at: int
    lost_leases: int
    worker_id: str
    cancel_requested: int
    waiting_for: int
    progress: float | bool
    error: str | bool
    started_at: int
    finished_at: int
    expires_at: int
    place: str
    queue: str
    func: str


_read_record = msgspec.msgpack.Decoder(Record).decode


def state_of(task: Task) -> State:
    """Return the mutable state of a task."""
    return (
        task.status.value,
        task.attempt,
        task.claim_count,
        task.lease_token or "",
        _stored(task.due_at),
        task.lost_leases,
        task.worker_id or "",
        int(task.cancel_requested),
        task.waiting_for,
        False if task.progress is None else task.progress,
        _text(task.error),
        _stored(task.started_at),
        _stored(task.finished_at),
        _stored(task.expires_at),
    )


def item_of(task: Task) -> tuple[str, State, tuple[str, ...]]:
    """Return what an insert is told of a task: its id, its record, its parents."""
    place = f"{PRIORITY_LIMIT - task.priority:06x}{to_micros(task.created_at):014x}"
    request = (
        place,
        task.queue_name,
        task.func,
        task.unique_key or "",
        task.schedule_id or "",
        int(task.on_parent_failure == "release"),
        _stored(task.run_at),
    )
    return task.id, state_of(task) + request + _NOTES, task.depends_on


_NOTES = ("", "", False, False, False)
"""Unfinished parents, name of the last write, whether a task or a caller waits for it,
and whether its lease lapsed."""


def read_tasks(codec: RecordCodec, rows: Sequence[bytes]) -> list[Task]:
    """Return the tasks of an answer that holds id, record and payload of each."""
    return [read_task(codec, rows[n], rows[n + 1], rows[n + 2]) for n in range(0, len(rows), 3)]


def read_task(codec: RecordCodec, task_id: bytes, stored: bytes, payload: bytes | None) -> Task:
    """Return one task; a damaged payload becomes a task that says so when it runs.

    Raises:
        SchemaError: its record is none of this version.
    """
    try:
        record = _read_record(stored)
    except msgspec.MsgspecError as error:
        raise SchemaError(
            f"the record of task {task_id.decode()} cannot be read: {error}"
        ) from error
    try:
        task: Task = codec.decode(payload or b"")
    except SerializationError as error:
        damage = {"omniq.damaged": error.problem}
        name = task_id.decode()
        task = Task(id=name, queue_name=record.queue, func=record.func, metadata=damage)
    return _with_state(task, record)


def _with_state(task: Task, record: Record) -> Task:
    task.status = _STATUS[record.status]
    task.attempt = record.attempt
    task.claim_count = record.claim_count
    task.lease_token = record.lease_token or None
    task.due_at = _moment(record.due_at)
    task.lost_leases = record.lost_leases
    task.worker_id = record.worker_id or None
    task.cancel_requested = record.cancel_requested == 1
    task.waiting_for = record.waiting_for
    task.progress = None if record.progress is False else float(record.progress)
    task.error = None if record.error is False else cast("str", record.error)
    task.started_at = _moment(record.started_at)
    task.finished_at = _moment(record.finished_at)
    task.expires_at = _moment(record.expires_at)
    return task


def _stored(moment: datetime | None) -> int:
    return _NEVER if moment is None else to_micros(moment)


def _moment(stored: int) -> datetime | None:
    return None if stored == _NEVER else from_micros(stored)


def _text(text: str | None) -> str | bool:
    """Return a text as MessagePack takes it: lone surrogates (of a file name) become ``?``."""
    if text is None:
        return False
    return text if text.isascii() else text.encode(errors="replace").decode()
