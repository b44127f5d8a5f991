"""`TaskLogState`: the tasks of a queue as the state of a log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from omniq.models.task import STATE_FIELDS, Task, TaskStatus
from omniq.storage.memory.lanes import Record
from omniq.storage.memory.table import TaskTable
from omniq.storage.objectstore.logstate import OnChange


class State(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The mutable part of a task of this id."""

    id: str
    status: TaskStatus
    attempt: int = 0
    claim_count: int = 0
    lease_token: str | None = None
    due_at: datetime | None = None
    lost_leases: int = 0
    worker_id: str | None = None
    cancel_requested: bool = False
    waiting_for: int = 0
    progress: float | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None


NO_DATA: Final = msgspec.Raw(b"null")


class Effect(msgspec.Struct, omit_defaults=True):
    """What became of one thing; of `task`, `state`, `gone` and `queue`, one is there.

    Attributes:
        task: a new task, or one in a snapshot, without its arguments.
        data: those, encoded; null if it has none.
        state: the new state of a task that is known.
        waits_on: the parents that task is still to be told about.
        gone: the id of a task that was deleted.
        queue, paused: a queue, and whether it is paused.
    """

    task: Task | None = None
    data: msgspec.Raw = NO_DATA
    state: State | None = None
    waits_on: tuple[str, ...] = ()
    gone: str | None = None
    queue: str | None = None
    paused: bool = False


Row = tuple[Task, bytes | None]
"""A task without its arguments, and those, encoded."""


class Image(NamedTuple):
    """A record as it was, and which it was."""

    record: Record
    task: Task
    waits_on: tuple[str, ...]


class _Step(NamedTuple):
    """What things were before a step first touched them."""

    images: dict[str, Image | None]
    pauses: dict[str, bool]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Effect).decode


