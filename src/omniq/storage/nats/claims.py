"""Claiming: look what is new, choose the first, and take each by its revision."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from omniq import lifecycle
from omniq.clock import utcnow
from omniq.exceptions import StorageError
from omniq.models.task import Task, TaskStatus
from omniq.storage.nats.answers import Look
from omniq.storage.nats.cursor import PAGE, Cursor
from omniq.storage.nats.dependants import Dependants
from omniq.storage.nats.line import Line, is_due
from omniq.storage.nats.places import PAUSED, READY, TIMED
from omniq.storage.nats.records import Record, bare_task
from omniq.storage.nats.shelf import ATTEMPTS, Shelf, becoming

logger = logging.getLogger(__name__)

PROMOTED_PER_CLAIM = 1000
PROVED = 200
LONG_LINE = 10_000
LOOK_AHEAD = 100_000
"""So many ready tasks of a queue are kept in memory at most; order is exact among them."""
WIDEST_SPREAD = 8
CROWD = 8
CATCH_UP_SECONDS = 5.0
"""Leases that were lost at the same time were most likely lost by the same death."""
REPLICA_LOOKS = 7
"""So often more a claim looks, over 0.6 s, until the replica that answers has what is stored."""
PATIENCE = 3
"""So many refused at once, or in so many turns, come from others who claim at this moment."""


class Wish(NamedTuple):
    """What a claim asks for; `now` is None where the server's clock decides what is due."""

    queues: list[str]
    worker_id: str
    lease_token: str
    limit: int
    lease_seconds: float
    now: datetime | None


class Lane(NamedTuple):
    """What is known of a queue, and how far it was read."""

    line: Line
    cursor: Cursor


