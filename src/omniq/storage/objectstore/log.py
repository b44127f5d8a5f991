"""`ObjectLog`: one state that many processes share, as a log of objects that are only ever created.

A commit creates the object of the next number, on condition that there is none: who wins has the
lock, the commit and its place in the order in one request. Who loses reads what was committed and
tries again. What a commit holds are effects, so that all come to the same state whatever version
of the code they run.

Old segments are deleted, so a number could be created twice by one who slept meanwhile. Therefore
two rules. Nothing is deleted before it is covered by a snapshot that is itself older than
`TRIM_AGE`. And nobody trusts to be current for longer than half of that since the last look: after
that the snapshots are listed anew, and an answer that comes later says nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeVar, cast
from uuid import uuid4

from omniq.exceptions import StorageUnavailableError
from omniq.storage.objectstore.driver import ABSENT, ObjectDriver, Stored
from omniq.storage.objectstore.frames import FORMAT, Content, Header, pack, unpack
from omniq.storage.objectstore.logstate import LogState
from omniq.storage.objectstore.snapshots import Snapshots, key_of
from omniq.storage.objectstore.together import together
from omniq.storage.objectstore.trust import Reading, TrustClock

logger = logging.getLogger("omniq.storage.objectstore")

TRIM_AGE = timedelta(hours=1)
TRUST_SECONDS = TRIM_AGE.total_seconds() / 2
SNAPSHOT_EVERY = 256
SNAPSHOT_BYTES = 4 << 20
SEGMENT_BYTES = 8 << 20
"""Calls share a segment up to this size."""
JOBS_AT_ONCE = 1000
SEGMENTS_AT_ONCE = 32
ATTEMPTS = 200
_LONGEST_PAUSE = 1.0

R = TypeVar("R")


S = TypeVar("S", bound=LogState)


class Damage(NamedTuple):
    """A line of an object that cannot be read."""

    key: str
    line: bytes


class _TooLargeError(Exception):
    """These calls change too much for one segment."""


class _Call(NamedTuple):
    """A job and who waits for it."""

    job: Callable[[Any], Any]
    future: asyncio.Future[Any]


_Answer = tuple[_Call, Any, BaseException | None]


class ObjectLog(Generic[S]):
    """A state and the log it is kept in. Bound to one event loop.

    Args:
        driver: open.
        folder: of the keys.
        state: empty; in nobody else's hands from here on.
        clock: says how long ago a look was.
        on_look: called after each look, and told whether there was news.
        on_commit: called after each commit of this process.
    """

    def __init__(
        self,
        driver: ObjectDriver,
        folder: str,
        state: S,
        *,
        clock: TrustClock | None = None,
        on_look: Callable[[bool], None] = lambda _: None,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = state
        self.damages: list[Damage] = []
        self.on_renew: Callable[[], None] = lambda: None  # called when the state was read anew
        self._driver = driver
        self._folder = f"{folder}/.log"
        self._damaged = f"{folder}/.damaged"
        self._snapshots = Snapshots(
            driver, segments=self._folder, folder=f"{folder}/.snapshots", trim_age=TRIM_AGE
        )
        self._clock = clock or TrustClock()
        self._on_look = on_look
        self._on_commit = on_commit
        self._seq = self._covered = 0
        self._is_loaded = False
        self._current_at: Reading | None = None
        self._steps = 0
        self._segments = self._bytes = self._snapshot_bytes = 0
        self._waiting: list[_Call] = []
        self._pump: asyncio.Task[None] | None = None
        self._sides: set[asyncio.Task[None]] = set()

    @property
    def seq(self) -> int:
        """The number of the last segment that is part of the state."""
        return self._seq

    @property
    def covered(self) -> int:
        """The number of the last snapshot, as far as it is known."""
        return self._covered

    async def run(self, job: Callable[[S], R]) -> R:
        """Do a job on the current state; return what it returned, once its changes are committed.

        It may be done several times, each time on a newer state: it must change nothing but that,
        and return no part of it that changes.

        Raises:
            StorageUnavailableError: no answer; the changes may or may not have been made.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(job, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._work())
        return cast("R", await future)

    async def look(self) -> None:
        """Hear of what others committed."""
        await self.run(_nothing)

    async def close(self) -> None:
        """Finish all jobs and what goes on beside them."""
        while self._pump is not None or self._sides:
            going = [*self._sides, *([self._pump] if self._pump else [])]
            await asyncio.wait(going)

    async def _work(self) -> None:
        """Serve all calls that wait, until none does; a task, so that calls of this tick join."""
        try:
            while self._waiting:
                calls = self._waiting[:JOBS_AT_ONCE]
                del self._waiting[:JOBS_AT_ONCE]
                wanted = [call for call in calls if not call.future.done()]
                if wanted:
                    _answer(await self._served(wanted))
        finally:
            self._pump = None

    async def _served(self, calls: list[_Call]) -> list[_Answer]:
        try:
            return await self._commit(calls)
        except _TooLargeError:
            self._take_back(self._steps)
            middle = len(calls) // 2
            return await self._served(calls[:middle]) + await self._served(calls[middle:])
        except asyncio.CancelledError:
            for call in calls:
                call.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to the callers
            self._take_back(self._steps)
            return [(call, None, error) for call in calls]

    async def _commit(self, calls: list[_Call]) -> list[_Answer]:
        """Do the jobs on the newest state there is and commit what they change."""
        has_looked = self._is_late()
        if has_looked:
            await self._renew()
            await self._look()
        for attempt in range(ATTEMPTS):
            answers = [self._tried(call) for call in calls]
            records = self.state.changes()
            if len(calls) > 1 and sum(map(len, records)) > SEGMENT_BYTES:
                raise _TooLargeError
            if records and await self._append(records):
                return answers
            self._take_back(self._steps)
            if not records and has_looked:
                return answers
            is_news, has_looked = await self._look(2 if records else 1), True
            if not records and not is_news:
                return answers
            if attempt:
                await asyncio.sleep(_pause(attempt))
        raise StorageUnavailableError(
            f"{self._driver}: {ATTEMPTS} commits of others came first; nothing was changed"
        )

    def _tried(self, call: _Call) -> _Answer:
        self.state.begin()
        self._steps += 1
        try:
            return call, call.job(self.state), None
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self._take_back(1)
            return call, None, error

    def _take_back(self, steps: int) -> None:
        for _ in range(steps):
            self._steps -= 1
            self.state.take_back()

    async def _append(self, records: Sequence[bytes]) -> bool:
        """Commit as the next segment; False: somebody else came first."""
        seq, sent_at = self._seq + 1, self._clock.now()
        is_marked = self._is_snapshot_due(records)
        data = pack(Header(FORMAT, uuid4().hex, is_marked), records)
        version = await self._driver.put(key_of(self._folder, seq), data, expected=ABSENT)
        if self._is_late():
            self._current_at = None
            raise StorageUnavailableError(
                f"{self._driver}: the answer came too late to be trusted; the call may or may not "
                "have been carried out"
            )
        if version is None:
            return False
        self._steps = 0
        self.state.keep()
        self._advance(len(data), is_marked=is_marked)
        self._current_at = sent_at
        if is_marked:
            self._take_snapshot()
        self._on_look(True)
        self._on_commit()
        return True

    async def _look(self, width: int = 1) -> bool:
        """Apply all segments that are new; return whether there were any.

        `width` is how many are asked for at first: who knows of one asks for its successor too.
        """
        found = False
        while True:
            sent_at = self._clock.now()
            numbers = range(self._seq + 1, self._seq + 1 + width)
            stored = await self._segments_of(numbers)
            if self._is_late():
                await self._renew()
                found = True
                continue
            for segment in stored:
                if segment is None:
                    self._current_at = sent_at
                    self._on_look(found)
                    return found
                self._apply(segment.data)
                found = True
            width = min(width * 2, SEGMENTS_AT_ONCE)

    def _apply(self, data: bytes) -> None:
        """Make the changes of the next segment."""
        seq, content = self._seq + 1, unpack(data)
        odd = self.state.apply(content.records)
        self._set_aside(key_of(self._folder, seq), [*content.damaged, *odd])
        is_marked = content.header is not None and content.header.is_marked
        self._advance(len(data), is_marked=is_marked)

    def _advance(self, size: int, *, is_marked: bool) -> None:
        self._seq += 1
        self._segments += 1
        self._bytes += size
        if is_marked:
            self._segments = self._bytes = 0
            self._covered = self._seq

    def _is_late(self) -> bool:
        """Whether what was seen last is too long ago to be trusted."""
        at = self._current_at
        return at is None or self._clock.seconds_since(at) > TRUST_SECONDS

    async def _renew(self) -> None:
        """Begin anew from the newest snapshot, unless the state is newer than that.

        Segments after the newest snapshot listed now are there for `TRIM_AGE` from now on.
        """
        while True:
            asked_at = self._clock.now()
            numbers = await self._snapshots.numbers()
            newest = numbers[-1] if numbers else 0
            if (self._is_loaded and newest <= self._seq) or await self._load(numbers):
                self._is_loaded = True
                self._current_at = asked_at
                return

    async def _load(self, numbers: list[int]) -> bool:
        """Become what the newest snapshot says; False: one is gone meanwhile.

        One that is damaged is made up for by an older one and the segments in between.
        """
        if not numbers:
            self._become(0, Content(None, [], []))
            return True
        newest = numbers[-1]
        for number in reversed(numbers):
            content = await self._snapshots.read(number)
            if content is None:
                return False
            if content.header is not None and not content.damaged:
                self._become(number, content)
                if await self._replay(newest):
                    return True
            logger.error("%s: snapshot %d is damaged or lacks segments", self._driver, number)
        content = await self._snapshots.read(newest)
        if content is None:
            return False
        self._become(newest, content)
        return True

    def _become(self, number: int, content: Content) -> None:
        self.state.clear()
        odd = self.state.apply(content.records)
        self._set_aside(self._snapshots.key(number), [*content.damaged, *odd])
        self._seq = self._covered = number
        self._segments = self._bytes = 0
        self._snapshot_bytes = sum(map(len, content.records))
        self.on_renew()

    async def _replay(self, until: int) -> bool:
        """Apply the segments up to a number; False: one is missing."""
        while self._seq < until:
            last = min(until, self._seq + SEGMENTS_AT_ONCE)
            for segment in await self._segments_of(range(self._seq + 1, last + 1)):
                if segment is None:
                    return False
                self._apply(segment.data)
        return True

    async def _segments_of(self, numbers: range) -> list[Stored | None]:
        return await together(self._driver.get(key_of(self._folder, seq)) for seq in numbers)

    def _set_aside(self, key: str, lines: list[bytes]) -> None:
        """Keep lines that are no records any more where a person finds them; nothing reads them."""
        for line in lines:
            logger.error("%s: a record of %s is damaged: %.200r", self._driver, key, line)
            self.damages.append(Damage(key, line))
            self._beside(self._keep_damage(key, line))

    async def _keep_damage(self, key: str, line: bytes) -> None:
        name = f"{key.rpartition('/')[2]}-{len(self.damages):04d}"
        await self._driver.put(f"{self._damaged}/{name}", line, expected=ABSENT)

    def _take_snapshot(self) -> None:
        """Keep the state as of now; written beside what goes on."""
        records = list(self.state.dump())
        self._snapshot_bytes = sum(map(len, records))
        data = pack(Header(FORMAT, uuid4().hex), records)
        self._beside(self._snapshots.save(self._seq, data))

    def _is_snapshot_due(self, records: Sequence[bytes]) -> bool:
        size = self._bytes + sum(map(len, records))
        return self._segments + 1 >= SNAPSHOT_EVERY or size > max(
            SNAPSHOT_BYTES, self._snapshot_bytes // 2
        )

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something nobody waits for; what fails is done another time, by whoever comes then."""
        task = asyncio.create_task(work)
        self._sides.add(task)
        task.add_done_callback(self._done_beside)

    def _done_beside(self, task: asyncio.Task[None]) -> None:
        self._sides.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("%s: %s", self._driver, error)


def _answer(answers: list[_Answer]) -> None:
    for call, result, error in answers:
        if call.future.done():
            continue
        if error is None:
            call.future.set_result(result)
        else:
            call.future.set_exception(error)


def _nothing(_: object) -> None:
    """Change nothing: to look is enough."""


def _pause(attempt: int) -> float:
    longest = min(_LONGEST_PAUSE, 0.01 * 2**attempt)
    return random.uniform(0, longest)  # noqa: S311 - jitter
