"""Telling tasks that their parents are final.

A parent's end and the news of it are two steps. Should the one who made the first not live to make
the second, the edges to its children are still there. Whoever starts to claim, or claims a task
whose lease was lost, looks through them. Failing that, the waiting task asks by itself after a
while: the server puts it among the ready ones, and whoever claims there next looks after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from omniq import lifecycle
from omniq.models.task import TaskStatus
from omniq.storage.nats.answers import Stored
from omniq.storage.nats.cursor import PAGE
from omniq.storage.nats.records import Head, Record, bare_task, head_after
from omniq.storage.nats.shelf import Shelf
from omniq.storage.nats.signals import Signals

EDGES_LOOKED_AT = 20_000
"""With more, looking through them takes too long: those who wait ask by themselves."""
PARENTS_AT_ONCE = 500


class Dependants:
    """Follows the edges from parents to children."""

    def __init__(self, shelf: Shelf, signals: Signals) -> None:
        self._shelf = shelf
        self._signals = signals

    async def announce(self, finished: Mapping[str, TaskStatus]) -> None:
        """Wake those who wait for the end of these tasks."""
        await self._signals.tell([self._shelf.places.final(one) for one in finished])

    async def settle(self, finished: Mapping[str, TaskStatus], now: datetime) -> None:
        """Announce tasks that became final, and move their dependants, through all generations."""
        while finished:
            await self.announce(finished)
            edges = await self._edges(list(finished))
            if not edges:
                return
            children = [edge.subject.rpartition(".")[2].replace("=", ".") for edge in edges]
            moved = await self._tell(children, finished, now)
            await self._shelf.stream.delete([edge.sequence for edge in edges if edge.sequence])
            finished = final_of(moved)

    async def catch_up(self, now: datetime) -> None:
        """Tell of ends whose writer died before it could; one short question where nobody waits.

        Somebody who is about to tell of them is not disturbed: a task hears of each end once.
        """
        places, stream = self._shelf.places, self._shelf.stream
        (edges,) = await stream.count([places.edges()])
        if not 0 < edges <= EDGES_LOOKED_AT:
            return
        parents = sorted({places.parent_of(one) for one in await stream.subjects(places.edges())})
        for start in range(0, len(parents), PARENTS_AT_ONCE):
            asked = parents[start : start + PARENTS_AT_ONCE]
            await self.settle(await self._over(asked), now)

    async def look_after(self, waiting: Sequence[Record], now: datetime) -> None:
        """See what became of the parents of tasks that have waited long."""
        over = await self._over({parent for record in waiting for parent in record.head.parents})

        def change(record: Record) -> Head | None:
            if record.head.status != TaskStatus.WAITING.value:
                return None
            return _told(record, over, now) or record.head

        ids = [record.place.task_id for record in waiting]
        await self.settle(final_of(await self._shelf.update(ids, change)), now)

    async def _over(self, parents: Iterable[str]) -> dict[str, TaskStatus]:
        """Return those of these parents that are final, with their statuses; gone is cancelled."""
        asked = sorted(parents)
        found = await self._shelf.read(asked)
        statuses = {
            parent: TaskStatus(found[parent].head.status)
            if parent in found
            else TaskStatus.CANCELLED
            for parent in asked
        }
        return {parent: status for parent, status in statuses.items() if status.is_final}

    async def _tell(
        self, children: Sequence[str], finished: Mapping[str, TaskStatus], now: datetime
    ) -> list[Record]:
        return await self._shelf.update(children, lambda record: _told(record, finished, now))

    async def _edges(self, parent_ids: list[str]) -> list[Stored]:
        """All edges of these parents. Where there are none at all, that is one short question."""
        places, stream = self._shelf.places, self._shelf.stream
        if stream.replicated:
            wanted = {places.edges(parent_id)[:-1] for parent_id in parent_ids}
            subjects = await stream.subjects(places.edges())
            return await stream.last(
                [one for one in subjects if one[: one.rindex(".") + 1] in wanted]
            )
        if not (await stream.count([places.edges()]))[0]:
            return []
        patterns = [places.edges(parent_id) for parent_id in parent_ids]
        found: list[Stored] = []
        for pattern, page in zip(patterns, await stream.first_pages(patterns), strict=True):
            found += await stream.all(pattern) if len(page) >= PAGE else page
        return found


def _told(record: Record, finished: Mapping[str, TaskStatus], now: datetime) -> Head | None:
    """Return what the end of these parents makes of a task; None if it changes nothing."""
    task = bare_task(record)
    left = list(record.head.parents)
    for parent_id in record.head.parents:
        if parent_id in finished and task.status is TaskStatus.WAITING:
            left.remove(parent_id)
            task = lifecycle.parent_finished(task, parent_id, finished[parent_id], now)
    if len(left) == len(record.head.parents):
        return None
    head = head_after(record.head, task)
    head.parents = tuple(left)
    return head


def final_of(records: Sequence[Record]) -> dict[str, TaskStatus]:
    """Return the final ones among records, with their statuses."""
    found = ((record.place.task_id, TaskStatus(record.head.status)) for record in records)
    return {task_id: status for task_id, status in found if status.is_final}
