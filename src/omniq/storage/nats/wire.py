"""`Wire`: a connection of the nats-py driver that answers many requests at the cost of one.

The driver gives each message a queue, a task and a header dictionary, and each request a timer.
That is three quarters of the time a task takes on NATS. A `Wire` writes whole batches of requests
at once and hands replies, unparsed, to whoever waits for them; connecting, TLS, authentication and
the protocol itself stay the driver's. It never reconnects: when the connection is lost, all that
wait are told, and the owner makes another `Wire`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from nats.aio.client import Client

from omniq.storage.nats.frames import Delivery, Frame

logger = logging.getLogger(__name__)

FRAMES_AT_ONCE = 1000
BYTES_AT_ONCE = 4 << 20
_PING_SECONDS = 5
_PINGS_UNANSWERED = 2
_CLOSE_SECONDS = 0.5


class WireLostError(Exception):
    """The connection broke before the answer came: nobody knows if the request was served."""


class PlainPortError(Exception):
    """TLS was asked for, but the server does not offer it."""


Listener = Callable[[Delivery], None]


class Wire(Client):
    """See the head of this module."""

    def __init__(self, *, encrypted: bool) -> None:
        super().__init__()
        self._encrypted = encrypted
        self._listeners: dict[int, Listener] = {}
        self._requests: dict[int, Listener] = {}
        self._failures: set[asyncio.Future[Any]] = set()
        self._serial = 0
        self._inbox = b""
        self._mourners: set[Callable[[], None]] = set()

    async def open(self, servers: Sequence[str], **options: Any) -> None:
        """Connect to the first server that answers. Raises what the driver raises."""
        await self.connect(
            list(servers),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=_PINGS_UNANSWERED,
            error_cb=_ignore,
            **options,
        )
        self._inbox = f"{self.new_inbox()}.".encode()
        self.listen(f"{self._inbox.decode()}*", self._answered)

    async def shut(self) -> None:
        """Close the connection. Idempotent."""
        if not self.is_closed:
            with suppress(
                TimeoutError, OSError, AttributeError, AssertionError
            ):  # drivers close what never was open
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._close(Client.CLOSED, do_cbs=False)
        self._abort()
        self._fail_all()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        finally:
            if status == Client.CLOSED:
                self._abort()
                self._fail_all()

    def _abort(self) -> None:
        """Drop the connection if it is still there, as after half a TLS handshake."""
        for name in ("_io_writer", "_bare_io_writer"):
            writer = getattr(self._transport, name, None)
            if isinstance(writer, asyncio.StreamWriter):
                writer.transport.abort()

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself when we connected."""
        return self._server_info

    def listen(self, subject: str, listener: Listener, *, once: bool = False) -> int:
        """Let `listener` get each message on `subject`, or only the first."""
        self._sid += 1
        sid = self._sid
        command = f"SUB {subject} {sid}\r\n"
        if once:
            command += f"UNSUB {sid} 1\r\n"

        def first(delivery: Delivery) -> None:
            self._listeners.pop(sid, None)
            listener(delivery)

        self._listeners[sid] = first if once else listener
        self._write(command.encode())
        return sid

    def unlisten(self, sid: int) -> None:
        """End a `listen`."""
        if self._listeners.pop(sid, None) is not None and not self.is_closed:
            self._write(f"UNSUB {sid}\r\n".encode())

    def when_lost(self, call: Callable[[], None], *, forget: bool = False) -> None:
        """Let `call` be called once when the connection is lost; `forget` takes that back."""
        if forget:
            self._mourners.discard(call)
        elif self.is_closed:
            call()
        else:
            self._mourners.add(call)

    def post(self, frames: Sequence[Frame], reply: str = "") -> None:
        """Send messages without waiting for anything."""
        self._write(b"".join(_encoded(frame, reply) for frame in frames))

    async def ask(self, frames: Sequence[Frame]) -> list[Delivery]:
        """Send requests and return the answer to each, in order.

        Raises:
            WireLostError: the connection broke meanwhile.
        """
        answers: list[Delivery] = []
        for chunk in _chunks(frames):
            answers += await self._ask_chunk(chunk)
        return answers

    async def collect(self, frames: Sequence[Frame]) -> list[list[Delivery]]:
        """Send requests; return all answers to each, up to and with the status that ends them."""
        found: list[list[Delivery]] = [[] for _ in frames]
        left = len(frames)
        done = self.future()

        def listen_for(place: int) -> int:
            def take(delivery: Delivery) -> None:
                nonlocal left
                found[place].append(delivery)
                if not delivery.status:
                    self._requests[token] = take
                    return
                left -= 1
                if not left:
                    _resolve(done)

            token = self._expect(take)
            return token

        tokens = [listen_for(place) for place in range(len(frames))]
        self._send(frames, tokens)
        try:
            await done
        finally:
            self._forget(done, tokens)
        return found

    async def _ask_chunk(self, frames: Sequence[Frame]) -> list[Delivery]:
        answers: dict[int, Delivery] = {}
        done = self.future()
        first = self._serial + 1
        count = len(frames)

        def take(delivery: Delivery) -> None:
            answers[int(delivery.subject[len(self._inbox) :])] = delivery
            if len(answers) == count:
                _resolve(done)

        tokens = [self._expect(take) for _ in frames]
        self._send(frames, tokens)
        try:
            await done
        finally:
            self._forget(done, tokens if len(answers) < count else [])
        return [answers[token] for token in range(first, first + count)]

    def _send(self, frames: Sequence[Frame], tokens: Sequence[int]) -> None:
        pairs = zip(frames, tokens, strict=True)
        self._write(b"".join(_encoded(frame, self._reply_to(token)) for frame, token in pairs))

    def _forget(self, done: asyncio.Future[None], tokens: Sequence[int]) -> None:
        self._failures.discard(done)
        for token in tokens:
            self._requests.pop(token, None)

    def _expect(self, listener: Listener) -> int:
        self._serial += 1
        self._requests[self._serial] = listener
        return self._serial

    def _reply_to(self, token: int) -> str:
        return f"{self._inbox.decode()}{token}"

    def forget(self, future: asyncio.Future[None]) -> None:
        """Say that a future is not waited for any more."""
        self._failures.discard(future)

    def future(self) -> asyncio.Future[None]:
        """Return a future that fails when the connection is lost."""
        if self.is_closed:
            raise WireLostError("the connection is closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failures.add(future)
        return future

    def _answered(self, delivery: Delivery) -> None:
        listener = self._requests.pop(int(delivery.subject[len(self._inbox) :]), None)
        if listener is not None:
            listener(delivery)

    def _write(self, data: bytes) -> None:
        if self.is_closed or self._transport is None:
            raise WireLostError("the connection is closed")
        self._transport.write(data)

    def _fail_all(self) -> None:
        waiting, self._failures = self._failures, set()
        self._requests.clear()
        self._listeners.clear()
        mourners, self._mourners = self._mourners, set()
        for call in mourners:
            call()
        for future in waiting:
            if not future.done():
                future.set_exception(WireLostError("the connection was lost"))

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any
    ) -> None:
        listener = self._listeners.get(sid)
        if listener is None:
            return
        try:
            listener(Delivery(bytes(subject), bytes(reply), data, headers))
        except Exception:
            logger.exception("a listener on %s failed", bytes(subject).decode(errors="replace"))

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._encrypted and not info.get("tls_required"):
            raise PlainPortError("the server offers no TLS; use nats://, or configure it there")
        await super()._process_info(info, initial_connection)


def _encoded(frame: Frame, reply: str) -> bytes:
    subject, data, headers = frame
    if not headers:
        return b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply.encode(), len(data), data)
    size = len(headers) + 12
    return b"HPUB %s %s %d %d\r\nNATS/1.0\r\n%s\r\n%s\r\n" % (
        subject.encode(),
        reply.encode(),
        size,
        size + len(data),
        headers,
        data,
    )


def _chunks(frames: Sequence[Frame]) -> list[Sequence[Frame]]:
    """Bounded parts, so that neither the server's buffers nor ours overflow."""
    chunks: list[Sequence[Frame]] = []
    start = size = 0
    for place, frame in enumerate(frames):
        size += len(frame.data) + len(frame.headers)
        if place > start and (place - start >= FRAMES_AT_ONCE or size > BYTES_AT_ONCE):
            chunks.append(frames[start:place])
            start, size = place, len(frame.data) + len(frame.headers)
    if start < len(frames):
        chunks.append(frames[start:])
    return chunks


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _ignore(error: Exception) -> None:
    """Errors reach callers through the requests that fail; the driver would print them."""
    logger.debug("nats: %s", error)
