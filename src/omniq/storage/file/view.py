"""What a process remembers of all queues, kept current by the changes it observes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omniq.models.task import TaskStatus
from omniq.storage.file.cache import RecordCache
from omniq.storage.file.folders import Folders
from omniq.storage.file.lanes import Lane
from omniq.storage.file.listing import Listing
from omniq.storage.file.ops import INDEX, SUFFIX, Drop, Op, Put, TaskWrite
from omniq.storage.file.store import Batch, View

PAUSED = ".paused"
KEYS = ".keys"
CHILDREN = ".children"
_PENDING = TaskStatus.PENDING.value
_TIMED = (TaskStatus.SCHEDULED.value, TaskStatus.RUNNING.value)


class TaskView(View):
    """Lanes of the queues this process claims from, paused queues, tasks, all ids while listed."""

    def __init__(self) -> None:
        self.listing = Listing()
        self.records = RecordCache()
        self._lanes: dict[str, Lane] = {}
        self._paused: set[str] | None = None
        self._has_children: bool | None = None

    def load_lanes(self, files: Folders, queues: Iterable[str]) -> None:
        """Look at the folders of queues not looked at before. Needs no lock, but files up to date.

        A task that arrives meanwhile is observed with the next catching up.
        """
        for queue in queues:
            if self.lacks(queue):
                lane = Lane()
                lane.load(
                    (_stem(name) for name in files.names(f"{queue}/{_PENDING}") if _is_task(name)),
                    (
                        (status.st_mtime_ns // 1000, _stem(name))
                        for folder in _TIMED
                        for name, status in files.entries(f"{queue}/{folder}")
                        if _is_task(name)
                    ),
                )
                self._lanes[queue] = lane

    def lacks(self, queue: str) -> bool:
        """Whether the folders of a queue must be looked at."""
        return queue not in self._lanes

    def load_listing(self, files: Folders) -> None:
        """Look at all ids, if that was not done lately. Needs no lock, as `load_lanes`."""
        if not self.listing.is_loaded:
            self.listing.load(_stem(name) for name in files.names(INDEX) if _is_task(name))

    def lane(self, batch: Batch, queue: str) -> Lane:
        """Return the lane of a queue."""
        if self.lacks(queue):  # it was forgotten since
            batch.catch_up()
            self.load_lanes(batch.files, [queue])
        return self._lanes[queue]

    def paused(self, files: Folders) -> set[str]:
        """Return the names of the paused queues."""
        if self._paused is None:
            self._paused = {name for name in files.names(PAUSED) if not name.startswith(".")}
        return self._paused

    def has_children(self, files: Folders) -> bool:
        """Whether any task waits for another; saves a look for each task that ends."""
        if self._has_children is None:
            self._has_children = bool(files.names(CHILDREN))
        return self._has_children

    def observe(self, ops: Sequence[Op]) -> None:
        """Follow changes made."""
        for op in ops:
            match op:
                case TaskWrite():
                    self._observe_task(op)
                case Put() if op.folder == PAUSED and self._paused is not None:
                    self._paused.add(op.name)
                case Drop() if op.folder == PAUSED and self._paused is not None:
                    self._paused.discard(op.name)
                case Put() if op.folder.startswith(CHILDREN):
                    self._has_children = True
                case Drop() if op.folder.startswith(CHILDREN):
                    self._has_children = None
                case _:
                    pass

    def forget(self) -> None:
        """Look at everything anew when it is needed."""
        self.listing.forget()
        self.records.clear()
        self._lanes.clear()
        self._paused = self._has_children = None

    def _observe_task(self, op: TaskWrite) -> None:
        self.records.follow(op)
        if op.was is None:
            self.listing.add(op.task_id)
        lane = self._lanes.get(op.queue)
        if lane is None:
            return
        if op.to == _PENDING:
            lane.line_up(op.stem)
        elif op.to in _TIMED:
            lane.set_timer(op.stem, op.micros or 0)
        else:
            lane.leave(op.stem)


def _is_task(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")


def _stem(name: str) -> str:
    return name.removesuffix(SUFFIX)
