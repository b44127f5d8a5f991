"""Tasks as messages: a line with the state, then the request as it was encoded at the insert."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from datetime import datetime
from typing import NamedTuple

import msgspec

from omniq.clock import from_micros, to_micros
from omniq.exceptions import SchemaError, SerializationError
from omniq.models.task import DAMAGED, STATE_FIELDS, Task, TaskStatus
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.nats.answers import Stored
from omniq.storage.nats.places import Place, Places


class Head(msgspec.Struct, array_like=True, gc=False):
    """The state of a task and what claims and dependants need to know. Moments are microseconds.

    Attributes:
        priority, created_at, func, run_at: of the request.
        releases: whether it runs although a parent did not complete.
        parents: those of `depends_on` that were not final when last heard of.
        nonce: which write made it so, so that a repeated one recognises its own work.
        version: how often it was changed. The server moves a message on as it was: of two messages
            of a task, the one of the higher version is the task.
    """

    priority: int
    created_at: int
    func: str
    run_at: int | None
    releases: bool
    status: str = "pending"
    attempt: int = 0
    claim_count: int = 0
    lease_token: str | None = None
    due_at: int | None = None
    lost_leases: int = 0
    worker_id: str | None = None
    cancel_requested: bool = False
    waiting_for: int = 0
    progress: float | None = None
    error: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    expires_at: int | None = None
    nonce: str = ""
    version: int = 0
    parents: tuple[str, ...] = ()


class Record(NamedTuple):
    """A stored task: where it stands, its revision, its state and its encoded request."""

    place: Place
    sequence: int
    head: Head
    request: bytes

    @property
    def due_at(self) -> datetime | None:
        """The moment a scheduled or running task waits for."""
        return None if self.head.due_at is None else from_micros(self.head.due_at)

    @property
    def age(self) -> tuple[int, int]:
        """Orders the messages of a task: the last is the task."""
        return self.head.version, self.sequence

    def is_held_as(self, claim_count: int, lease_token: str | None, status: TaskStatus) -> bool:
        """Whether the fence is this."""
        head = self.head
        return (
            head.claim_count == claim_count
            and head.lease_token == lease_token
            and head.status == status.value
        )


_BLANK = Task(func="none")
_BLANK_STATE = {name: getattr(_BLANK, name) for name in STATE_FIELDS}
_write_head = msgspec.json.Encoder().encode
_read_head = msgspec.json.Decoder(Head).decode


class TaskCodec:
    """Between tasks, heads and messages."""

    def __init__(self, places: Places, format: SerializationFormat = "json") -> None:  # noqa: A002 - as in RecordCodec
        self._places = places
        self._codec = RecordCodec(Task, ("args", "kwargs", "metadata"), format=format)

    def request(self, task: Task) -> bytes:
        """Encode what never changes of a task.

        Raises:
            SerializationError: an argument cannot be stored.
        """
        return self._codec.encode(msgspec.structs.replace(task, **_BLANK_STATE))

    def record(self, stored: Stored) -> Record:
        """Read a message."""
        line, _, request = stored.data.partition(b"\n")
        try:
            head = _read_head(line)
        except msgspec.MsgspecError as error:
            raise SchemaError(
                f"the message on {stored.subject} is no task of this version: {error}"
            ) from error
        return Record(self._places.read(stored.subject), stored.sequence, head, request)

    def task(self, record: Record) -> Task:
        """Return the task of a record; a damaged request becomes a task that says so."""
        place, _, head, request = record
        try:
            task: Task = self._codec.decode(request)
        except SerializationError as error:
            task = Task(func=head.func, metadata={DAMAGED: error.problem})
            task.id, task.queue_name = place.task_id, place.queue
        return set_state(task, head)


def data_of(head: Head, request: bytes) -> bytes:
    """Return the content of a task's message."""
    return _write_head(head) + b"\n" + request


def head_of(task: Task, parents: Iterable[str]) -> Head:
    """Return the head of a new task that waits for these parents."""
    head = Head(
        priority=task.priority,
        created_at=to_micros(task.created_at),
        func=task.func,
        run_at=_micros(task.run_at),
        releases=task.on_parent_failure == "release",
        parents=tuple(parents),
    )
    return _with_state(head, task)


def head_after(head: Head, task: Task) -> Head:
    """Return a head with the state of `task`."""
    after = copy(head)
    after.version += 1
    return _with_state(after, task)


def bare_task(record: Record) -> Task:
    """Return a task with the state of a record and, of its request, what decides about it."""
    place, _, head, _ = record
    task = Task(
        func=head.func,
        id=place.task_id,
        queue_name=place.queue,
        run_at=_moment(head.run_at),
        on_parent_failure="release" if head.releases else "cancel",
    )
    return set_state(task, head)


def set_state(task: Task, head: Head) -> Task:
    """Give a task the state in a head; return it."""
    task.status = TaskStatus(head.status)
    task.attempt = head.attempt
    task.claim_count = head.claim_count
    task.lease_token = head.lease_token
    task.due_at = _moment(head.due_at)
    task.lost_leases = head.lost_leases
    task.worker_id = head.worker_id
    task.cancel_requested = head.cancel_requested
    task.waiting_for = head.waiting_for
    task.progress = head.progress
    task.error = head.error
    task.started_at = _moment(head.started_at)
    task.finished_at = _moment(head.finished_at)
    task.expires_at = _moment(head.expires_at)
    return task


def _with_state(head: Head, task: Task) -> Head:
    head.status = task.status.value
    head.attempt = task.attempt
    head.claim_count = task.claim_count
    head.lease_token = task.lease_token
    head.due_at = _micros(task.due_at)
    head.lost_leases = task.lost_leases
    head.worker_id = task.worker_id
    head.cancel_requested = task.cancel_requested
    head.waiting_for = task.waiting_for
    head.progress = task.progress
    head.error = task.error
    head.started_at = _micros(task.started_at)
    head.finished_at = _micros(task.finished_at)
    head.expires_at = _micros(task.expires_at)
    return head


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
