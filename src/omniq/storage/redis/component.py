"""What the four components of this backend share: a `RedisServer`, given or made from a URL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from omniq.clock import to_micros
from omniq.models.finding import Finding
from omniq.storage.component import Capabilities
from omniq.storage.labels import store_label
from omniq.storage.redis.address import RedisOptions
from omniq.storage.redis.server import RedisServer


class RedisComponent:
    """Opens and closes the server it was given, or one of its own."""

    capabilities = Capabilities(wakes=True)
    _server: RedisServer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._server)!r})"

    async def _open(self) -> None:
        await self._server.open()

    async def _close(self) -> None:
        await self._server.close()

    @property
    def store_name(self) -> str:
        """See `Component.store_name`."""
        return store_label("redis", self._server, self._server.address.namespace)

    @property
    def examined(self) -> object:
        """The server: components that share it are looked at once."""
        return self._server

    async def _findings(self) -> list[Finding]:
        return await self._server.findings()

    async def _store_time(self) -> datetime:
        return await self._server.time()


def server_of(url: str | None, server: RedisServer | None, options: RedisOptions) -> RedisServer:
    """Return the shared handle, or a new one of this URL and these options."""
    return RedisServer(url, **options) if server is None else server


def micros_or_empty(moment: datetime | None) -> str:
    """Return a moment as scripts take it; empty asks for the server's clock or means none."""
    return "" if moment is None else str(to_micros(moment))


def packed(batch: Any) -> bytes:
    """Return plain data as a script reads it."""
    return _to_msgpack(batch)


def joined(parts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the lengths of data that a script does not read, and the data as one argument."""
    return _to_msgpack([len(part) for part in parts]), b"".join(parts)


_to_msgpack = msgspec.msgpack.Encoder().encode
