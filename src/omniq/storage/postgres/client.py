"""The connections of one event loop: made on demand, bounded, never trusted to be alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from omniq.storage.postgres.errors import is_drivers, sqlstate_of

if TYPE_CHECKING:
    from asyncpg import Connection

R = TypeVar("R")
logger = logging.getLogger(__name__)

PROBE_AFTER_SECONDS = 10.0
PROBE_SECONDS = 3.0
PARTING_SECONDS = 1.0
KEEP_ALIVE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 3,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,
}

PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Every statement is a few looks into indexes, whatever the statistics say at the moment: a plan
made while a table was empty must not become a scan of all tasks when it has filled."""


class Client:
    """A small pool. Belongs to the loop it was made in.

    A connection that was idle for long is asked for a sign of life before it is used; one whose
    call was cut short is closed rather than used again. When the loop ends without `close` having
    been called, the connections are closed all the same.

    Args:
        connect: makes a connection.
        size: most connections at a time.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection[Any]]], size: int) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(size)
        self._idle: list[tuple[Connection[Any], float]] = []
        self._partings: set[asyncio.Task[None]] = set()
        self._closing = False
        self._guard = asyncio.create_task(self._close_with_loop(), name="omniq-postgres-guard")

    async def use(
        self,
        work: Callable[[Connection[Any]], Awaitable[R]],
        seconds: float,
        *,
        probe: bool = False,
    ) -> R:
        """Run `work` with a connection, waiting for one included, for `seconds` at most.

        With `probe`, the connection has to give a sign of life first: for a long `seconds`.

        Raises:
            TimeoutError: it took longer; whether the server did it is not known.
        """
        try:
            async with asyncio.timeout(seconds), self._slots:
                return await self._use_one(work, probe=probe)
        except TimeoutError:
            self._drop_idle()  # what swallowed this answer may have swallowed those connections
            raise

    async def _use_one(self, work: Callable[[Connection[Any]], Awaitable[R]], *, probe: bool) -> R:
        connection = await self._take(probe=probe)
        try:
            result = await work(connection)
        except BaseException as error:
            self._put_back(connection, usable=_left_in_order(error))
            raise
        self._put_back(connection, usable=True)
        return result

    async def close(self) -> None:
        """Close all connections; those in use when their call is done. Idempotent."""
        self._guard.cancel()
        await asyncio.wait([self._guard])

    def abandon(self) -> None:
        """Let go of the connections of a loop that runs no more."""
        self._closing = True
        for connection, _ in self._idle:
            with contextlib.suppress(RuntimeError):  # its loop is closed: the socket goes with it
                connection.terminate()
        self._idle.clear()

    async def _take(self, *, probe: bool) -> Connection[Any]:
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed():
                continue
            probe = probe or time.monotonic() - since > PROBE_AFTER_SECONDS
            if not probe or await _answers(connection):
                return connection
            self._part(connection)
        return await self._connect()

    def _put_back(self, connection: Connection[Any], *, usable: bool) -> None:
        if connection.is_closed():
            return
        if self._closing:
            connection.terminate()
        elif usable and not connection.is_in_transaction():
            self._idle.append((connection, time.monotonic()))
        else:
            self._part(connection)

    def _drop_idle(self) -> None:
        while self._idle:
            self._part(self._idle.pop()[0])

    def _part(self, connection: Connection[Any]) -> None:
        task = asyncio.create_task(_closed(connection), name="omniq-postgres-close")
        self._partings.add(task)
        task.add_done_callback(self._partings.discard)

    async def _close_with_loop(self) -> None:
        """Wait for the cancellation that `close` or the end of the loop brings, then close."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._closing = True
            while self._idle:
                await _closed(self._idle.pop()[0])
            if self._partings:
                await asyncio.wait(self._partings)


@asynccontextmanager
async def transaction(connection: Connection[Any]) -> AsyncGenerator[None]:
    """Run the block in a transaction: committed at its end, rolled back after an error.

    Not the driver's own, which waits for a rollback even on a connection that has gone silent;
    there is nothing to roll back where `Client` closes the connection anyway.
    """
    await connection.execute("BEGIN")
    try:
        yield
    except Exception as error:
        if _left_in_order(error):
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


def _left_in_order(error: BaseException) -> bool:
    """Whether a connection can be used again after this error: the server answered the call."""
    if not isinstance(error, Exception):
        return False
    return sqlstate_of(error) is not None or not is_drivers(error)


async def _answers(connection: Connection[Any]) -> bool:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await connection.execute("SELECT 1")
    except Exception as error:  # noqa: BLE001 - whatever it is, the connection is of no use
        logger.debug("an idle connection was dead: %s", error)
        return False
    return True


async def _closed(connection: Connection[Any]) -> None:
    try:
        await connection.close(timeout=PARTING_SECONDS)
    except Exception as error:  # noqa: BLE001 - it is gone either way
        logger.debug("closing a connection: %s", error)
        connection.terminate()


def keep_alive(connection: Connection[Any]) -> None:
    """Let the system notice a peer that is gone without a word, also during a long statement."""
    transport: asyncio.BaseTransport | None = getattr(connection, "_transport", None)
    peer = transport.get_extra_info("socket") if transport is not None else None
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
