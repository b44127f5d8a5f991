"""Comparing two stores record by record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from omniq.app.stores import Stores
from omniq.models.schedule import Schedule
from omniq.models.task import Task
from omniq.moving.parking import MOVE, is_mark, is_token
from omniq.storage.base import BaseQueue, BaseResultStorage

_PAGE = 500
_LIVE = ("status", "due_at", "depends_on", "waiting_for", "lease_token", "worker_id", "lost_leases")
"""What may differ in a live task: when its moment comes, or its parents finish, and its lease."""


class Digest(NamedTuple):
    """What was found of one kind of record, over the ids of the source.

    Attributes:
        records: how many the source has, and how many of them the target.
        source, target: SHA-256 over all of them, in the order of their ids.
        different: ids of those that differ, the first hundred.
    """

    records: tuple[int, int]
    source: str
    target: str
    different: list[str]

    @property
    def is_same(self) -> bool:
        """Whether both sides are the same."""
        return self.source == self.target


class _Comparison:
    """Gathers the digest of one kind of record."""

    def __init__(self, known: Callable[[Any], Any]) -> None:
        self._known = known
        self._hashes = hashlib.sha256(), hashlib.sha256()
        self._found = [0, 0]
        self._different: list[str] = []

    def add(self, record_id: str, old: Any, new: Any) -> None:
        """Compare one record of the source with that of the target, None if there is none."""
        here, there = self._known(old), None if new is None else self._known(new)
        texts = [repr(here), repr(here if here == there else there)]
        for number, (text, record) in enumerate(zip(texts, (old, new), strict=True)):
            self._hashes[number].update(f"{record_id}={text}\n".encode())
            self._found[number] += record is not None
        if texts[0] != texts[1] and len(self._different) < 100:
            self._different.append(record_id)

    def digest(self) -> Digest:
        """Return what was gathered."""
        source, target = (item.hexdigest() for item in self._hashes)
        return Digest((self._found[0], self._found[1]), source, target, self._different)


async def verified_records(old: Stores, new: Stores, left_out: Iterable[str]) -> dict[str, Digest]:
    """Return the digests of tasks, results and schedules.

    Args:
        old: the source.
        new: the target.
        left_out: ids of tasks that were not to be copied.
    """
    return {
        "tasks": await _tasks(old.tasks, new.tasks, frozenset(left_out)),
        "results": await _results(old.results, new.results),
        "schedules": await _schedules(old, new),
    }


async def verified_move(old: Stores, new: Stores, moved: Collection[str]) -> dict[str, Digest]:
    """Return the digests of tasks, and of results if they moved, while the target is at work.

    What ran, or was retried, there since is no difference.
    """
    tasks, after = _Comparison(_known_of_task), None
    while page := await old.tasks.find(after=after, limit=_PAGE):
        for task, found in zip(page, await new.tasks.get([t.id for t in page]), strict=True):
            if task.queue_name != MOVE and not is_token(task):
                tasks.add(task.id, task, task if _is_there(task, found) else found)
        after = page[-1].id
    digests = {"tasks": tasks.digest()}
    if "results" in moved:
        digests["results"] = await _results(old.results, new.results, may_be_newer=True)
    return digests


def _is_there(task: Task, found: Task | None) -> bool:
    """Whether a task of the source stands in the target as it is, or has moved on there."""
    if found is None or is_mark(found):
        return False
    return is_mark(task) or not found.is_final or found.claim_count > task.claim_count


async def _tasks(old: BaseQueue, new: BaseQueue, left_out: frozenset[str]) -> Digest:
    comparison, after = _Comparison(_known_of_task), None
    while page := await old.find(after=after, limit=_PAGE):
        for task, found in zip(page, await new.get([task.id for task in page]), strict=True):
            if task.id not in left_out:
                comparison.add(task.id, task, found)
        after = page[-1].id
    return comparison.digest()


async def _results(
    old: BaseResultStorage, new: BaseResultStorage, *, may_be_newer: bool = False
) -> Digest:
    comparison, after = _Comparison(msgspec.structs.asdict), None
    while page := await old.find(after=after, limit=_PAGE):
        found = await new.get_many([item.task_id for item in page])
        for item, other in zip(page, found, strict=True):
            newer = may_be_newer and other is not None and other.claim_count > item.claim_count
            comparison.add(item.task_id, item, item if newer else other)
        after = page[-1].task_id
    return comparison.digest()


async def _schedules(old: Stores, new: Stores) -> Digest:
    comparison = _Comparison(_known_of_schedule)
    for schedule in await old.schedules.list_schedules():
        found = await new.schedules.get_schedule(schedule.id)
        comparison.add(schedule.id, schedule, found)
    return comparison.digest()


def _known_of_schedule(schedule: Schedule) -> dict[str, Any]:
    known = msgspec.structs.asdict(schedule)
    del known["revision"]  # another with each write
    return known


def _known_of_task(task: Task) -> dict[str, Any]:
    known = msgspec.structs.asdict(task)
    if not task.is_final:
        for name in _LIVE:
            del known[name]
    return known
