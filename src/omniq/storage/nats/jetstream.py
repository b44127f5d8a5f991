"""`Stream`: what JetStream can do for a store, for any number of items at the cost of one trip.

The streams of this backend keep the last message of each subject (or every message, for events).
With one replica, reads are batched direct gets. With several, any replica answers those, and may
lag behind; point reads and listings then come from the stream's leader, and only scans that bear
it are direct.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from omniq.exceptions import PayloadTooLargeError, StorageError
from omniq.storage.nats import errors
from omniq.storage.nats.answers import (
    Info,
    Look,
    Stored,
    is_crowded,
    last_sequence,
    number_pending,
    read_ack,
    read_answer,
    read_info,
    stored_in,
)
from omniq.storage.nats.cursor import PAGE, Cursor
from omniq.storage.nats.errors import Problem
from omniq.storage.nats.frames import Delivery, Frame, one_batch
from omniq.storage.nats.link import NATSServer
from omniq.storage.nats.settings import refuse_other, settings_of

if TYPE_CHECKING:
    from omniq.storage.nats.wire import Wire

SUBJECTS_PER_READ = 500
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
BATCH_ATTEMPTS = 100
LAG_ATTEMPTS = 20
LAG_SECONDS = 0.005


class Stream:
    """One stream of a server, made when first used.

    Args:
        server: the shared handle.
        name: of the stream.
        config: what it must be like, as the API spells it; what the operator may choose (replicas,
            limits, compression, placement) is only used to create it.
        required: the keys of `config` that an existing stream must agree on.
    """

    def __init__(
        self, server: NATSServer, name: str, config: dict[str, Any], required: Iterable[str]
    ) -> None:
        self.name = name
        self._server = server
        self.config = settings_of(name, config, server.address.replicas)
        self._is_doubtful = False
        self._required = frozenset({"subjects", "allow_direct", "retention", *required})

    async def ensure(self) -> None:
        """Make the stream, or see that it is as it must be.

        Raises:
            SchemaError: it exists and is of another kind.
        """
        if self.name in self._server.streams and not self._is_doubtful:
            return
        info = await self._info()
        if info is None:
            await self._create()
            info = await self._info()
        if info is None:
            raise errors.no_responders(str(self._server), f"stream {self.name}")
        refuse_other(info.config, self.config, self._required, str(self._server))
        self._server.streams[self.name] = int(info.config.get("num_replicas", 1))
        self._is_doubtful = False

    async def publish(self, frames: Sequence[Frame]) -> list[int]:
        """Store messages, each for itself; return their sequences, 0 for those refused.

        Refused is a message whose expected sequence (see `EXPECTED`) is no longer the last.

        Raises:
            StorageError: the server refused one for another reason, or could not be reached.
        """
        if not frames:
            return []
        await self._prepare(frames)
        answers = await self._ask(frames)
        return [self._sequence(answer) for answer in answers]

    async def publish_both(
        self, frames: Sequence[Frame], other: Addressed
    ) -> tuple[list[int], list[int]]:
        """Do as `publish`, and store messages of another stream in the same round trip.

        Each message stands for itself, and may be refused as in `publish`; returns the sequences of
        both. Where this stream fails, what the other has stored is deleted.
        """
        stream, others = other
        await self._prepare(frames)
        await stream._prepare(others)

        def work(wire: Wire) -> Awaitable[list[Delivery]]:
            return wire.ask([*frames, *others])

        answers = await self._server.call(work, items=len(frames) + len(others))
        also = [stream._sequence(answer) for answer in answers[len(frames) :]]
        try:
            return [self._sequence(answer) for answer in answers[: len(frames)]], also
        except StorageError:
            with suppress(StorageError):  # the first error is the one to tell of
                await stream.delete([sequence for sequence in also if sequence])
            raise

    async def publish_together(self, frames: Sequence[Frame]) -> int:
        """Store up to 1000 messages, all or none; return the last sequence, 0 if refused.

        The server takes so many batches at a time; a further one waits its turn.
        """
        await self._prepare(frames)
        answer = await self._commit(frames)
        for _ in range(BATCH_ATTEMPTS):
            if not is_crowded(answer):
                break
            await asyncio.sleep(random.uniform(0.005, 0.1))  # noqa: S311 - jitter
            answer = await self._commit(frames)
        return self._sequence(answer)

    async def _commit(self, frames: Sequence[Frame]) -> Delivery:
        *begun, commit = one_batch(frames)

        async def work(wire: Wire) -> list[Delivery]:
            wire.post(begun)
            return await wire.ask([commit])

        (answer,) = await self._server.call(work, items=len(frames))
        return answer

    async def last(self, subjects: Sequence[str]) -> list[Stored]:
        """Return the last message of each subject that has one; subjects may hold wildcards.

        Of a subject with wildcards with several replicas, only the last of all is returned.
        """
        if not subjects:
            return []
        if self.replicated:
            return await self._last_by_leader(subjects)
        found: list[Stored] = []
        for start in range(0, len(subjects), SUBJECTS_PER_READ):
            wanted = list(subjects[start : start + SUBJECTS_PER_READ])
            found += (await self._direct([{"multi_last": wanted}]))[0]
        return found

    async def pages(self, pattern: str, *, start: int = 1) -> AsyncIterator[list[Stored]]:
        """Yield the messages on matching subjects from sequence `start` on, a page at a time."""
        for attempt in range(LAG_ATTEMPTS):
            end = await self._last_on(pattern) if self.replicated else 0
            async for page in self._pages(pattern, start):
                yield page
                start = page[-1].sequence + 1
            if start > end:
                return
            await asyncio.sleep(LAG_SECONDS * attempt)  # a replica that lags behind the leader

    async def _pages(self, pattern: str, start: int) -> AsyncIterator[list[Stored]]:
        (page,) = await self.first_pages([pattern], start)
        if page:
            yield page
        if len(page) < PAGE:
            return
        cursor = Cursor(self._server, self.name, pattern, page[-1].sequence)
        while page := await cursor.next():
            yield page
            if len(page) < PAGE:
                break
        await cursor.close()

    async def _last_on(self, pattern: str) -> int:
        found = await self._last_by_leader([pattern])
        return found[0].sequence if found else 0

    def cursor(self, pattern: str) -> Cursor:
        """Return a cursor that follows a pattern from the beginning."""
        return Cursor(self._server, self.name, pattern, rereads=True)

    async def first_pages(self, patterns: Sequence[str], start: int = 1) -> list[list[Stored]]:
        """Return the first page of each pattern from a sequence on, all in one round trip."""
        return await self._direct(
            [{"next_by_subj": one, "seq": max(1, start), "batch": PAGE} for one in patterns]
        )

    async def look(
        self, patterns: Sequence[str], after: Sequence[int], also: Sequence[str]
    ) -> Look:
        """See whether there is more on each pattern after a sequence, and read `also`."""
        requests = [
            {"next_by_subj": pattern, "seq": sequence + 1}
            for pattern, sequence in zip(patterns, after, strict=True)
        ]
        if self.replicated:
            known, more = await self.last(also), await self._by_leader(requests)
            return Look([0 if one is None else one.sequence for one in more], known, 0)
        singles = [self._get_frame(request) for request in requests]
        many = [self._get_frame({"multi_last": list(also)})]

        async def work(wire: Wire) -> tuple[list[list[Delivery]], list[Delivery]]:
            # In this order: what is known of the end of the stream is known before it is searched.
            known, found = await asyncio.gather(wire.collect(many), wire.ask(singles))
            return known, found

        (last,), found = await self._server.call(work, again=True)
        for one in (last[-1], *(one for one in found if one.status)):
            self._check_read(one)
        return Look(
            [0 if one.status else stored_in(one).sequence for one in found],
            [stored_in(one) for one in last[:-1]],
            last_sequence(last),
        )

    async def all(self, pattern: str) -> list[Stored]:
        """Return the last message of every matching subject (streams with one a subject)."""
        if self.replicated:
            return await self._last_by_leader(await self.subjects(pattern))
        return [stored async for page in self.pages(pattern) for stored in page]

    async def subjects(self, pattern: str) -> list[str]:
        """Return the subjects that match and hold a message."""
        found: list[str] = []
        while True:
            request = json.dumps({"subjects_filter": pattern, "offset": len(found)}).encode()
            info = read_info(await self._api("STREAM.INFO", request))
            self._raise(info.error, "listing subjects")
            found += info.state.subjects
            if not info.state.subjects or len(found) >= info.total:
                return found

    async def last_sequence(self) -> int:
        """Return the sequence of the last message ever stored."""
        info = await self._info()
        return 0 if info is None else info.state.last_seq

    async def info(self) -> Info:
        """Return what the server says about the stream now; nothing if it is gone."""
        return await self._info() or Info()

    async def count(self, patterns: Sequence[str]) -> list[int]:
        """Return how many messages there are on each pattern."""
        if not patterns:
            return []
        if self.replicated:
            return [len(await self.subjects(pattern)) for pattern in patterns]
        frames = [
            self._get_frame({"next_by_subj": pattern, "seq": 1, "batch": 1}) for pattern in patterns
        ]
        answers = await self._collect(frames)
        return [number_pending(answer) + 1 if len(answer) > 1 else 0 for answer in answers]

    async def delete(self, sequences: Sequence[int]) -> list[bool]:
        """Delete messages; for each, whether it was still there."""
        if not sequences:
            return []
        answers = await self._ask(
            [
                Frame(
                    f"$JS.API.STREAM.MSG.DELETE.{self.name}",
                    b'{"seq":%d,"no_erase":true}' % sequence,
                )
                for sequence in sequences
            ]
        )
        return [read_ack(answer.data).success for answer in answers]

    async def purge(self, pattern: str) -> int:
        """Delete the messages on matching subjects; return how many."""
        answer = read_ack(await self._api("STREAM.PURGE", json.dumps({"filter": pattern}).encode()))
        self._raise(answer.error, "purge")
        return answer.purged

    @property
    def replicated(self) -> bool:
        """Whether several servers keep the stream, so that a direct get may lag behind."""
        return self._server.streams.get(self.name, 1) > 1

    async def _prepare(self, frames: Sequence[Frame]) -> None:
        """See that the stream is there, and refuse what the server would hang up for."""
        if self._is_doubtful:
            await self.ensure()
        largest = max(len(frame.data) for frame in frames)
        limit = await self._server.largest_message()
        if largest > limit:
            raise PayloadTooLargeError(
                "payload",
                f"{largest:,} bytes stored, this NATS server takes {limit:,}; raise max_payload "
                "there, or store the data elsewhere and pass a reference",
            )

    async def _last_by_leader(self, subjects: Sequence[str]) -> list[Stored]:
        found = await self._by_leader([{"last_by_subj": subject} for subject in subjects])
        return [one for one in found if one is not None]

    async def _by_leader(self, requests: Sequence[dict[str, Any]]) -> list[Stored | None]:
        subject = f"$JS.API.STREAM.MSG.GET.{self.name}"
        frames = [Frame(subject, json.dumps(request).encode()) for request in requests]
        found: list[Stored | None] = []
        for answer in await self._ask(frames, again=True):
            read = read_answer(answer.data)
            if read.error is not None and read.error.err_code not in errors.NOT_FOUND:
                self._raise(read.error, "read")
            found.append(None if read.message is None else read.message.stored)
        return found

    async def _direct(self, requests: Sequence[dict[str, Any]]) -> list[list[Stored]]:
        answers = await self._collect([self._get_frame(request) for request in requests])
        return [[stored_in(one) for one in answer[:-1]] for answer in answers]

    def _get_frame(self, request: dict[str, Any]) -> Frame:
        return Frame(f"$JS.API.DIRECT.GET.{self.name}", json.dumps(request).encode())

    async def _collect(self, frames: Sequence[Frame]) -> list[list[Delivery]]:
        async def work(wire: Wire) -> list[list[Delivery]]:
            return await wire.collect(frames)

        if self._is_doubtful:
            await self.ensure()
        answers = await self._server.call(work, again=True, items=len(frames))
        for answer in answers:
            self._check_read(answer[-1])
        return answers

    def _check_read(self, last: Delivery) -> None:
        if last.status in {204, 404}:
            return
        if last.status == 503:
            self._is_doubtful = True
            raise errors.no_responders(str(self._server), f"stream {self.name}")
        reason = (last.headers or b"").decode(errors="replace").strip()
        raise StorageError(f"nats server {self._server}: stream {self.name}: {reason}")

    async def _ask(self, frames: Sequence[Frame], *, again: bool = False) -> list[Delivery]:
        def work(wire: Wire) -> Awaitable[list[Delivery]]:
            return wire.ask(frames)

        answers = await self._server.call(work, again=again, items=len(frames))
        if any(answer.status == 503 for answer in answers):
            self._is_doubtful = True
            raise errors.no_responders(str(self._server), f"stream {self.name}")
        return answers

    def _sequence(self, answer: Delivery) -> int:
        if answer.status == 503:
            self._is_doubtful = True
            raise errors.no_responders(str(self._server), f"stream {self.name}")
        ack = read_ack(answer.data)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code in errors.WRONG_SEQUENCE:
            return 0
        raise self._refused(ack.error, "publish")

    async def _api(self, call: str, request: bytes) -> bytes:
        frame = Frame(f"$JS.API.{call}.{self.name}", request)
        (answer,) = await self._ask([frame], again=call == "STREAM.INFO")
        return answer.data

    async def _info(self) -> Info | None:
        info = read_info(await self._api("STREAM.INFO", b""))
        if info.error is not None and info.error.err_code == errors.STREAM_NOT_FOUND:
            return None
        self._raise(info.error, f"stream {self.name}")
        return info

    async def _create(self) -> None:
        answer = read_info(await self._api("STREAM.CREATE", json.dumps(self.config).encode()))
        if answer.error is not None and answer.error.err_code != errors.NAME_TAKEN:
            raise self._refused(answer.error, f"stream {self.name}")

    def _raise(self, problem: Problem | None, what: str) -> None:
        if problem is not None:
            raise self._refused(problem, what)

    def _refused(self, problem: Problem, what: str) -> StorageError:
        return errors.refused(problem, str(self._server), what)


class Addressed(NamedTuple):
    """Messages, and the stream that is to store them."""

    stream: Stream
    frames: Sequence[Frame]
