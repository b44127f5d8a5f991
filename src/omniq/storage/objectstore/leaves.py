"""What the tree shows of the items of a log: where each one lies, and as which text."""

from __future__ import annotations

import re
from typing import Protocol, TypeVar

from omniq.exceptions import OmniQError, SerializationError
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.models.task import DAMAGED, STATE_FIELDS, Task, TaskStatus
from omniq.storage.file.codec import FileCodec
from omniq.storage.file.ops import SUFFIX
from omniq.storage.file.records import stem_of, text_of
from omniq.storage.memory.table import whole
from omniq.storage.objectstore.schedulestate import Entry
from omniq.storage.objectstore.taskstate import Row

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_END = re.escape(SUFFIX)
_TASK_PLACE = re.compile(
    rf"{_NAME}/(?:{'|'.join(TaskStatus)})/\d{{7}}-\d{{17}}-{_NAME}{_END}"
).fullmatch
_SCHEDULE_PLACE = re.compile(rf"(?:{'|'.join(ScheduleStatus)})/{_NAME}{_END}").fullmatch
_SHOWN_FIELDS = tuple(name for name in STATE_FIELDS if name != "due_at")

I_contra = TypeVar("I_contra", contravariant=True)


class Leaves(Protocol[I_contra]):
    """How items are shown. Nothing here fails: what cannot be read is shown as that, or not."""

    def place(self, item: I_contra, /) -> str | None:
        """Return the key of an item below the folder of its component; None: it is not shown."""
        ...

    def is_place(self, place: str, /) -> bool:
        """Whether this is the place of some item, and nobody else's."""
        ...

    def text(self, item: I_contra, /) -> bytes:
        """Return what is in its object."""
        ...

    def is_alike(self, before: I_contra, after: I_contra, /) -> bool:
        """Whether the difference is not worth a request."""
        ...


class TaskLeaves:
    """Tasks as local files are named and filled: names sort in the order of claims."""

    def __init__(self, codec: FileCodec) -> None:
        self._codec = codec

    def place(self, row: Row, /) -> str:
        """Return ``<queue>/<status>/<priority>-<created>-<id>.json``."""
        task = row[0]
        return f"{task.queue_name}/{task.status.value}/{stem_of(task)}{SUFFIX}"

    def is_place(self, place: str, /) -> bool:
        """Whether it is of that form."""
        return _TASK_PLACE(place) is not None

    def text(self, row: Row, /) -> bytes:
        """Return state and request, a line each."""
        task = readable(*row, self._codec)
        try:
            return text_of(task, self._codec)
        except OmniQError as error:  # another process encodes what this one cannot
            task.args, task.kwargs, task.metadata = (), {}, {DAMAGED: str(error)}
            return text_of(task, self._codec)

    def is_alike(self, before: Row, after: Row, /) -> bool:
        """Whether nothing but the end of the lease of a running task has moved."""
        was, is_ = before[0], after[0]
        return was.status is is_.status is TaskStatus.RUNNING and all(
            getattr(was, name) == getattr(is_, name) for name in _SHOWN_FIELDS
        )


class ScheduleLeaves:
    """Schedules as local files are named and filled."""

    def __init__(self, codec: FileCodec) -> None:
        self._codec = codec

    def place(self, entry: Entry, /) -> str | None:
        """Return ``<status>/<id>.json``; None if the schedule cannot be read."""
        schedule_id, text = entry
        try:
            schedule: Schedule = self._codec.decode(text)
        except SerializationError:
            return None
        return f"{schedule.status.value}/{schedule_id}{SUFFIX}"

    def is_place(self, place: str, /) -> bool:
        """Whether it is of that form."""
        return _SCHEDULE_PLACE(place) is not None

    def text(self, entry: Entry, /) -> bytes:
        """Return the text it is stored as."""
        return entry[1]

    def is_alike(self, before: Entry, after: Entry, /) -> bool:
        """Whether nothing has changed."""
        return before == after


def readable(bare: Task, data: bytes | None, codec: FileCodec) -> Task:
    """Return a whole task; one whose arguments are damaged says so when it runs."""
    try:
        return whole(bare, data, codec)
    except SerializationError as error:
        task = whole(bare, None, codec)
        task.metadata = {DAMAGED: error.problem}
        return task
