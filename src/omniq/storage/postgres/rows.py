"""Between records and rows: a column of the table for each field that is asked for or changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from omniq.exceptions import SerializationError
from omniq.models.task import Task, TaskStatus
from omniq.serialization import RecordCodec, SerializationFormat

T = TypeVar("T")

REQUEST_COLUMNS = ("id", "queue", "priority", "created_at", "func", "unique_key", "schedule_id")
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
    "expires_at",
    "progress",
    "error",
    "started_at",
    "finished_at",
)
TASK_COLUMNS = (*REQUEST_COLUMNS, *STATE_COLUMNS)
TYPES = {
    "id": "text",
    "queue": "text",
    "priority": "int",
    "created_at": "timestamptz",
    "func": "text",
    "unique_key": "text",
    "schedule_id": "text",
    "status": "text",
    "attempt": "int",
    "claim_count": "int",
    "lease_token": "text",
    "due_at": "timestamptz",
    "lost_leases": "int",
    "worker_id": "text",
    "cancel_requested": "bool",
    "waiting_for": "int",
    "expires_at": "timestamptz",
    "progress": "float8",
    "error": "text",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
}
RESULT_TYPES = {
    "task_id": "text",
    "claim_count": "int",
    "expires_at": "timestamptz",
    "data": "bytea",
}
_STATUS: dict[str, TaskStatus] = {status.value: status for status in TaskStatus}
_WORD = {status: word for word, status in _STATUS.items()}
"""What `status.value` is, without its call in Python."""
_NUL = "\x00"
_SHOWN_NUL = "\u2400"


def batch(types: Mapping[str, str], first: int = 1) -> str:
    """Return the subquery that turns parameters, one array a column, into rows numbered by `n`.

    An array of one item stands for that item in every row, see `columns`. `first` is the number of
    the first parameter.
    """
    arrays = {name: f"${n}::{kind}[]" for n, (name, kind) in enumerate(types.items(), first)}
    fields = ", ".join(
        f"CASE WHEN cardinality({array}) = 1 THEN ({array})[1] ELSE i.{name} END AS {name}"
        for name, array in arrays.items()
    )
    return (
        f"(SELECT {fields}, i.n FROM unnest({', '.join(arrays.values())}) "  # noqa: S608 - names of ours
        f"WITH ORDINALITY AS i({', '.join(types)}, n))"
    )


def columns(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows (one at least) as columns, as `batch` takes them.

    Most columns of a batch hold one value throughout; sent once, it costs nothing to encode. At
    least one column is whole: its length is the number of rows.
    """
    whole = list(zip(*rows, strict=True))
    found: list[Sequence[Any]] = [
        column[:1] if column[0] == column[-1] and column.count(column[0]) == len(column) else column
        for column in whole
    ]
    if all(len(column) == 1 for column in found):
        found[0] = whole[0]
    return found


def waves(items: Sequence[T], key: Callable[[T], str]) -> list[list[tuple[int, T]]]:
    """Part items, each with its place, into lists in which no key comes twice.

    What comes later in the sequence for the same key comes in a later list.
    """
    found: list[list[tuple[int, T]]] = []
    seen: dict[str, int] = {}
    for place, item in enumerate(items):
        wave = seen.get(key(item), 0)
        seen[key(item)] = wave + 1
        if wave == len(found):
            found.append([])
        found[wave].append((place, item))
    return found


def stored_text(text: str | None) -> str | None:
    """Return a text as PostgreSQL can hold it: without NUL and lone surrogates."""
    if text is None or (text.isascii() and _NUL not in text):
        return text
    return text.replace(_NUL, _SHOWN_NUL).encode("utf-8", "backslashreplace").decode()


def task_codec(format: SerializationFormat = "json") -> RecordCodec:  # noqa: A002 - as in RecordCodec
    """Return the codec of task payloads."""
    return RecordCodec(Task, ("args", "kwargs", "metadata"), format=format)


def state_values(task: Task) -> tuple[Any, ...]:
    """Return the mutable state in the order of `STATE_COLUMNS`."""
    return (
        _WORD[task.status],
        task.attempt,
        task.claim_count,
        task.lease_token,
        task.due_at,
        task.lost_leases,
        task.worker_id,
        task.cancel_requested,
        task.waiting_for,
        task.expires_at,
        task.progress,
        task.error and stored_text(task.error),
        task.started_at,
        task.finished_at,
    )


def task_values(task: Task) -> tuple[Any, ...]:
    """Return a whole row in the order of `TASK_COLUMNS`."""
    return (
        task.id,
        task.queue_name,
        task.priority,
        task.created_at,
        task.func,
        task.unique_key,
        task.schedule_id,
        *state_values(task),
    )


def set_state(task: Task, row: Sequence[Any]) -> Task:
    """Fill in the mutable state from columns in the order of `STATE_COLUMNS`; return the task."""
    (
        status,
        task.attempt,
        task.claim_count,
        task.lease_token,
        task.due_at,
        task.lost_leases,
        task.worker_id,
        task.cancel_requested,
        task.waiting_for,
        task.expires_at,
        task.progress,
        task.error,
        task.started_at,
        task.finished_at,
    ) = row
    task.status = _STATUS[status]
    return task


def read_task(
    decode: Callable[[bytes], Any], task_id: str, queue: str, func: str, data: bytes | None
) -> Task:
    """Return the request in a payload; a damaged one becomes a task that says so when it runs.

    So does a missing one: a row nobody could claim would stand first in line for ever.
    """
    try:
        task: Task = decode(data or b"")
    except SerializationError as error:
        return Task(
            id=task_id, queue_name=queue, func=func, metadata={"omniq.damaged": error.problem}
        )
    return task


def whole_task(decode: Callable[[bytes], Any], row: Any) -> Task:
    """Return the task of a row: id, queue, func, payload, then `STATE_COLUMNS`."""
    return set_state(read_task(decode, row[0], row[1], row[2], row[3]), tuple(row[4:]))
