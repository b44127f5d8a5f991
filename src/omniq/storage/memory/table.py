"""All tasks of a memory queue and what follows from their states. Not thread-safe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol

from omniq import lifecycle
from omniq.clock import EPOCH
from omniq.models.task import STATE_FIELDS, Task, TaskStatus, copied
from omniq.storage.memory.heap import LazyHeap
from omniq.storage.memory.lanes import PENDING, RUNNING, SCHEDULED, Lane, Record, Timer
from omniq.storage.values import Change, Counts, Inserted, Lease, TaskFilter

WAITING = TaskStatus.WAITING
_state_of = attrgetter(*STATE_FIELDS)


class TaskCodec(Protocol):
    """Turns tasks into bytes and back."""

    def encode(self, record: Any) -> bytes:
        """Return a task as bytes."""
        ...

    def decode(self, data: bytes, /) -> Any:
        """Return the task in bytes."""
        ...


class TaskTable:
    """Records by id, lanes by queue, unique keys, dependants and the order of purging.

    Args:
        on_claimable: told the queue of each task that is claimable from now or a moment on.
        on_final: told the id of each task that became final.
    """

    def __init__(
        self,
        on_claimable: Callable[[str, datetime | None], None],
        on_final: Callable[[str], None],
    ) -> None:
        self._on_claimable = on_claimable
        self._on_final = on_final
        self._records: dict[str, Record] = {}
        self._lanes: dict[str, Lane] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._finished: LazyHeap[Timer] = LazyHeap(self._is_finished)
        self._sorted_ids: list[str] | None = []

    def insert(self, task: Task, data: bytes | None, now: datetime) -> Inserted:
        """Store a task, in the state its parents' states say; see `TaskStore.insert`."""
        if task.id in self._records:
            return Inserted(task.id, stored=False)
        parents = self._parents(task)
        after = lifecycle.admit(task, parents, now)
        if not after.is_final and task.unique_key is not None:
            key = (task.queue_name, task.unique_key)
            holder = self._keys.setdefault(key, task.id)
            if holder != task.id:
                return Inserted(holder, stored=False)
        waits_on: tuple[str, ...] = ()
        if after.status is WAITING:
            waits_on = tuple(one for one, status in parents.items() if not status.is_final)
        self._add(Record(_bare(after), data, waits_on))
        return Inserted(task.id, stored=True)

    def load(self, images: Mapping[str, Record | None]) -> None:
        """Put each task of these ids into this very state, whatever its state is; None removes it.

        A record becomes the table's own. All take effect as one: unique keys may change hands.
        """
        comes_or_goes = any((one in self._records) == (images[one] is None) for one in images)
        ids = None if comes_or_goes else self._sorted_ids
        for task_id in images:
            record = self._records.get(task_id)
            if record is not None:
                self._delete(record)
        for record in images.values():
            if record is not None:
                task = record.task
                if task.unique_key is not None and not task.is_final:
                    self._keys[task.queue_name, task.unique_key] = task.id
                self._add(record)
        self._sorted_ids = ids

    def records(self) -> Iterable[Record]:
        """Return all records, in no order."""
        return self._records.values()

    def claim(
        self,
        queues: list[str],
        limit: int,
        run: Callable[[Task], Task],
        now: datetime,
    ) -> list[Record]:
        """Let `run` change up to `limit` claimable tasks; see `TaskStore.claim`."""
        taken: list[Record] = []
        for name in queues:
            lane = self._lanes.get(name)
            if lane is None or lane.paused:
                continue
            for due in lane.ring(now):
                self._put(due, lifecycle.promote(due.task))
            while len(taken) < limit and (record := lane.take(now)) is not None:
                self._put(record, run(record.task))
                taken.append(record)
        return taken

    def swap(self, change: Change, now: datetime) -> bool:
        """Replace the state of a task that is as `change.before` says; see `TaskStore.swap`."""
        before, after = change
        record = self._records.get(before.id)
        if record is None or not _same_fence(record.task, before):
            return False
        stored = record.task
        if stored.is_final and not after.is_final and not self._retake_key(stored):
            return False
        if stored.status is RUNNING:
            after = lifecycle.merge_running(stored, after)
        self._put(record, _with_state(stored, after))
        if after.is_final:
            self._settle_dependants(record, now)
        return True

    def extend(self, lease: Lease, ends_at: datetime) -> Record | None:
        """Move the end of a lease that is still held; return its task's record."""
        record = self._records.get(lease.task_id)
        if record is None or record.task.status is not RUNNING:
            return None
        if (record.task.claim_count, record.task.lease_token) != (lease[1], lease[2]):
            return None
        after = copied(record.task)
        after.due_at = ends_at
        self._put(record, after)
        return record

    def get(self, task_id: str) -> Record | None:
        """Return the record of this id."""
        return self._records.get(task_id)

    def find(self, where: TaskFilter, ids: Iterable[str], limit: int) -> list[Record]:
        """Return the first `limit` records among `ids` that match."""
        found: list[Record] = []
        for task_id in ids:
            record = self._records[task_id]
            if where.matches(record.task):
                found.append(record)
                if len(found) == limit:
                    break
        return found

    def sorted_ids(self) -> list[str]:
        """Return all ids in order; sorted anew only after tasks came or went."""
        if self._sorted_ids is None:
            self._sorted_ids = sorted(self._records)
        return self._sorted_ids

    def counts(self) -> Counts:
        """Return the number of tasks per queue and status, without zeros."""
        held = {
            name: {status: count for status, count in lane.counts.items() if count}
            for name, lane in self._lanes.items()
        }
        return {name: counts for name, counts in held.items() if counts}

    def purge(self, finished_before: datetime, limit: int) -> int:
        """Delete final tasks, those that finished first first; return how many."""
        deleted = 0
        while deleted < limit and (timer := self._finished.first()) is not None:
            if timer[0] >= finished_before:
                break
            self._finished.pop()
            self._delete(self._records[timer[1]])
            deleted += 1
        return deleted

    def lane(self, queue_name: str) -> Lane:
        """Return the lane of a queue, made on demand."""
        lane = self._lanes.get(queue_name)
        if lane is None:
            lane = self._lanes[queue_name] = Lane(self._records)
        return lane

    def paused(self) -> set[str]:
        """Return the names of the paused queues."""
        return {name for name, lane in self._lanes.items() if lane.paused}

    def claimable_at(self, queues: list[str], now: datetime) -> datetime | None:
        """Return from when on a claim of these queues finds something."""
        return _earliest(lane.claimable_at(now) for lane in self._known(queues))

    def next_due(self, queues: list[str]) -> datetime | None:
        """Return the earliest `due_at` of a scheduled or running task of these queues."""
        return _earliest(lane.next_due() for lane in self._known(queues))

    def _known(self, queues: list[str]) -> list[Lane]:
        return [self._lanes[name] for name in queues if name in self._lanes]

    def _parents(self, task: Task) -> dict[str, TaskStatus]:
        found = [(one, self._records.get(one)) for one in task.depends_on]
        return {one: record.task.status for one, record in found if record is not None}

    def _add(self, record: Record) -> None:
        task = record.task
        self._records[task.id] = record
        self._sorted_ids = None
        self.lane(task.queue_name).counts[task.status] += 1
        for parent_id in record.waits_on:
            self._children.setdefault(parent_id, {})[task.id] = None
        self._arrange(record)

    def _put(self, record: Record, after: Task) -> None:
        before, record.task = record.task, after
        if after.status is not before.status:
            counts = self._lanes[after.queue_name].counts
            counts[before.status] -= 1
            counts[after.status] += 1
            if after.is_final and not before.is_final:
                self._release_key(after)
        elif after.due_at == before.due_at and not after.is_final:
            return  # as claimable as it was
        self._arrange(record)

    def _arrange(self, record: Record) -> None:
        """Put the record where its state says: in line, on a timer, or among the finished."""
        record.place = record.timer = None
        task = record.task
        status = task.status
        if status is RUNNING or status is SCHEDULED:
            self._lanes[task.queue_name].set_timer(record)
            self._on_claimable(task.queue_name, task.due_at)
        elif status is PENDING:
            self._lanes[task.queue_name].line_up(record)
            self._on_claimable(task.queue_name, None)
        elif status is not WAITING:
            record.timer = (task.finished_at or EPOCH, task.id)
            self._finished.push(record.timer)
            self._on_final(task.id)

    def _settle_dependants(self, record: Record, now: datetime) -> None:
        """Tell each child once that a parent is final, and theirs if that ends them too."""
        ended = deque([record.task])
        while ended:
            parent = ended.popleft()
            for child_id in self._children.pop(parent.id, ()):
                child = self._records[child_id]
                self._untie(child, parent.id)
                if child.task.status is WAITING:
                    status = parent.status
                    after = lifecycle.parent_finished(child.task, parent.id, status, now)
                    self._put(child, after)
                    if after.is_final:
                        ended.append(after)

    def _untie(self, child: Record, parent_id: str) -> None:
        """Note that a task was told about a parent: it is told once."""
        child.waits_on = tuple(one for one in child.waits_on if one != parent_id)

    def _retake_key(self, task: Task) -> bool:
        if task.unique_key is None:
            return True
        key = (task.queue_name, task.unique_key)
        return self._keys.setdefault(key, task.id) == task.id

    def _release_key(self, task: Task) -> None:
        if task.unique_key is not None:
            del self._keys[task.queue_name, task.unique_key]

    def _delete(self, record: Record) -> None:
        task = record.task
        del self._records[task.id]
        self._sorted_ids = None
        self._lanes[task.queue_name].counts[task.status] -= 1
        if not task.is_final:
            self._release_key(task)
        for parent_id in record.waits_on:
            children = self._children[parent_id]
            del children[task.id]
            if not children:
                del self._children[parent_id]

    def _is_finished(self, timer: Timer) -> bool:
        record = self._records.get(timer[1])
        return record is not None and record.timer is timer


def whole(bare: Task, data: bytes | None, codec: TaskCodec) -> Task:
    """Return a task as callers may have it: with its arguments, decoded anew.

    Raises:
        SerializationError: `data` is damaged, or pickled where pickle is not read.
    """
    task = copied(bare)
    if data is None:
        task.kwargs, task.metadata = {}, {}
        return task
    stored: Task = codec.decode(data)
    task.args, task.kwargs = stored.args, stored.kwargs
    task.metadata, task.retry = stored.metadata, stored.retry
    return task


def encoded(task: Task, codec: TaskCodec) -> bytes | None:
    """Return what of a task must be kept encoded: None if that is nothing.

    Raises:
        ValidationError: its arguments cannot be stored.
    """
    if task.args or task.kwargs or task.metadata or task.retry:
        return codec.encode(task)
    return None


def _bare(task: Task) -> Task:
    """Take from a task, which is ours, what a caller could change in place; return it."""
    task.args, task.kwargs, task.metadata, task.retry = (), {}, {}, None
    task.depends_on = tuple(task.depends_on)
    return task


def _same_fence(stored: Task, seen: Task) -> bool:
    return (
        stored.claim_count == seen.claim_count
        and stored.lease_token == seen.lease_token
        and stored.status is seen.status
    )


def _with_state(stored: Task, state: Task) -> Task:
    after = copied(stored)
    for name, value in zip(STATE_FIELDS, _state_of(state), strict=True):
        setattr(after, name, value)
    return after


def _earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)
