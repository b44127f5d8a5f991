"""The write jobs of the queue, as functions of a unit of work."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from omniq import lifecycle
from omniq.models.task import Task, TaskStatus
from omniq.storage.file.folders import Folders
from omniq.storage.file.ops import SUFFIX
from omniq.storage.file.records import ID_AT, Stored
from omniq.storage.file.store import Batch
from omniq.storage.file.unit import Unit
from omniq.storage.values import Change, Inserted, Lease

RUNNING, WAITING = TaskStatus.RUNNING, TaskStatus.WAITING


def insert(unit: Unit, task: Task, now: datetime) -> Inserted:
    """Store a task in the state its parents' states say; see `TaskStore.insert`."""
    if unit.get(task.id) is not None:
        return Inserted(task.id, stored=False)
    parents = _statuses(unit, task.depends_on)
    after = lifecycle.admit(task, parents, now)
    if task.unique_key is not None and not after.is_final:
        holder = unit.take_key(task.id, task.queue_name, task.unique_key)
        if holder != task.id:
            return Inserted(holder, stored=False)
    unit.add(after)
    if after.status is WAITING:
        for parent_id, status in parents.items():
            if not status.is_final:
                unit.add_child(parent_id, task.id)
    return Inserted(task.id, stored=True)


def swap(unit: Unit, change: Change, now: datetime) -> bool:
    """Replace the state of a task that is as `change.before` says; see `TaskStore.swap`."""
    before, after = change
    stored = unit.get(before.id)
    if stored is None or not _same_fence(stored, before):
        return False
    state = stored.state
    was_final, key = state.status.is_final, state.unique_key
    if was_final and not after.is_final and key is not None:
        holder = unit.take_key(stored.task_id, state.queue, key)
        if holder != stored.task_id:
            return False
    if state.status is RUNNING:
        after = lifecycle.merge_running(state, after)
    unit.put(stored, after)
    if after.is_final:
        if not was_final and key is not None:
            unit.free_key(state.queue, key)
        _settle_dependants(unit, stored, now)
    return True


def extend(unit: Unit, lease: Lease, ends_at: datetime) -> Task | None:
    """Move the end of a lease that is still held; return its task."""
    stored = unit.get(lease.task_id)
    if stored is None or stored.state.status is not RUNNING:
        return None
    if (stored.state.claim_count, stored.state.lease_token) != (lease[1], lease[2]):
        return None
    stored.state.due_at = ends_at
    stored.is_changed = True
    return unit.whole(stored)


class Place(NamedTuple):
    """A file in a status folder."""

    queue: str
    stem: str


def running(batch: Batch) -> list[Place]:
    """Return the running tasks of all queues."""
    batch.catch_up()
    return [
        Place(queue, name.removesuffix(SUFFIX))
        for queue in queue_names(batch.files)
        for name in batch.files.names(f"{queue}/{RUNNING.value}")
        if name.endswith(SUFFIX)
    ]


def queue_names(files: Folders) -> list[str]:
    """Return the queues that have folders."""
    return files.folders("")


def end_leases(unit: Unit, places: list[Place], worker_ids: Collection[str], now: datetime) -> None:
    """Let the leases of these workers end now."""
    for place in places:
        stored = unit.get(place.stem[ID_AT:])
        if stored is None or stored.state.status is not RUNNING:
            continue
        state = stored.state
        if state.worker_id in worker_ids and (state.due_at is None or state.due_at > now):
            state.due_at = now
            stored.is_changed = True
            unit.batch.ready_queues.add(state.queue)


def _statuses(unit: Unit, task_ids: Collection[str]) -> dict[str, TaskStatus]:
    found = ((task_id, unit.get(task_id)) for task_id in task_ids)
    return {task_id: stored.state.status for task_id, stored in found if stored is not None}


def _settle_dependants(unit: Unit, stored: Stored, now: datetime) -> None:
    """Tell each child once that a parent is final, and theirs if that ends them too."""
    ended = deque([stored])
    while ended:
        parent = ended.popleft()
        for child in unit.take_children(parent.task_id):
            if child.state.status is not WAITING:
                continue
            task = unit.whole(child)
            if parent.task_id not in task.depends_on:
                continue  # another task of that id waited once
            status = parent.state.status
            after = lifecycle.parent_finished(task, parent.task_id, status, now)
            unit.put(child, after)
            if after.is_final:
                if child.state.unique_key is not None:
                    unit.free_key(child.state.queue, child.state.unique_key)
                ended.append(child)


def _same_fence(stored: Stored, seen: Task) -> bool:
    state = stored.state
    return (state.claim_count, state.lease_token, state.status) == (
        seen.claim_count,
        seen.lease_token,
        seen.status,
    )