class Claims:
    """The lines of one event loop."""

    def __init__(self, shelf: Shelf, dependants: Dependants) -> None:
        self._shelf = shelf
        self._dependants = dependants
        self._lanes: dict[str, Lane] = {}
        self._looking = asyncio.Lock()
        self._spread = 1
        self._paused: set[str] = set()
        self._met = ""
        self._caught_up_at = -math.inf

    async def claim(self, wish: Wish) -> list[Task]:
        """Lease tasks; return them in the order they are to run.

        What it has leased when the server fails it returns: nobody else could give it back.
        """
        taken: list[Task] = []
        left = wish.limit
        try:
            for turn in range(ATTEMPTS):
                open_queues = await self.look(wish.queues, wish.now)
                chosen = self._chosen(open_queues, left, wish.now)
                tried = await self._believed(chosen, wish.now)
                tasks = await self._take(wish, tried, open_queues)
                taken += tasks
                if any(map(_has_lost_its_lease, tried)) and self._was_long_ago():
                    await self._catch_up()
                got = {task.id for task in tasks}
                refused = [record for record in tried if record.place.task_id not in got]
                was_all = len(chosen) < left
                left -= len(tasks)
                if not refused:
                    self._spread = max(1, self._spread // 2)
                if not left or (was_all and not refused):
                    break
                await self._after_refusals(open_queues, refused, len(tried), turn)
        except BaseException as error:
            self._lanes.clear()  # what was chosen and not settled is still in the stream
            if not (taken and isinstance(error, StorageError)):
                raise
            logger.debug("a claim got %d of %d tasks: %s", len(taken), wish.limit, error)
        turns = {queue: turn for turn, queue in enumerate(wish.queues)}
        taken.sort(key=lambda one: (turns[one.queue_name], -one.priority, one.created_at, one.id))
        return taken

    async def look(self, queues: Sequence[str], now: datetime | None) -> list[str]:
        """Take in what is new of these queues; return those that are not paused, in order."""
        async with self._looking:
            run_id = await self._shelf.run_id()
            if run_id != self._met:
                await self._shelf.mend()
                await self._catch_up()
                self._met = run_id
            await self._take_in(queues)
            open_queues = [queue for queue in queues if queue not in self._paused]
            if now is not None:
                for queue in open_queues:
                    await self._ring(queue, now)
            return open_queues

    def has_ready(self, queues: Sequence[str]) -> bool:
        """Whether these queues have something claimable, by the last look."""
        lanes = (self._lanes.get(queue) for queue in queues if queue not in self._paused)
        return any(lane is not None and lane.line.has_ready() for lane in lanes)

    def is_paused(self, queue: str) -> bool:
        """Whether a queue is paused, by the last look."""
        return queue in self._paused

    async def close(self) -> None:
        """Forget everything; let the server forget our cursors."""
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            await lane.cursor.close()

    def _chosen(self, queues: Sequence[str], limit: int, now: datetime | None) -> list[Record]:
        chosen: list[Record] = []
        for queue in queues:
            if len(chosen) < limit:
                line = self._line(queue)
                chosen += line.choose(limit - len(chosen), now, self._spread)
        return chosen

    async def _take(
        self, wish: Wish, chosen: Sequence[Record], queues: Sequence[str]
    ) -> list[Task]:
        """Claim the chosen and promote what else came due; return what was claimed."""
        tasks = self._claimed(wish, chosen)
        writes = [becoming(record, task) for record, task in zip(chosen, tasks, strict=True)]
        overdue = [
            record
            for queue in queues
            for record in self._line(queue).overdue(wish.now, PROMOTED_PER_CLAIM)
        ]
        writes += [
            becoming(record, lifecycle.promote(bare_task(record)))
            for record in await self._believed(overdue, wish.now)
            if record.head.status == TaskStatus.SCHEDULED.value
        ]
        answers = await self._shelf.write(writes)
        for promoted in answers[len(chosen) :]:
            if promoted is not None:
                self._line(promoted.place.queue).add(promoted)
        return [task for task, record in zip(tasks, answers, strict=False) if record is not None]

    def _claimed(self, wish: Wish, chosen: Sequence[Record]) -> list[Task]:
        now = wish.now or utcnow()
        ends_at = now + timedelta(seconds=wish.lease_seconds)
        return [
            lifecycle.claim(
                self._shelf.codec.task(record),
                worker_id=wish.worker_id,
                lease_token=wish.lease_token,
                lease_ends_at=ends_at,
                now=now,
            )
            for record in chosen
        ]

    def _was_long_ago(self) -> bool:
        return time.monotonic() - self._caught_up_at > CATCH_UP_SECONDS

    async def _catch_up(self) -> None:
        """Tell of the ends of which the dead could not."""
        self._caught_up_at = time.monotonic()
        await self._dependants.catch_up(utcnow())

    async def _take_in(self, queues: Sequence[str]) -> None:
        """Read what arrived since the last look: one round trip, unless it is a great deal.

        A cursor hears of a message a moment after it is stored. So the stream itself is asked too
        whether there is more, and if so, the cursor is read again.
        """
        places = self._shelf.places
        lanes = [self.lane(queue) for queue in queues]
        patterns = [places.some(READY, queue=queue) for queue in queues]
        also = [subject(queue) for queue in queues for subject in (places.paused, places.name)]
        waiting: list[Record] = []
        looked = Look([], [], 0)
        for attempt in range(ATTEMPTS + REPLICA_LOOKS * self._shelf.stream.replicated):
            positions = [lane.cursor.position for lane in lanes]
            looked, *fills = await _all_of(
                self._shelf.stream.look(patterns, positions, also), *map(self._fill, lanes)
            )
            waiting += [record for fill in fills for record in fill]
            if _got_all(lanes, looked):
                break
            late = attempt - ATTEMPTS + 1  # only a copy that is behind its leader takes so long
            await asyncio.sleep(0.0002 * attempt if late < 0 else 0.005 * 2**late)
        self._paused.difference_update(queues)
        self._paused |= {
            places.queue_of(stored.subject) for stored in looked.also if stored.data == PAUSED
        }
        if waiting:
            await self._dependants.look_after(waiting, utcnow())

    async def _fill(self, lane: Lane) -> list[Record]:
        """Take in what is new, as far as there is room; return what is only to be looked after."""
        waiting: list[Record] = []
        while len(lane.line) < LOOK_AHEAD:
            page = await lane.cursor.next()
            for record in map(self._shelf.codec.record, page):
                if record.head.status == TaskStatus.WAITING.value:
                    waiting.append(record)
                else:
                    lane.line.add(record)
            if len(page) < PAGE:
                break
        return waiting

    async def _ring(self, queue: str, now: datetime) -> None:
        """Take in what is due at a moment of the caller's: the server goes by its own clock."""
        line = self._line(queue)
        for stored in await self._shelf.stream.all(self._shelf.places.some(TIMED, queue=queue)):
            record = self._shelf.codec.record(stored)
            if is_due(record, now):
                line.add(record)

    async def _believed(self, chosen: Sequence[Record], now: datetime | None) -> list[Record]:
        """Read again what the server moved, for it moves things late; return what is claimable."""
        moved = [record.place.task_id for record in chosen if record.place.was_moved]
        if not moved:
            return list(chosen)
        found = await self._shelf.read(moved)
        believed: list[Record] = []
        for record in chosen:
            if not record.place.was_moved:
                believed.append(record)
                continue
            current = found.get(record.place.task_id)
            if current is not None and current.place.group == READY and is_due(current, now):
                believed.append(current)
        return believed

    async def _after_refusals(
        self, queues: Sequence[str], refused: Sequence[Record], tried: int, turn: int
    ) -> None:
        """Put back what is still there, see what else is gone, and make way for other claims."""
        subjects = [self._shelf.places.subject(record.place) for record in refused]
        standing = {stored.sequence for stored in await self._shelf.stream.last(subjects)}
        back = [record.place.task_id for record in refused if record.sequence in standing]
        for record in (await self._shelf.read(back)).values():
            if record.place.group == READY:
                self._line(record.place.queue).add(record)
        if 2 * len(refused) > tried:
            await self._renew(queues)
        if (len(refused) >= CROWD and 4 * len(refused) > tried) or turn >= PATIENCE:
            self._spread = min(WIDEST_SPREAD, 2 * self._spread)

    async def _renew(self, queues: Sequence[str]) -> None:
        """Drop those of the first records that are gone, and a long line altogether."""
        for queue in queues:
            if len(self._line(queue)) > LONG_LINE:
                await self._lanes.pop(queue).cursor.close()
        firsts = [record for queue in queues for record in self._line(queue).first(PROVED)]
        subjects = [self._shelf.places.subject(record.place) for record in firsts]
        standing = {stored.sequence for stored in await self._shelf.stream.last(subjects)}
        for record in firsts:
            if record.sequence not in standing:
                self._line(record.place.queue).drop(record)

    def _line(self, queue: str) -> Line:
        return self.lane(queue).line

    def lane(self, queue: str) -> Lane:
        """Return what is known of a queue."""
        lane = self._lanes.get(queue)
        if lane is None:
            pattern = self._shelf.places.some(READY, queue=queue)
            lane = self._lanes[queue] = Lane(Line(), self._shelf.stream.cursor(pattern))
        return lane


def _has_lost_its_lease(record: Record) -> bool:
    return record.head.status == TaskStatus.RUNNING.value


def _got_all(lanes: Sequence[Lane], looked: Look) -> bool:
    """Whether every lane has what was there; where there was nothing, its search goes on later."""
    for lane, sequence in zip(lanes, looked.more, strict=True):
        if not sequence:
            lane.cursor.position = max(lane.cursor.position, looked.up_to)
        elif lane.cursor.position < sequence and len(lane.line) < LOOK_AHEAD:
            return False
    return True


async def _all_of(*calls: Awaitable[Any]) -> list[Any]:
    """Make calls at once and wait for all of them, whatever becomes of one."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers
