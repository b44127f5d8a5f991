"""A task as a file: one JSON object in two lines, its state and its request.

    {"state":{"status":"running","attempt":1,…}                                      ,
    "task":{"func":"mail.send","args":["ann"],"id":"018f…"}}

The first line is filled up with blanks, so that a new state is written over the old one and the
request is never touched again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from omniq.clock import to_micros
from omniq.exceptions import SerializationError
from omniq.models.checks import PRIORITY_LIMIT
from omniq.models.task import STATE_FIELDS, Task, TaskStatus
from omniq.storage.file.codec import FileCodec
from omniq.storage.file.ops import TaskWrite

ID_AT = 26
"""Where the id begins in a stem: after ``<7 digits>-<17 digits>-``."""
_ROOM = 448
_GRAIN = 256
_STATE, _TASK, _END = b'{"state":', b'"task":', b"}\n"


class State(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The mutable part of a task, and what the store must know without reading the request."""

    status: TaskStatus
    queue: str
    stem: str
    unique_key: str | None = None
    attempt: int = 0
    claim_count: int = 0
    lease_token: str | None = None
    due_at: datetime | None = None
    expires_at: datetime | None = None
    lost_leases: int = 0
    worker_id: str | None = None
    cancel_requested: bool = False
    waiting_for: int = 0
    progress: float | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(State).decode


class Stored:
    """A task as it is in its file, or will be.

    Attributes:
        task_id: its id.
        state: its state, changed by `put`.
        request: the second line of the file.
        was: the status folder it is in; None while it is in none.
        size: the length of the first line.
        is_changed: whether the file must be written.
    """

    __slots__ = ("is_changed", "request", "size", "state", "task_id", "was")

    def __init__(
        self, task_id: str, state: State, request: bytes, *, was: str | None, size: int
    ) -> None:
        self.task_id = task_id
        self.state = state
        self.request = request
        self.was = was
        self.size = size
        self.is_changed = False

    def put(self, after: Task) -> None:
        """Take the state of a task."""
        _fill(self.state, after)
        self.is_changed = True

    def bare(self) -> Task:
        """Return the task without its request, for decisions that need only the state."""
        task = Task(func="unread", id=self.task_id, queue_name=self.state.queue)
        _fill(task, self.state)
        return task

    def whole(self, codec: FileCodec) -> Task:
        """Return the task; one whose request is damaged says so when it runs."""
        try:
            task: Task = codec.decode(self.request[len(_TASK) : -len(_END)])
        except SerializationError as error:
            task = Task(
                func="damaged",
                id=self.task_id,
                queue_name=self.state.queue,
                metadata={"omniq.damaged": error.problem},
            )
        _fill(task, self.state)
        return task

    def write(self) -> TaskWrite:
        """Return the change that brings the file up to date."""
        state = self.state
        head = _STATE + _ENCODE(state)
        grows = len(head) + 2 > self.size
        if grows:
            self.size = _room(head)
        moment = state.finished_at or state.due_at
        return TaskWrite(
            task_id=self.task_id,
            queue=state.queue,
            stem=state.stem,
            was=self.was,
            to=state.status.value,
            head=head,
            size=self.size,
            payload=self.request if grows or self.was is None else None,
            micros=None if moment is None else to_micros(moment),
        )

    def written(self) -> None:
        """Take note that the file is up to date."""
        self.was = self.state.status.value
        self.is_changed = False

    def removal(self) -> TaskWrite:
        """Return the change that deletes the file."""
        state = self.state
        return TaskWrite(
            task_id=self.task_id, queue=state.queue, stem=state.stem, was=self.was, to=None
        )


def stem_of(task: Task) -> str:
    """Return the name of a task's file: names sort in the order in which tasks are claimed."""
    place = PRIORITY_LIMIT - task.priority
    return f"{place:07d}-{to_micros(task.created_at):017d}-{task.id}"


def new_record(task: Task, codec: FileCodec) -> Stored:
    """Return a task that is in no file yet."""
    state = State(
        status=task.status, queue=task.queue_name, stem=stem_of(task), unique_key=task.unique_key
    )
    request = _TASK + codec.encode(_request(task)) + _END
    stored = Stored(task.id, state, request, was=None, size=0)
    stored.put(task)
    return stored


def text_of(task: Task, codec: FileCodec) -> bytes:
    """Return the text of a file of this task, its state not filled up.

    Raises:
        SerializationError, ValidationError: its arguments cannot be encoded.
    """
    stored = new_record(task, codec)
    return _STATE + _ENCODE(stored.state) + b",\n" + stored.request


def read_record(task_id: str, text: bytes) -> Stored:
    """Return the task in the text of a file.

    Raises:
        SerializationError: the text is no task, or another one.
    """
    line, found, request = text.partition(b"\n")
    try:
        if not (found and line.startswith(_STATE) and line.endswith(b",")):
            raise ValueError("no state in its first line")
        if not (request.startswith(_TASK) and request.endswith(_END)):
            raise ValueError("no request in its second line")
        state = _DECODE(line[len(_STATE) : -1])
        if state.stem[ID_AT:] != task_id:
            raise ValueError(f"it is of task {state.stem[ID_AT:]!r}")
    except (ValueError, msgspec.MsgspecError) as error:
        raise SerializationError("task", f"the file of {task_id} is damaged: {error}") from error
    return Stored(task_id, state, request, was=state.status.value, size=len(line) + 1)


def state_in(head: bytes) -> State:
    """Return the state in a first line as `Stored.write` makes it."""
    return _DECODE(head[len(_STATE) :])


def _request(task: Task) -> Task:
    """Return the task with the state of a new one, which takes no room in the text."""
    return msgspec.structs.replace(task, **_NEW_STATE)


def _fill(target: Task | State, source: Task | State) -> None:
    """Give one the state of the other: `STATE_FIELDS`, spelt out: a loop takes thrice as long."""
    target.status = source.status
    target.attempt = source.attempt
    target.claim_count = source.claim_count
    target.lease_token = source.lease_token
    target.due_at = source.due_at
    target.lost_leases = source.lost_leases
    target.worker_id = source.worker_id
    target.cancel_requested = source.cancel_requested
    target.waiting_for = source.waiting_for
    target.progress = source.progress
    target.error = source.error
    target.started_at = source.started_at
    target.finished_at = source.finished_at
    target.expires_at = source.expires_at


def _room(head: bytes) -> int:
    return (len(head) + _ROOM + _GRAIN) // _GRAIN * _GRAIN


_NEW_STATE: dict[str, Any] = {name: getattr(Task(func="new"), name) for name in STATE_FIELDS}
