"""`NATSQueue`: tasks in a JetStream stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Unpack

from omniq.clock import from_micros, utcnow
from omniq.exceptions import StorageError
from omniq.loops import PerLoop
from omniq.models.event import TaskEvent
from omniq.models.task import Task, TaskStatus
from omniq.serialization import SerializationFormat
from omniq.storage.events import BaseEventStorage
from omniq.storage.nats.address import NATSOptions
from omniq.storage.nats.changes import Changes
from omniq.storage.nats.claims import Claims, Wish
from omniq.storage.nats.component import NATSComponent, server_of
from omniq.storage.nats.dependants import Dependants
from omniq.storage.nats.events import NATSEventStorage
from omniq.storage.nats.frames import Frame
from omniq.storage.nats.inserts import Inserts, is_bound
from omniq.storage.nats.link import NATSServer
from omniq.storage.nats.listing import Listing
from omniq.storage.nats.places import GROUPS, PAUSED, READY, TIMED, Places
from omniq.storage.nats.purges import Purges
from omniq.storage.nats.records import TaskCodec
from omniq.storage.nats.shelf import Shelf
from omniq.storage.nats.signals import Ears, Signals
from omniq.storage.nats.telling import Telling
from omniq.storage.queue import BaseQueue
from omniq.storage.values import (
    Change,
    Counts,
    Inserted,
    Lease,
    LoggedInsert,
    TaskFilter,
)

LONGEST_SLEEP_SECONDS = 5.0
FINAL_POLL_SECONDS = 0.5
LISTENED_IDS = 100
MOVED_LOOKED_AT = 1000
COUNTED_AGAIN = 3
"""A delayed task is counted twice, or not at all, while the server moves it."""
CountKey = tuple[str, TaskStatus, str]


class NATSQueue(NATSComponent, BaseQueue):
    """Tasks in the stream ``<namespace>_tasks``, shared by any number of processes and machines.

    A process that claims keeps an index of the ready tasks of its queues in memory, about one
    kilobyte each.

    Attributes:
        shelf: the records of the tasks.
        claims: the indexes of each event loop.

    Args:
        servers: one URL or several, see `omniq.storage.nats.address`.
        serialization_format: of new payloads; each says its own format when read.
        server: share this handle instead of making one.
        options: see `NATSOptions`.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        server: NATSServer | None = None,
        **options: Unpack[NATSOptions],
    ) -> None:
        super().__init__()
        self._server = server_of(servers, server, options)
        self._places = Places(self._server.prefix)
        self._codec = TaskCodec(self._places, serialization_format)
        self.shelf = Shelf(self._server, self._codec, self._places)
        self.stream = self.shelf.stream
        self._signals = Signals(self._server)
        self._dependants = Dependants(self.shelf, self._signals)
        self._newcomers = Inserts(self.shelf, self._dependants)
        self._changes = Changes(self.shelf, self._dependants)
        self._purges = Purges(self.shelf)
        self.claims: PerLoop[Claims] = PerLoop(lambda: Claims(self.shelf, self._dependants))
        self._ears: PerLoop[Ears] = PerLoop(lambda: Ears(self._server))
        self._listing = Listing(
            self.stream, self._places.some(), lambda subject: self._places.read(subject).task_id
        )

    async def _close(self) -> None:
        claims = self.claims.pop()
        if claims is not None:
            with suppress(StorageError):
                await claims.close()
        self._ears.pop()
        await super()._close()

    def _refuse(self, task: Task) -> None:
        self._codec.request(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        return await self._newcomers.insert(tasks, now or utcnow())

    def _logged_insert(self, events: BaseEventStorage) -> LoggedInsert | None:
        if isinstance(events, NATSEventStorage) and events.is_kept_on(self._server):
            return partial(self._insert_telling, events)
        return None

    async def _insert_telling(
        self, storage: NATSEventStorage, tasks: list[Task], events: list[TaskEvent]
    ) -> list[Inserted] | None:
        """Store tasks and their events in one round trip."""
        if any(map(is_bound, tasks)):
            return None
        telling = Telling(self.stream, storage, events)
        inserted = await self._newcomers.insert_plain(tasks, utcnow(), telling.publish)
        await telling.put_right([item.stored for item in inserted])
        return inserted

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        wish = Wish(queues, worker_id, lease_token, limit, lease_seconds, now)
        return await self.claims.get().claim(wish)

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        return await self._changes.swap(changes, now or utcnow())

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        ends_at = (now or utcnow()) + timedelta(seconds=lease_seconds)
        return [self._codec.task(one) for one in await self._changes.extend(leases, ends_at)]

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        found = await self.shelf.read(list(dict.fromkeys(task_ids)))
        records = [found.get(task_id) for task_id in task_ids]
        return [None if record is None else self._codec.task(record) for record in records]

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        listed = await self._listing.ids_after(after, self._patterns(where))
        page: list[Task] = []
        for start in range(0, len(listed.ids), limit):
            wanted = listed.ids[start : start + limit]
            found = await self.shelf.read(wanted)
            tasks = [self._codec.task(found[one]) for one in wanted if one in found]
            page += [task for task in tasks if where.matches(task)]
            if len(page) >= limit:
                self._listing.go_on_after(page[limit - 1].id, listed)
                break
        return page[:limit]

    def _patterns(self, where: TaskFilter) -> list[str]:
        kinds: list[tuple[str, TaskStatus | None]] = [("*", None)]
        if where.statuses:
            kinds = [(group, status) for status in where.statuses for group in GROUPS[status]]
        queues: list[str | None] = list(where.queues) or [None]
        return [
            self._places.some(group, status, queue)
            for (group, status), queue in product(kinds, queues)
        ]

    async def _counts(self) -> Counts:
        if self.stream.replicated:
            return await self._counts_one_by_one()
        subjects = await self.stream.subjects(self._places.name())
        queues = sorted(self._places.queue_of(subject) for subject in subjects)
        keys = [
            (queue, status, group)
            for queue in queues
            for status, groups in GROUPS.items()
            for group in groups
        ]
        patterns = {key: self._places.some(key[2], key[1], key[0]) for key in keys}
        numbers = await self._numbers(patterns)
        counts: Counts = {}
        for (queue, status, _), number in numbers.items():
            if number:
                of_queue = counts.setdefault(queue, {})
                of_queue[status] = of_queue.get(status, 0) + number
        return counts

    async def _counts_one_by_one(self) -> Counts:
        """Count what the leader lists, each task once.

        A server that comes back after a crash may bring back messages that were replaced.
        """
        standing: dict[str, list[str]] = {}
        for subject in await self.stream.subjects(self._places.some()):
            standing.setdefault(subject.rpartition(".")[2], []).append(subject)
        doubtful = [one for subjects in standing.values() if len(subjects) > 1 for one in subjects]
        found = await self.shelf.read_at(doubtful)
        counts: Counts = {}
        for subjects in standing.values():
            place = self._places.read(subjects[-1])
            if len(subjects) > 1 and place.task_id in found:
                place = found[place.task_id].place
            of_queue = counts.setdefault(place.queue, {})
            of_queue[place.status] = of_queue.get(place.status, 0) + 1
        return counts

    async def _numbers(self, patterns: dict[CountKey, str]) -> dict[CountKey, int]:
        """Count on each pattern, again while the server moves what came due."""
        numbers = await self._numbers_once(patterns)
        for _ in range(COUNTED_AGAIN):
            if not any(number for key, number in numbers.items() if key[2] == TIMED):
                break
            before, numbers = numbers, await self._numbers_once(patterns)
            if numbers == before:
                break
        return numbers

    async def _numbers_once(self, patterns: dict[CountKey, str]) -> dict[CountKey, int]:
        """Count on each pattern; where the server moved messages late, delete those first."""
        numbers = dict(zip(patterns, await self.stream.count(list(patterns.values())), strict=True))
        moved = {
            key: pattern
            for key, pattern in patterns.items()
            if key[2] == READY and key[1] is not TaskStatus.PENDING and numbers[key]
        }
        if not moved or sum(numbers[key] for key in moved) > MOVED_LOOKED_AT:
            return numbers
        subjects = [
            one for pattern in moved.values() for one in await self.stream.subjects(pattern)
        ]
        await self.shelf.read([self._places.read(subject).task_id for subject in subjects])
        again = await self.stream.count(list(patterns.values()))
        return dict(zip(patterns, again, strict=True))

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        return await self._purges.purge(finished_before, limit)

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        subject = self._places.paused(queue_name)
        if paused:
            await self.stream.publish([Frame(subject, PAUSED)])
            return
        await self.stream.purge(subject)
        await self._signals.tell([self._places.resumed(queue_name)])

    async def _paused(self) -> set[str]:
        subjects = await self.stream.subjects(self._places.paused())
        return {self._places.queue_of(subject) for subject in subjects}

    async def _next_due(self, queues: list[str]) -> datetime | None:
        dues: list[int] = []
        for queue in queues:
            for group, status in (
                (TIMED, None),
                (READY, TaskStatus.SCHEDULED),
                (READY, TaskStatus.RUNNING),
            ):
                for stored in await self.stream.all(self._places.some(group, status, queue)):
                    due_at = self._codec.record(stored).head.due_at
                    if due_at is not None:
                        dues.append(due_at)
        return from_micros(min(dues)) if dues else None

    async def _wait(self, queues: list[str], timeout: float) -> None:
        ears, claims = self._ears.get(), self.claims.get()
        queue_of = {self._places.wakes(queue): queue for queue in queues}
        ends_at = time.monotonic() + timeout
        is_stale = False
        while True:
            if await ears.listen(list(queue_of)) or is_stale:
                await claims.look(queues, None)
            left = ends_at - time.monotonic()
            if claims.has_ready(queues) or left <= 0:
                return
            heard = await ears.heard(list(queue_of), min(left, LONGEST_SLEEP_SECONDS))
            if any(not claims.is_paused(queue_of[pattern]) for pattern in heard):
                return
            is_stale = not heard

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        ends_at = time.monotonic() + timeout
        subjects = [self._places.final(task_id) for task_id in task_ids[:LISTENED_IDS]]
        while (left := ends_at - time.monotonic()) > 0:
            async with self._signals.listening(subjects) as heard:
                found = await self.shelf.read(task_ids)
                if len(found) < len(set(task_ids)):
                    return
                if any(record.head.finished_at is not None for record in found.values()):
                    return
                if await heard(min(left, FINAL_POLL_SECONDS)):
                    return
            await asyncio.sleep(0)


AsyncNATSQueue = NATSQueue
NatsQueue = NATSQueue
AsyncNatsQueue = NATSQueue
