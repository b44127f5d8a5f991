"""`NATSResultStorage`: results in a key-value bucket of JetStream."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Unpack

from omniq.clock import utcnow
from omniq.exceptions import StaleTaskError
from omniq.ids import check_name
from omniq.models.result import TaskResult
from omniq.serialization import MAX_RESULT_BYTES, RecordCodec, SerializationFormat
from omniq.storage.nats.address import NATSOptions
from omniq.storage.nats.component import (
    BUCKET_REQUIRED,
    NATSComponent,
    bucket_config,
    rounds,
    server_of,
    token,
    untoken,
)
from omniq.storage.nats.frames import Frame, lines
from omniq.storage.nats.jetstream import EXPECTED, Stream
from omniq.storage.nats.link import NATSServer
from omniq.storage.nats.listing import Listing
from omniq.storage.nats.signals import Signals
from omniq.storage.results import BaseResultStorage

ATTEMPTS = 100
EXPIRY_GRACE_SECONDS = 60
"""So long after its end the server still keeps a result: reads decide about expiry, not it."""
LONGEST_TTL_SECONDS = 100 * 365 * 86_400
"""What lives longer is left to `purge`: the server counts nanoseconds in 64 bits."""
LONGEST_SLEEP_SECONDS = 1.0


class _Standing(NamedTuple):
    """What the bucket holds for a task."""

    sequence: int
    result: TaskResult


class NATSResultStorage(NATSComponent, BaseResultStorage):
    """Results in the bucket ``<namespace>_results``; the server deletes what expired.

    Args:
        servers: one URL or several, see `omniq.storage.nats.address`.
        serialization_format: how new values are encoded.
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
        bucket = f"{self._server.prefix}_results"
        self._prefix = f"$KV.{bucket}."
        self._wake = f"{self._server.prefix}.wake.results"
        self.stream = Stream(
            self._server, f"KV_{bucket}", bucket_config(bucket, self._wake), BUCKET_REQUIRED
        )
        self._codec = RecordCodec(
            TaskResult, ("result",), format=serialization_format, limit=MAX_RESULT_BYTES
        )
        self._signals = Signals(self._server)
        self._listing = Listing(self.stream, f"{self._prefix}>", self._id_of)

    async def wait(self, task_id: str, timeout: float | None = None) -> TaskResult | None:
        """Return the result as soon as there is one; None after `timeout` seconds (None: never)."""
        check_name("task_id", task_id)
        await self.connect()
        ends_at = math.inf if timeout is None else time.monotonic() + timeout
        pause = 0.05
        while True:
            async with self._signals.listening([f"{self._wake}.{token(task_id)}"]) as heard:
                found = await self.get(task_id)
                left = ends_at - time.monotonic()
                if found is not None or left <= 0:
                    return found
                await heard(min(left, pause))
            pause = min(2 * pause, LONGEST_SLEEP_SECONDS)

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        encoded = [self._codec.encode(result) for result in results]
        stands = [False] * len(results)
        for places in rounds([result.task_id for result in results]):
            await self._set_each(results, encoded, places, stands)
        return stands

    async def _set_each(
        self, results: list[TaskResult], encoded: list[bytes], places: list[int], stands: list[bool]
    ) -> None:
        """Store the results at these places, of which no two are of one task."""
        revisions = dict.fromkeys(places, 0)
        for _ in range(ATTEMPTS):
            frames = [self._frame(results[n], encoded[n], revisions[n]) for n in places]
            accepted = await self.stream.publish(frames)
            for n, sequence in zip(places, accepted, strict=True):
                stands[n] = sequence > 0
            places = [n for n in places if not stands[n]]
            if not places:
                return
            now = utcnow()
            standing = await self._standing([results[n].task_id for n in places])
            for n in places:
                found = standing.get(results[n].task_id)
                revisions[n] = found.sequence if found else 0
                if found and _lives(found.result, now) and _is_later(found.result, results[n]):
                    del revisions[n]
            places = [n for n in places if n in revisions]
        raise StaleTaskError(f"result {results[places[0]].task_id} kept changing; try again")

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        moment = now or utcnow()
        standing = await self._standing(list(dict.fromkeys(task_ids)))
        living = {key: one.result for key, one in standing.items() if _lives(one.result, moment)}
        # Each place gets an object of its own.
        seen: set[str] = set()
        answer: list[TaskResult | None] = []
        for task_id in task_ids:
            found = living.get(task_id)
            if found is not None and task_id in seen:
                found = self._codec.decode(self._codec.encode(found))
            seen.add(task_id)
            answer.append(found)
        return answer

    async def _delete(self, task_ids: list[str]) -> int:
        now = utcnow()
        wanted = list(dict.fromkeys(task_ids))
        deleted = 0
        for _ in range(ATTEMPTS):
            standing = await self._standing(wanted)
            if not standing:
                return deleted
            gone = await self.stream.delete([one.sequence for one in standing.values()])
            pairs = list(zip(standing.items(), gone, strict=True))
            deleted += sum(ok and _lives(one.result, now) for (_, one), ok in pairs)
            wanted = [task_id for (task_id, _), ok in pairs if not ok]
        return deleted

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        moment = now or utcnow()
        listed = await self._listing.ids_after(after, [f"{self._prefix}>"])
        page: list[TaskResult] = []
        for start in range(0, len(listed.ids), limit):
            wanted = listed.ids[start : start + limit]
            standing = await self._standing(wanted)
            found = (standing[task_id].result for task_id in wanted if task_id in standing)
            page += [result for result in found if _lives(result, moment)]
            if len(page) >= limit:
                break
        if len(page) >= limit:
            self._listing.go_on_after(page[limit - 1].task_id, listed)
        return page[:limit]

    async def _purge(self, now: datetime | None, limit: int) -> int:
        moment = now or utcnow()
        expired: list[int] = []
        async for page in self.stream.pages(f"{self._prefix}>"):
            expired += [
                stored.sequence
                for stored in page
                if not _lives(self._codec.decode(stored.data), moment)
            ]
            if len(expired) >= limit:
                break
        return sum(await self.stream.delete(expired[:limit]))

    async def _standing(self, task_ids: list[str]) -> dict[str, _Standing]:
        found = await self.stream.last([self._subject(task_id) for task_id in task_ids])
        results = [(one.sequence, self._codec.decode(one.data)) for one in found if one.data]
        return {result.task_id: _Standing(sequence, result) for sequence, result in results}

    def _id_of(self, subject: str) -> str:
        return untoken(subject.removeprefix(self._prefix))

    def _subject(self, task_id: str) -> str:
        return self._prefix + token(task_id)

    def _frame(self, result: TaskResult, data: bytes, revision: int) -> Frame:
        headers: dict[str, object] = {EXPECTED: revision}
        if result.expires_at is not None:
            seconds = math.ceil((result.expires_at - utcnow()).total_seconds())
            if seconds <= LONGEST_TTL_SECONDS:
                headers["Nats-TTL"] = f"{max(0, seconds) + EXPIRY_GRACE_SECONDS}s"
        return Frame(self._subject(result.task_id), data, lines(headers))


def _lives(result: TaskResult, now: datetime) -> bool:
    return result.expires_at is None or result.expires_at > now


def _is_later(standing: TaskResult, result: TaskResult) -> bool:
    return standing.claim_count > result.claim_count


AsyncNATSResultStorage = NATSResultStorage
NatsResultStorage = NATSResultStorage
AsyncNatsResultStorage = NATSResultStorage
