"""The tasks one job reads and changes: each change is seen by what follows in the same job."""

from __future__ import annotations

import errno
import hashlib
import logging

from omniq.exceptions import SerializationError
from omniq.models.task import Task, TaskStatus
from omniq.storage.file.codec import FileCodec
from omniq.storage.file.ops import ASIDE, INDEX, SUFFIX, Drop, Move, Put
from omniq.storage.file.records import Stored, new_record, read_record
from omniq.storage.file.store import Batch
from omniq.storage.file.view import CHILDREN, KEYS, TaskView

logger = logging.getLogger("omniq.storage.file")

_WAKES = (TaskStatus.PENDING, TaskStatus.SCHEDULED)


class Unit:
    """A unit of work over a `Batch`; `finish` turns what was changed into its operations."""

    def __init__(self, batch: Batch, codec: FileCodec, view: TaskView) -> None:
        self.batch = batch
        self._codec = codec
        self._view = view
        self._records = view.records
        self._tasks: dict[str, Stored | None] = {}
        self._keys: dict[str, str | None] = {}

    def get(self, task_id: str) -> Stored | None:
        """Return a task, or None. A damaged file is set aside and counts as none."""
        if task_id in self._tasks:
            return self._tasks[task_id]
        stored = self._tasks[task_id] = self._records.take(task_id) or self._read(task_id)
        return stored

    def whole(self, stored: Stored) -> Task:
        """Return a task with its request."""
        return stored.whole(self._codec)

    def add(self, task: Task) -> None:
        """Store a new task."""
        self._tasks[task.id] = stored = new_record(task, self._codec)
        self._note(stored)

    def put(self, stored: Stored, after: Task) -> None:
        """Give a task a new state."""
        stored.put(after)
        self._note(stored)

    def remove(self, stored: Stored) -> None:
        """Delete a task."""
        self.batch.ops.append(stored.removal())
        self._tasks[stored.task_id] = None

    def take_key(self, task_id: str, queue: str, key: str) -> str:
        """Let a live task hold a unique key; return the id of the one that holds it then."""
        name = _key_name(queue, key)
        holder = self._holder(name)
        if holder is None:
            self._keys[name] = holder = task_id
            self.batch.ops.append(Put(KEYS, name, task_id.encode()))
        return holder

    def free_key(self, queue: str, key: str) -> None:
        """Let nobody hold a unique key."""
        name = _key_name(queue, key)
        self._keys[name] = None
        self.batch.ops.append(Drop(KEYS, name))

    def add_child(self, parent_id: str, child_id: str) -> None:
        """Let a parent know a task that waits for it."""
        self.batch.ops.append(Put(f"{CHILDREN}/{parent_id}", child_id, b""))

    def take_children(self, parent_id: str) -> list[Stored]:
        """Return the tasks that wait for a parent, and forget that they do."""
        if not self._view.has_children(self.batch.files):
            return []
        folder = f"{CHILDREN}/{parent_id}"
        ids = sorted(name for name in self.batch.files.names(folder) if not name.startswith("."))
        self.batch.ops += [Drop(folder, child_id, prune=True) for child_id in ids]
        found = (self.get(child_id) for child_id in ids)
        return [child for child in found if child is not None]

    def finish(self) -> None:
        """Add the changes of tasks to the operations of the batch."""
        changed = (item for item in self._tasks.values() if item is not None and item.is_changed)
        self.batch.ops += [stored.write() for stored in changed]

    def remember(self) -> None:
        """Keep the tasks at hand, once all changes are made."""
        for stored in self._tasks.values():
            if stored is not None:
                stored.written()
                self._records.put(stored)

    def _read(self, task_id: str) -> Stored | None:
        try:
            self.batch.catch_up(task_id)
            text = self.batch.files.read(INDEX, task_id + SUFFIX)
            return None if text is None else read_record(task_id, text)
        except (SerializationError, OSError) as error:
            if isinstance(error, OSError) and not _is_misplaced(error):
                raise
            logger.error("set task %s aside, to %s: %s", task_id, ASIDE, error)  # noqa: TRY400 - no bug
            self.batch.ops.append(Move(INDEX, task_id + SUFFIX, ASIDE, task_id + SUFFIX))
            return None

    def _holder(self, name: str) -> str | None:
        """Return the live task that holds a key; a holder that is final or gone holds nothing."""
        if name not in self._keys:
            data = self.batch.files.read(KEYS, name)
            self._keys[name] = data.decode("ascii", "replace") if data else None
        holder = self._keys[name]
        stored = self.get(holder) if holder else None
        return holder if stored is not None and not stored.state.status.is_final else None

    def _note(self, stored: Stored) -> None:
        state = stored.state
        if state.status in _WAKES:
            self.batch.ready_queues.add(state.queue)
        elif state.status.is_final:
            self.batch.final_ids.append(stored.task_id)


def _key_name(queue: str, key: str) -> str:
    return hashlib.sha256(f"{queue}\0{key}".encode()).hexdigest()


def _is_misplaced(error: OSError) -> bool:
    """Whether a link or a folder stands where a file belongs."""
    return error.errno in (errno.EISDIR, errno.ELOOP)
