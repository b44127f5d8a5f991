"""Storing new tasks: put-if-absent by id, one live task for a key, and parents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from omniq import lifecycle
from omniq.exceptions import CapabilityError, StaleTaskError
from omniq.models.task import Task, TaskStatus
from omniq.storage.nats.dependants import Dependants, final_of
from omniq.storage.nats.frames import Frame, lines
from omniq.storage.nats.jetstream import EXPECTED
from omniq.storage.nats.records import Record, head_of
from omniq.storage.nats.shelf import ATTEMPTS, Publish, Shelf, Write
from omniq.storage.values import Inserted

MOST_PARENTS = 900
"""The server takes 1000 messages in one atomic batch."""


class Inserts:
    """Most tasks are one message each, sent together; one with a live key or parents needs more."""

    def __init__(self, shelf: Shelf, dependants: Dependants) -> None:
        self._shelf = shelf
        self._dependants = dependants
        self._named: set[str] = set()

    async def insert_plain(
        self, tasks: Sequence[Task], now: datetime, publish: Publish
    ) -> list[Inserted]:
        """Store tasks without keys and parents, by this way to send messages."""
        requests = [self._shelf.codec.request(task) for task in tasks]
        await self._name_queues({task.queue_name for task in tasks})
        return await self._insert_plain(tasks, requests, now, publish)

    async def insert(self, tasks: Sequence[Task], now: datetime) -> list[Inserted]:
        """Store tasks; see `TaskStore.insert`."""
        requests = [self._shelf.codec.request(task) for task in tasks]
        await self._name_queues({task.queue_name for task in tasks})
        answers: list[Inserted] = []
        start = 0
        for place, task in enumerate(tasks):
            if is_bound(task):
                answers += await self._insert_plain(tasks[start:place], requests[start:], now)
                answers.append(await self._insert_bound(task, requests[place], now))
                start = place + 1
        answers += await self._insert_plain(tasks[start:], requests[start:], now)
        return answers

    async def _insert_plain(
        self,
        tasks: Sequence[Task],
        requests: Sequence[bytes],
        now: datetime,
        publish: Publish | None = None,
    ) -> list[Inserted]:
        if not tasks:
            return []
        writes: list[Write] = []
        for task, request in zip(tasks, requests, strict=False):
            head = head_of(lifecycle.admit(task, {}, now), [])
            writes.append(Write(None, head, request, task.queue_name, task.id))
        stored = await self._shelf.write(writes, publish)
        await self._dependants.announce(final_of([one for one in stored if one is not None]))
        return [
            Inserted(task.id, record is not None)
            for task, record in zip(tasks, stored, strict=True)
        ]

    async def _insert_bound(self, task: Task, request: bytes, now: datetime) -> Inserted:
        """Store a task together with its key and the edges to its parents."""
        shelf = self._shelf
        for _ in range(ATTEMPTS):
            found = await shelf.read([task.id, *task.depends_on])
            known = found.pop(task.id, None)
            if known is not None:
                return Inserted(task.id, stored=False)
            parents = {one: TaskStatus(record.head.status) for one, record in found.items()}
            after = lifecycle.admit(task, parents, now)
            waits_for: list[Record] = []
            if after.status is TaskStatus.WAITING:
                waits_for = [record for record in found.values() if not _is_final(record)]
            others = self._edges(task.id, waits_for)
            if task.unique_key is not None and not after.is_final:
                revision, holder = await key_holder(shelf, task.queue_name, task.unique_key)
                if holder is not None:
                    return Inserted(holder, stored=False)
                others.append(key_frame(shelf, task.queue_name, task.unique_key, task.id, revision))
            head = head_of(after, [record.place.task_id for record in waits_for])
            write = Write(None, head, request, task.queue_name, task.id)
            if await shelf.write_together(write, others) is not None:
                if after.is_final:
                    await self._dependants.announce({task.id: after.status})
                return Inserted(task.id, stored=True)
        raise StaleTaskError(f"the parents or the key of task {task.id} kept changing; try again")

    def _edges(self, task_id: str, parents: Sequence[Record]) -> list[Frame]:
        """Return edges that only come to be if the parents are still as they were read.

        Raises:
            CapabilityError: the server takes no batch that large.
        """
        if len(parents) > MOST_PARENTS:
            raise CapabilityError(
                f"task {task_id} waits for {len(parents)} unfinished parents; on NATS that can be "
                f"{MOST_PARENTS} at most"
            )
        places = self._shelf.places
        return [
            Frame(
                places.edge(record.place.task_id, task_id),
                b"",
                lines(
                    {
                        EXPECTED: record.sequence,
                        f"{EXPECTED}-Subject": places.anywhere(
                            record.place.task_id, record.place.queue
                        ),
                    }
                ),
            )
            for record in parents
        ]

    async def _name_queues(self, queues: set[str]) -> None:
        unknown = queues - self._named
        if unknown:
            frames = [Frame(self._shelf.places.name(queue)) for queue in sorted(unknown)]
            await self._shelf.stream.publish(frames)
            self._named |= unknown


def is_bound(task: Task) -> bool:
    """Whether a new task is stored together with others: its key, the edges to its parents."""
    return bool(task.depends_on) or (task.unique_key is not None and not task.is_final)


async def key_holder(shelf: Shelf, queue: str, key: str) -> tuple[int, str | None]:
    """Return the revision of a unique key, and the id of the live task that holds it, if any."""
    found = await shelf.stream.last([key_subject(shelf, queue, key)])
    if not found:
        return 0, None
    holder = found[0].data.decode()
    record = (await shelf.read([holder])).get(holder)
    is_held = record is not None and not _is_final(record)
    return found[0].sequence, holder if is_held else None


def key_frame(shelf: Shelf, queue: str, key: str, task_id: str, revision: int) -> Frame:
    """Return the message by which a task takes a unique key as it was last seen."""
    return Frame(key_subject(shelf, queue, key), task_id.encode(), lines({EXPECTED: revision}))


def key_subject(shelf: Shelf, queue: str, key: str) -> str:
    """Return where it is kept who has a unique key."""
    return shelf.places.key(queue, sha256(key.encode()).hexdigest())


def _is_final(record: Record) -> bool:
    return TaskStatus(record.head.status).is_final
