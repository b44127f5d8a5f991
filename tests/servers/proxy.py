"""A TCP proxy that can hold bytes back, swallow an answer and hang up, throttle, or add TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

_BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Passes bytes on between its port and a server, until told otherwise."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.silent = False
        """While true nothing passes, in either direction: a half-open connection."""
        self.replies_to_lose = 0
        """So many times, an answer is swallowed and its connection cut."""
        self.replies_to_pass = 0
        """So many answers get through before that."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What others do after an answer was swallowed, before its connection is cut."""
        self.requests_to_throttle = 0
        """So many times, what a client sends is answered with HTTP status 503."""
        self.connections = 0
        self._target_port = target_port
        self._pumps: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        for source, sink, back in ((reader, far_writer, writer), (far_reader, writer, None)):
            pump = asyncio.create_task(self._pump(source, sink, back))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    def lose_reply(self, *, after: int | None) -> None:
        """Swallow one answer, after so many that get through; None: no more."""
        self.replies_to_lose, self.replies_to_pass = int(after is not None), after or 0

    async def close(self) -> None:
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        back: asyncio.StreamWriter | None,
    ) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(65_536):
                    if self.silent:
                        continue
                    if back is None and self.replies_to_lose:
                        if not self.replies_to_pass:
                            self.replies_to_lose -= 1
                            if self.meanwhile is not None:
                                await self.meanwhile()
                            break
                        self.replies_to_pass -= 1
                    if back is not None and self.requests_to_throttle:
                        self.requests_to_throttle -= 1
                        back.write(_BUSY)
                        break
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.close()
            with suppress(OSError):
                await sink.wait_closed()


@asynccontextmanager
async def proxy(target_port: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Proxy]:
    """Run a proxy before a port of this machine."""
    made = Proxy(target_port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