class TaskLogState(TaskTable):
    """A `TaskTable` whose changes can be taken back, and written down as records."""

    def __init__(
        self,
        on_claimable: Callable[[str, datetime | None], None],
        on_final: Callable[[str], None],
    ) -> None:
        super().__init__(on_claimable, on_final)
        self._steps: list[_Step] = []
        self._is_tracked = False
        self.on_change: OnChange | None = None

    def set_paused(self, queue_name: str, *, paused: bool) -> None:
        """Let no task of a queue be claimed, or again."""
        lane = self.lane(queue_name)
        if self._is_tracked:
            self._steps[-1].pauses.setdefault(queue_name, lane.paused)
        lane.paused = paused
        self._on_claimable(queue_name, None)

    def begin(self) -> None:
        """Begin a step."""
        self._steps.append(_Step({}, {}))
        self._is_tracked = True

    def take_back(self) -> None:
        """Undo the last step."""
        step = self._steps.pop()
        self._is_tracked = False
        self.load(
            {
                task_id: image and Record(image.task, image.record.data, image.waits_on)
                for task_id, image in step.images.items()
            }
        )
        for name, paused in step.pauses.items():
            self.lane(name).paused = paused
            self._on_claimable(name, None)
        self._is_tracked = bool(self._steps)

    def keep(self) -> None:
        """Forget how to take the steps back."""
        if self.on_change is not None:
            for task_id, image in self._first().items():
                self._tell(task_id, _row_before(image), self.get(task_id))
        self._steps.clear()
        self._is_tracked = False

    def changes(self) -> list[bytes]:
        """Return what the steps changed together."""
        pauses: dict[str, bool] = {}
        for step in reversed(self._steps):
            pauses.update(step.pauses)
        effects = [self._effect(task_id, image) for task_id, image in self._first().items()]
        effects += [
            Effect(queue=name, paused=self.lane(name).paused)
            for name, was in pauses.items()
            if self.lane(name).paused != was
        ]
        return [_encode(effect) for effect in effects if effect is not None]

    def apply(self, records: Iterable[bytes]) -> list[bytes]:
        """Make the changes of a commit as one; return the records that make no sense."""
        odd: list[bytes] = []
        images: dict[str, Record | None] = {}
        for data in records:
            try:
                effect = _decode(data)
            except msgspec.MsgspecError:
                odd.append(data)
                continue
            if effect.queue is not None:
                self.set_paused(effect.queue, paused=effect.paused)
            elif not self._take_in(effect, images):
                odd.append(data)
        if self.on_change is not None:
            for task_id, record in images.items():
                self._tell(task_id, _row_after(self.get(task_id)), record)
        self.load(images)
        return odd

    def dump(self) -> Iterator[bytes]:
        """Yield records that make this state of an empty one."""
        for record in self.records():
            yield _encode(_full(record))
        for name in self.paused():
            yield _encode(Effect(queue=name, paused=True))

    def committed(self, task_id: str) -> Row | None:
        """Return a task as the last commit left it, whatever the steps did since."""
        for step in self._steps:
            if task_id in step.images:
                return _row_before(step.images[task_id])
        return _row_after(self.get(task_id))

    def committed_ids(self) -> Iterable[str]:
        """Return the ids of all tasks the last commit left, and maybe some that are new."""
        ids = [record.task.id for record in self.records()]
        return dict.fromkeys([*ids, *self._first()])

    def clear(self) -> None:
        """Become empty."""
        self.load(dict.fromkeys([record.task.id for record in self.records()]))
        for name in self.paused():
            self.set_paused(name, paused=False)

    def _first(self) -> dict[str, Image | None]:
        """Return what the steps have touched, as it was before them."""
        first: dict[str, Image | None] = {}
        for step in reversed(self._steps):
            first.update(step.images)
        return first

    def _tell(self, task_id: str, before: Row | None, record: Record | None) -> None:
        after = _row_after(record)
        if self.on_change is not None and before != after:
            self.on_change(task_id, before, after)

    def _take_in(self, effect: Effect, images: dict[str, Record | None]) -> bool:
        """Add what becomes of a task to `images`; False: it is of a task that is not known."""
        if effect.task is not None:
            data = bytes(effect.data)
            images[effect.task.id] = Record(
                effect.task, None if data == b"null" else data, effect.waits_on
            )
        elif effect.state is not None:
            state = effect.state
            known = self.get(state.id)
            if known is None:
                return False
            task = msgspec.structs.replace(
                known.task, **{name: getattr(state, name) for name in STATE_FIELDS}
            )
            images[state.id] = Record(task, known.data, effect.waits_on)
        elif effect.gone is not None:
            images[effect.gone] = None
        return True

    def _effect(self, task_id: str, was: Image | None) -> Effect | None:
        """Return what became of a task, None if nothing."""
        record = self.get(task_id)
        if record is None:
            return None if was is None else Effect(gone=task_id)
        if was is None or was.record is not record:
            return _full(record)
        if was.task is record.task and was.waits_on == record.waits_on:
            return None
        fields = {name: getattr(record.task, name) for name in STATE_FIELDS}
        return Effect(state=State(id=task_id, **fields), waits_on=record.waits_on)

    def _touch(self, task_id: str) -> None:
        """Keep what a task was before this step."""
        if self._is_tracked:
            images = self._steps[-1].images
            if task_id not in images:
                record = self.get(task_id)
                images[task_id] = None if record is None else _image(record)

    def _add(self, record: Record) -> None:
        self._touch(record.task.id)
        super()._add(record)

    def _put(self, record: Record, after: Task) -> None:
        self._touch(after.id)
        super()._put(record, after)

    def _untie(self, child: Record, parent_id: str) -> None:
        self._touch(child.task.id)
        super()._untie(child, parent_id)

    def _delete(self, record: Record) -> None:
        self._touch(record.task.id)
        super()._delete(record)


def row(record: Record) -> Row:
    """Return what a record holds: the task and its arguments."""
    return record.task, record.data


def _row_after(record: Record | None) -> Row | None:
    return None if record is None else row(record)


def _row_before(image: Image | None) -> Row | None:
    return None if image is None else (image.task, image.record.data)


def _image(record: Record) -> Image:
    return Image(record, record.task, record.waits_on)


def _full(record: Record) -> Effect:
    data = NO_DATA if record.data is None else msgspec.Raw(record.data)
    return Effect(task=record.task, data=data, waits_on=record.waits_on)
