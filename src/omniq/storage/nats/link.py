"""`NATSServer`: the one place through which the driver is called, with deadlines and errors mapped.

Each event loop has a connection of its own, made when first used and made anew, after a growing
pause, when it was lost. Each request has a deadline on this side.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from omniq.exceptions import ConfigError, OmniQError, StorageUnavailableError
from omniq.loops import PerLoop
from omniq.storage.nats.address import Address, NATSOptions, read_address
from omniq.storage.nats.errors import check_server, is_lost, translated

if TYPE_CHECKING:
    from omniq.storage.nats.wire import Wire

T = TypeVar("T")

CLOSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 2.0
PING_SECONDS = 1.0
ITEM_SECONDS = 0.01
"""What a slow disk needs to sync one message."""
HEADER_BYTES = 4096
"""Room for the headers, which count as part of a message."""


class NATSServer:
    """A shared handle on a server or cluster. The last component to close it closes it.

    Args:
        servers: one URL or several, see `omniq.storage.nats.address`.
        options: see `NATSOptions`.

    Raises:
        ConfigError: a URL or an option makes no sense.
    """

    def __init__(
        self, servers: str | Sequence[str] | None = None, **options: Unpack[NATSOptions]
    ) -> None:
        self.address = read_address(servers, **options)
        self.prefix = self.address.namespace.replace(".", "=")
        self.streams: dict[str, int] = {}
        self._largest = 0
        self._lines: PerLoop[_Line] = PerLoop(lambda: _Line(self.address))
        self._all: weakref.WeakSet[_Line] = weakref.WeakSet()
        self._users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._guard = threading.Lock()

    def __str__(self) -> str:
        return str(self.address)

    def __repr__(self) -> str:
        return f"NATSServer({str(self)!r})"

    async def open(self, user: object) -> None:
        """Connect, and count `user` among those who need the connection."""
        await self.call(_nothing)
        self._users.add(user)

    async def close(self, user: object) -> None:
        """Let `user` go; the last one closes the connections of all loops."""
        self._users.discard(user)
        if not self._users:
            self.streams.clear()
            for line in list(self._all):
                await line.close()

    async def largest_message(self) -> int:
        """Return how many bytes of content the server takes in one message."""
        if not self._largest:

            async def ask(wire: Wire) -> int:
                return wire.max_payload

            self._largest = await self.call(ask) - HEADER_BYTES
        return self._largest

    async def info(self) -> dict[str, Any]:
        """Return what the server said of itself when we connected."""

        async def ask(wire: Wire) -> dict[str, Any]:
            return wire.info

        return await self.call(ask)

    async def call(
        self, work: Callable[[Wire], Awaitable[T]], *, again: bool = False, items: int = 1
    ) -> T:
        """Run `work` on the connection of this loop.

        Args:
            work: sends requests and waits for the answers.
            items: how many requests; each gives the server a little more time.
            again: it may be repeated without harm, and is, once, if the connection breaks.

        Raises:
            StorageUnavailableError: no connection, no answer in time, or it broke meanwhile.
            StorageError: the server refused.
        """
        try:
            return await self._call(work, items)
        except StorageUnavailableError as error:
            if not (again and is_lost(error)):
                raise
        return await self._call(work, items)

    async def _call(self, work: Callable[[Wire], Awaitable[T]], items: int) -> T:
        line = self._lines.get()
        with self._guard:
            self._all.add(line)
        wire: Wire | None = None
        try:
            wire = await line.wire()
            async with asyncio.timeout(self.address.timeout_seconds + items * ITEM_SECONDS):
                return await work(wire)
        except OmniQError:
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and wire is not None:
                await _check_alive(wire)
            raise translated(error, str(self)) from error


class _Line:
    """The connection of one event loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._wire: Wire | None = None
        self._attempt: asyncio.Task[Wire] | None = None
        self._failures = 0
        self._keeper: AsyncGenerator[None, None] | None = None

    async def wire(self) -> Wire:
        """Return the living connection, made anew if need be. Calls at the same time share it."""
        if self._wire is not None and not self._wire.is_closed:
            return self._wire
        if self._attempt is None:
            self._attempt = asyncio.create_task(self._connect())
            self._attempt.add_done_callback(self._attempted)
        return await asyncio.shield(self._attempt)

    async def close(self) -> None:
        """Close, in the loop it belongs to. Idempotent."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if loop is asyncio.get_running_loop():
            await self._end()
        elif loop.is_running():
            ended = asyncio.run_coroutine_threadsafe(self._end(), loop)
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(asyncio.wrap_future(ended), CLOSE_SECONDS)

    def _attempted(self, attempt: asyncio.Task[Wire]) -> None:
        self._attempt = None
        if attempt.cancelled() or attempt.exception() is not None:
            self._failures += 1
        else:
            self._failures = 0

    async def _connect(self) -> Wire:
        if self._failures:
            longest = min(LONGEST_PAUSE_SECONDS, 0.05 * 2 ** min(self._failures, 10))
            await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        wire: Wire = _driver().Wire(encrypted=self._address.encrypted)
        try:
            async with asyncio.timeout(self._address.connect_timeout_seconds):
                await wire.open(self._address.servers, **_connect_options(self._address))
            check_server(wire.info, str(self._address))
        except BaseException:
            await wire.shut()
            raise
        self._wire = wire
        await self._keep()
        return wire

    async def _keep(self) -> None:
        """Let the shutdown of this loop close the connection, should nobody else do it.

        A loop awaits the end of its asynchronous generators before it closes.
        """
        if self._keeper is None:
            self._keeper = self._kept()
            await anext(self._keeper)

    async def _kept(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._shut()

    async def _end(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()
        await self._shut()

    async def _shut(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(OSError, RuntimeError, TimeoutError):
                await wire.shut()


def _driver() -> Any:
    try:
        return importlib.import_module("omniq.storage.nats.wire")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("omniq"):
            raise
        raise ConfigError(
            "NATS needs the nats-py driver; install it with: pip install 'omniq-tasks[nats]'"
        ) from error


def _connect_options(address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": "omniq",
        "connect_timeout": address.connect_timeout_seconds,
        "user": address.user,
        "password": address.password,
        "token": address.token,
        "user_credentials": _credentials(address),
    }
    if address.encrypted:
        options["tls"] = _tls(address)
    return options


def _tls(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.tls_ca_file)
        if address.tls_certificate_file is not None:
            context.load_cert_chain(address.tls_certificate_file, address.tls_key_file)
    except OSError as error:
        raise ConfigError(f"the TLS files given for NATS cannot be read: {error}") from error
    return context


def _credentials(address: Address) -> str | None:
    path = address.credentials_file
    if path is None:
        return None
    if not Path(path).is_file():
        raise ConfigError(f"the credentials_file given for NATS, {path}, is no file")
    try:
        importlib.import_module("nkeys")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "a credentials_file for NATS needs the module 'nkeys'; install it with: "
            "pip install nkeys"
        ) from error
    return path


async def _check_alive(wire: Wire) -> None:
    """Close a connection that does not even answer a ping: the next call makes another."""
    try:
        async with asyncio.timeout(PING_SECONDS):
            await wire.flush(timeout=int(PING_SECONDS) + 1)
    except Exception:  # noqa: BLE001 - whatever it is, this connection is of no use
        await wire.shut()


async def _nothing(wire: Wire) -> None:
    if wire.is_closed:
        raise StorageUnavailableError("the connection was lost")
