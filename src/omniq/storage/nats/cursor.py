"""`Cursor`: reading a stream on and on from where the last read ended.

It is a short-lived pull consumer. Unlike a batched direct get, whose every page costs the server a
look at all that matches, it costs what it returns.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import uuid4

from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.storage.nats import errors
from omniq.storage.nats.answers import Stored, read_info
from omniq.storage.nats.frames import Delivery, Frame
from omniq.storage.nats.link import NATSServer

if TYPE_CHECKING:
    from omniq.storage.nats.wire import Wire

PAGE = 1000
ATTEMPTS = 6
KEPT_SECONDS = 300
"""The server forgets a cursor that was not used for so long; then it is made anew."""
_PULL = json.dumps({"batch": PAGE, "no_wait": True}).encode()
_GONE = frozenset({409, 503})


class Cursor:
    """The messages on matching subjects, in order. For one event loop, and one read at a time.

    Args:
        server: the shared handle.
        stream: the name of the stream.
        pattern: which subjects.
        position: the sequence after which to begin.
        rereads: begin there again when the connection or the server's memory of it was lost, and
            not where it ended: after a crash a server may count on from an earlier sequence.

    Attributes:
        position: the sequence of the last message read.
        name: what the server calls it; None while it does not know it.
    """

    def __init__(
        self,
        server: NATSServer,
        stream: str,
        pattern: str,
        position: int = 0,
        *,
        rereads: bool = False,
    ) -> None:
        self.position = position
        self._server = server
        self._stream = stream
        self._pattern = pattern
        self._again_from = position if rereads else None
        self.name: str | None = None

    async def next(self) -> list[Stored]:
        """Return up to `PAGE` further messages; fewer only if there are no more now."""
        for attempt in range(ATTEMPTS):
            if attempt > 1:
                await asyncio.sleep(0.01 * 2**attempt)  # it, or the stream, has no leader yet
            try:
                page = await self._read()
            except StorageUnavailableError as error:
                if attempt or not errors.is_lost(error):
                    raise
                continue
            if page is not None:
                return self._taken(page)
        raise errors.no_responders(str(self._server), f"stream {self._stream}")

    async def _read(self) -> list[Delivery] | None:
        """Return what follows; None if the server does not know the cursor any more."""
        page: list[Delivery] | None = None
        try:
            if self.name is None:
                await self._create()
            page = await self._server.call(self._pull)
        finally:
            if page is None:
                self.name = None  # it may have moved on without us
        return page

    async def close(self) -> None:
        """Let the server forget it now."""
        name, self.name = self.name, None
        if name is not None:
            frame = Frame(f"$JS.API.CONSUMER.DELETE.{self._stream}.{name}")

            async def work(wire: Wire) -> list[Delivery]:
                return await wire.ask([frame])

            await self._server.call(work)

    async def _create(self) -> None:
        name = uuid4().hex
        if self._again_from is not None:
            self.position = self._again_from
        config = {
            "name": name,
            "filter_subject": self._pattern,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.position + 1,
            "inactive_threshold": KEPT_SECONDS * 1_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }
        request = json.dumps({"stream_name": self._stream, "config": config}).encode()
        frame = Frame(f"$JS.API.CONSUMER.CREATE.{self._stream}.{name}", request)

        async def work(wire: Wire) -> list[Delivery]:
            return await wire.ask([frame])

        (answer,) = await self._server.call(work)
        if answer.status == 503:
            raise errors.no_responders(str(self._server), f"stream {self._stream}")
        problem = read_info(answer.data).error
        if problem is not None:
            what = f"reading stream {self._stream}"
            raise errors.refused(problem, str(self._server), what)
        self.name = name

    async def _pull(self, wire: Wire) -> list[Delivery] | None:
        """Return what is there; None if the server does not know the cursor any more."""
        found: list[Delivery] = []
        done = wire.future()

        def take(delivery: Delivery) -> None:
            found.append(delivery)
            if (delivery.status or len(found) == PAGE) and not done.done():
                done.set_result(None)

        inbox = wire.new_inbox()
        sid = wire.listen(inbox, take)
        try:
            wire.post(
                [Frame(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.name}", _PULL)], inbox
            )
            await done
        finally:
            wire.unlisten(sid)
            wire.forget(done)
        if found and found[-1].status in _GONE:
            return None
        return [one for one in found if not one.status]

    def _taken(self, page: list[Delivery]) -> list[Stored]:
        stored = [Stored(one.subject.decode(), _sequence(one.reply), one.data) for one in page]
        if stored:
            self.position = max(self.position, stored[-1].sequence)
        return stored


def _sequence(reply: bytes) -> int:
    """Return the stream sequence in the reply subject of a delivery.

    ``$JS.ACK``, then perhaps a domain and an account, then stream, consumer, deliveries, sequence …
    """
    parts = reply.split(b".")
    if len(parts) < 9:
        raise StorageError(f"nats: a delivery with the reply subject {reply!r} is unknown")
    return int(parts[5 if len(parts) == 9 else 7])
