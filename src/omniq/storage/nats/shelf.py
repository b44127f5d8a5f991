"""`Shelf`: reading and writing task records by revision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from secrets import token_hex
from typing import NamedTuple

from omniq.clock import from_micros, utcnow
from omniq.exceptions import StaleTaskError, StorageUnavailableError
from omniq.models.task import Task, TaskStatus
from omniq.storage.nats.frames import Frame
from omniq.storage.nats.jetstream import EXPECTED, Stream
from omniq.storage.nats.link import NATSServer
from omniq.storage.nats.places import NEVER, READY, TIMED, WAITS, Place, Places, first_place
from omniq.storage.nats.records import Head, Record, TaskCodec, data_of, head_after

ATTEMPTS = 100
_NEVER = NEVER.isoformat()
HELD_RECORDS = 20_000
LAST_BEFORE_A_CRASH = 1000
LOOK_AFTER = (timedelta(minutes=1), timedelta(minutes=10))
"""A waiting task sees by itself what became of its parents, first and longest after this."""

OTHER_CLOCK = timedelta(seconds=5)
"""A moment further in the past than this is one of a caller's clock that is not the present's; such
callers say what is due. The server need not hurry."""
SHORTEST_LEASE = timedelta(seconds=1)
"""A lease that ends sooner is not moved on before: its holder is most likely about to settle."""


class Write(NamedTuple):
    """A record to be stored in place of `before`, or as a new one."""

    before: Record | None
    head: Head
    request: bytes
    queue: str
    task_id: str


Change = Callable[[Record], Head | None]
"""What a record is to become; None leaves it."""
Publish = Callable[[Sequence[Frame]], Awaitable[list[int]]]
"""As `Stream.publish`."""


class Shelf:
    """The stream of a namespace's tasks.

    Attributes:
        held: records of running tasks as this process last saw them, so that the end of a run need
            not read first. They may be stale: a write by a stale revision is refused.
    """

    def __init__(self, server: NATSServer, codec: TaskCodec, places: Places) -> None:
        self.places = places
        self.codec = codec
        self.held: dict[str, Record] = {}
        self._server = server
        self.stream = Stream(
            server,
            f"{server.prefix}_tasks",
            {
                "subjects": [f"{places.base}.>"],
                "max_msgs_per_subject": 1,
                "allow_rollup_hdrs": True,
                "allow_atomic": True,
                "allow_msg_schedules": True,
                "republish": {
                    "src": f"{places.ready}.>",
                    "dest": f"{places.wake}.>",
                    "headers_only": True,
                },
            },
            ("max_msgs_per_subject", "allow_atomic", "allow_msg_schedules", "allow_rollup_hdrs"),
        )

    async def read(self, task_ids: Sequence[str]) -> dict[str, Record]:
        """Return the records of these ids; messages that are not the task any more are deleted."""
        stored = await self.stream.last([self.places.anywhere(one) for one in task_ids])
        records = [self.codec.record(one) for one in stored]
        if self.stream.replicated:
            records += await self._others([one for one in records if one.place.was_moved])
        return await self._sorted_out(records)

    async def read_at(self, subjects: Sequence[str]) -> dict[str, Record]:
        """Return the records of the tasks that stand on these subjects, each task on all it has."""
        return await self._sorted_out(
            [self.codec.record(one) for one in await self.stream.last(subjects)]
        )

    async def _sorted_out(self, records: Sequence[Record]) -> dict[str, Record]:
        """Return the task of each id; delete the messages that are not the task any more."""
        found: dict[str, Record] = {}
        for record in records:
            known = found.get(record.place.task_id)
            if known is None or known.age < record.age:
                found[record.place.task_id] = record
        current = {record.sequence for record in found.values()}
        await self.stream.delete(sorted({one.sequence for one in records} - current))
        return found

    async def run_id(self) -> str:
        """Return the id of the run of the server we are connected to: another after a restart."""
        return str((await self._server.info()).get("server_id"))

    async def mend(self) -> None:
        """Delete messages that were replaced shortly before the server crashed.

        A server that is killed may forget its last deletions. What has replaced those messages is
        among the last that it stored, and reading a task deletes what is not the task any more.
        """
        start = await self.stream.last_sequence() - LAST_BEFORE_A_CRASH
        (last,) = await self.stream.first_pages([self.places.some()], start)
        await self.read(sorted({self.places.read(one.subject).task_id for one in last}))

    async def _others(self, moved: Sequence[Record]) -> list[Record]:
        """Return all messages of tasks whose last one may be late; the leader gives one a time."""
        subjects: list[str] = []
        for record in moved:
            subjects += await self.stream.subjects(self.places.anywhere(record.place.task_id))
        return [self.codec.record(one) for one in await self.stream.last(subjects)]

    async def write(
        self, writes: Sequence[Write], publish: Publish | None = None
    ) -> list[Record | None]:
        """Store records, each if nobody changed its task meanwhile; None for those who lost.

        When the answer gets lost, all are sent once more, and what stands already is recognised.
        `publish` sends the messages, instead of that of the stream.
        """
        if not writes:
            return []
        now = utcnow()
        _sign(writes)
        places = [self._place(write, now) for write in writes]
        frames = [
            self._frame(write, place, now) for write, place in zip(writes, places, strict=True)
        ]
        publish = publish or self.stream.publish
        try:
            sequences, known = await publish(frames), dict[str, Record]()
        except StorageUnavailableError:
            sequences = await publish(frames)
            known = await self._standing(writes, sequences)
        answers: list[Record | None] = []
        for write, place, sequence in zip(writes, places, sequences, strict=True):
            record = Record(place, sequence, write.head, write.request) if sequence else None
            answers.append(record or known.get(write.head.nonce))
            self._remember(write, answers[-1])
        await self._clear(writes, answers)
        return answers

    async def write_together(self, write: Write, others: Sequence[Frame]) -> Record | None:
        """Store a record and other messages, all or none; None if one of them lost."""
        now = utcnow()
        _sign([write])
        place = self._place(write, now)
        frames = [*others, self._frame(write, place, now)]
        try:
            sequence, known = await self.stream.publish_together(frames), dict[str, Record]()
        except StorageUnavailableError:
            sequence = await self.stream.publish_together(frames)
            known = await self._standing([write], [sequence])
        record = Record(place, sequence, write.head, write.request) if sequence else None
        record = record or known.get(write.head.nonce)
        self._remember(write, record)
        await self._clear([write], [record])
        return record

    async def _standing(
        self, writes: Sequence[Write], sequences: Sequence[int]
    ) -> dict[str, Record]:
        """Return, by nonce, the records of refused writes that stand all the same.

        A new task may have been changed by others since. Its request never changes: one found
        stored with the very same request is ours.
        """
        pairs = zip(writes, sequences, strict=True)
        refused = {write.task_id: write for write, sequence in pairs if not sequence}
        found = await self.read(list(refused))
        return {
            write.head.nonce: found[task_id]
            for task_id, write in refused.items()
            if task_id in found and _is_made_by(write, found[task_id])
        }

    async def update(self, task_ids: Iterable[str], change: Change) -> list[Record]:
        """Change records as `change` says, however often they change meanwhile.

        Returns those that were changed, as they are now. `change` may be called again for one.
        """
        left = list(dict.fromkeys(task_ids))
        changed: list[Record] = []
        for _ in range(ATTEMPTS):
            found = (await self.read(left)).values() if left else ()
            wanted = [(record, change(record)) for record in found]
            writes = [replacing(record, head) for record, head in wanted if head is not None]
            answers = await self.write(writes)
            changed += [record for record in answers if record is not None]
            pairs = zip(writes, answers, strict=True)
            left = [write.task_id for write, record in pairs if record is None]
            if not left:
                return changed
        raise StaleTaskError(f"task {left[0]} kept changing; try again")

    def _frame(self, write: Write, place: Place, now: datetime) -> Frame:
        """Return the message of a write to a place."""
        before = write.before
        expected = self.places.anywhere(write.task_id, write.queue if before else None)
        headers = (
            f"{EXPECTED}: {before.sequence if before else 0}\r\n{EXPECTED}-Subject: {expected}\r\n"
        )
        if place.is_scheduled:
            moment, target = self._schedule(write.head, place, now)
            headers += f"Nats-Schedule: @at {moment}\r\nNats-Schedule-Target: {target}\r\n"
        if before is not None and before.place.is_scheduled and before.place != place:
            gone = self.places.subject(before.place)
            headers += f"Nats-Scheduler: {gone}\r\nNats-Schedule-Next: purge\r\n"
        data = data_of(write.head, write.request)
        return Frame(self.places.subject(place), data, headers.encode())

    def _schedule(self, head: Head, place: Place, now: datetime) -> tuple[str, str]:
        """Return when the server moves a message on, and where to."""
        if place.group == READY:
            return _NEVER, f"{self.places.base}.void"
        if place.group == WAITS:
            age = now - from_micros(head.created_at)
            moment = now + min(max(age, LOOK_AFTER[0]), LOOK_AFTER[1])
        else:
            moment = _timer(now if head.due_at is None else from_micros(head.due_at), place, now)
        return moment.isoformat(), self.places.subject(place._replace(group=READY))

    def _place(self, write: Write, now: datetime) -> Place:
        finished = write.head.finished_at
        finished_at = None if finished is None else from_micros(finished)
        status = TaskStatus(write.head.status)
        return first_place(status, write.queue, write.task_id, finished_at, now)

    def _remember(self, write: Write, record: Record | None) -> None:
        if record is None or record.place.group != TIMED:
            self.held.pop(write.task_id, None)
            return
        self.held[write.task_id] = record
        if len(self.held) > HELD_RECORDS:
            self.held.pop(next(iter(self.held)), None)

    async def _clear(self, writes: Sequence[Write], answers: Sequence[Record | None]) -> None:
        """Delete the messages that were replaced and did not go by themselves."""
        gone: list[int] = []
        for write, record in zip(writes, answers, strict=True):
            before = write.before
            if record is None or before is None or before.place.is_scheduled:
                continue
            if record.place != before.place:
                gone.append(before.sequence)
        await self.stream.delete(gone)


def _timer(due_at: datetime, place: Place, now: datetime) -> datetime:
    """Return when the server moves a timed message on: when it is due, within reason."""
    if due_at < now - OTHER_CLOCK:
        return now + OTHER_CLOCK
    if place.status is TaskStatus.RUNNING:
        return min(max(due_at, now + SHORTEST_LEASE), NEVER)
    return min(due_at, NEVER)


def _is_made_by(write: Write, record: Record) -> bool:
    if write.before is None:
        return record.request == write.request
    return record.head.nonce == write.head.nonce


def _sign(writes: Sequence[Write]) -> None:
    """Give each record a mark of its own."""
    call = token_hex(8)
    for number, write in enumerate(writes):
        write.head.nonce = f"{call}-{number}"


def replacing(record: Record, head: Head) -> Write:
    """Return the write that gives a record another state."""
    return Write(record, head, record.request, record.place.queue, record.place.task_id)


def becoming(record: Record, task: Task) -> Write:
    """Return the write that gives a record the state of `task`."""
    return replacing(record, head_after(record.head, task))
