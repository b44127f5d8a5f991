"""The contract of a queue in its simplest form: a list, looked through from end to end.

It shares nothing with any backend but the codec, knows no index and is slow on purpose. What it
does is what `TaskStore` says, word for word, so it is what backends are compared with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterable
from copy import copy, deepcopy
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, TypeVar, cast

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.models.task import STATE_FIELDS, Task, TaskStatus
from omniq.serialization import RecordCodec
from omniq.storage.base import (
    BaseQueue,
    Capabilities,
    Change,
    Counts,
    Inserted,
    Lease,
    TaskFilter,
)

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


def _alone(primitive: F) -> F:
    """Keep other threads out of a primitive; it waits for nothing meanwhile."""

    @wraps(primitive)
    async def call(self: ModelQueue, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return await primitive(self, *args, **kwargs)

    return cast("F", call)


class ModelQueue(BaseQueue):
    """A task queue to compare others with; for tests only."""

    capabilities = Capabilities(durable=False, shared=False)

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self._codec = RecordCodec(Task, ("args", "kwargs", "metadata"))
        self._tasks: list[Task] = []
        self._edges: list[tuple[str, str]] = []
        """Pairs of a live parent and a child it has not been counted for."""
        self._paused_names: set[str] = set()

    def _refuse(self, task: Task) -> None:
        self._codec.encode(task)

    @_alone
    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        moment = now or utcnow()
        encoded = [self._codec.encode(task) for task in tasks]
        return [self._insert_one(self._codec.decode(data), moment) for data in encoded]

    @_alone
    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        moment = now or utcnow()
        names = [name for name in queues if name not in self._paused_names]
        for task in self._in_queues(names):
            if task.status is TaskStatus.SCHEDULED and _is_due(task, moment):
                self._put(lifecycle.promote(task))
        claimable = [
            task
            for task in self._in_queues(names)
            if task.status is TaskStatus.PENDING
            or (task.status is TaskStatus.RUNNING and _is_due(task, moment))
        ]
        claimable.sort(
            key=lambda task: (
                names.index(task.queue_name),
                -task.priority,
                task.created_at,
                task.id,
            )
        )
        for task in claimable[:limit]:
            self._put(
                lifecycle.claim(
                    task,
                    worker_id=worker_id,
                    lease_token=lease_token,
                    lease_ends_at=moment + timedelta(seconds=lease_seconds),
                    now=moment,
                )
            )
        return self._copies(task.id for task in claimable[:limit])

    @_alone
    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        moment = now or utcnow()
        return [self._swap_one(before, after, moment) for before, after in changes]

    @_alone
    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        held = [lease for lease in leases if self._is_held(lease)]
        for lease in held:
            after = copy(self._required_one(lease.task_id))
            after.due_at = (now or utcnow()) + timedelta(seconds=lease_seconds)
            self._put(after)
        return self._copies(lease.task_id for lease in held)

    @_alone
    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        return [deepcopy(self._one(task_id)) for task_id in task_ids]

    @_alone
    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        ids = sorted(
            task.id for task in self._tasks if where.matches(task) and task.id > (after or "")
        )
        return self._copies(ids[:limit])

    @_alone
    async def _counts(self) -> Counts:
        counts: Counts = {}
        for task in self._tasks:
            queue = counts.setdefault(task.queue_name, {})
            queue[task.status] = queue.get(task.status, 0) + 1
        return counts

    @_alone
    async def _purge(self, finished_before: datetime, limit: int) -> int:
        over = [
            task
            for task in self._tasks
            if task.is_final and task.finished_at is not None and task.finished_at < finished_before
        ]
        over.sort(key=lambda task: task.finished_at or finished_before)
        gone = {task.id for task in over[:limit]}
        self._tasks = [task for task in self._tasks if task.id not in gone]
        self._edges = [edge for edge in self._edges if edge[1] not in gone]
        return len(gone)

    @_alone
    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        if paused:
            self._paused_names.add(queue_name)
        else:
            self._paused_names.discard(queue_name)

    @_alone
    async def _paused(self) -> set[str]:
        return set(self._paused_names)

    @_alone
    async def _next_due(self, queues: list[str]) -> datetime | None:
        moments = [
            task.due_at
            for task in self._in_queues(queues)
            if task.status in {TaskStatus.SCHEDULED, TaskStatus.RUNNING}
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    def _insert_one(self, task: Task, now: datetime) -> Inserted:
        if self._one(task.id) is not None:
            return Inserted(task.id, stored=False)
        parents = {one.id: one.status for one in self._tasks if one.id in task.depends_on}
        after = lifecycle.admit(task, parents, now)
        holder = self._key_holder(task)
        if holder is not None and not after.is_final:
            return Inserted(holder.id, stored=False)
        self._tasks.append(after)
        if after.status is TaskStatus.WAITING:
            unfinished = [one for one, status in parents.items() if not status.is_final]
            self._edges += [(parent_id, task.id) for parent_id in unfinished]
        return Inserted(task.id, stored=True)

    def _swap_one(self, before: Task, after: Task, now: datetime) -> bool:
        stored = self._one(before.id)
        if stored is None or _fence(stored) != _fence(before):
            return False
        if stored.is_final and not after.is_final and self._key_holder(stored) is not None:
            return False
        if stored.status is TaskStatus.RUNNING:
            after = lifecycle.merge_running(stored, after)
        changed = copy(stored)
        for name in STATE_FIELDS:
            setattr(changed, name, getattr(after, name))
        self._put(changed)
        if changed.is_final:
            self._tell_children(changed, now)
        return True

    def _tell_children(self, parent: Task, now: datetime) -> None:
        children = [child_id for parent_id, child_id in self._edges if parent_id == parent.id]
        self._edges = [edge for edge in self._edges if edge[0] != parent.id]
        for child_id in children:
            child = self._required_one(child_id)
            if child.status is TaskStatus.WAITING:
                after = lifecycle.parent_finished(child, parent.id, parent.status, now)
                self._put(after)
                if after.is_final:
                    self._tell_children(after, now)

    def _key_holder(self, task: Task) -> Task | None:
        """Return the live task of the same queue that holds the same unique key."""
        for other in self._tasks:
            same = (other.queue_name, other.unique_key) == (task.queue_name, task.unique_key)
            if same and task.unique_key is not None and not other.is_final:
                return other
        return None

    def _is_held(self, lease: Lease) -> bool:
        task = self._one(lease.task_id)
        return (
            task is not None
            and task.status is TaskStatus.RUNNING
            and (task.claim_count, task.lease_token) == (lease.claim_count, lease.lease_token)
        )

    def _in_queues(self, names: list[str]) -> list[Task]:
        return [task for task in self._tasks if task.queue_name in names]

    def _put(self, after: Task) -> None:
        self._tasks = [after if task.id == after.id else task for task in self._tasks]

    def _one(self, task_id: str) -> Task | None:
        return next((task for task in self._tasks if task.id == task_id), None)

    def _required_one(self, task_id: str) -> Task:
        return next(task for task in self._tasks if task.id == task_id)

    def _copies(self, task_ids: Iterable[str]) -> list[Task]:
        return [deepcopy(self._required_one(task_id)) for task_id in task_ids]


def _is_due(task: Task, now: datetime) -> bool:
    return task.due_at is None or task.due_at <= now


def _fence(task: Task) -> tuple[int, str | None, TaskStatus]:
    return task.claim_count, task.lease_token, task.status
