"""The connection that listens, and holds the locks that say which workers live.

One for each event loop that waits, made when first needed. It sends itself a notification through
the server at first, and now and then, and asks for a sign of life every few seconds. Once one of
the two fails or the server closes it, it is made anew, and everybody who waits looks for
themselves, as something may have been missed in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from omniq.exceptions import OmniQError
from omniq.ids import new_token
from omniq.storage.postgres.errors import is_drivers
from omniq.storage.postgres.notify import Channels, hear
from omniq.storage.postgres.schema import Tables, lock_key
from omniq.storage.postgres.wake import Topic, Waiters

if TYPE_CHECKING:
    from asyncpg import Connection

logger = logging.getLogger(__name__)

PING_SECONDS = 10.0
PINGS_A_NOTIFICATION = 30
"""One in so many pings is a notification: each wakes all who listen in the database."""
PING_DEADLINE_SECONDS = 5.0
GRACE_AFTER_BLOCKING_SECONDS = 0.1
HOLD_SECONDS = 3.0
RETRY_SECONDS = 0.5
"""How soon a lock is asked for again that somebody held. Once free it must be ours before others
take us for dead, see `claims.GRACE_SECONDS`."""
BACKOFF_SECONDS = (0.05, 2.0)


class Listener:
    """The listening connection of one event loop; a task that outlives all its sessions.

    Args:
        connect: makes a connection straight to the server.
        names: whose channels and worker table.
        channels: what to listen to.
        waiters: whom to wake.
        own_token: marks the messages of this process.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection[Any]]],
        names: Tables,
        channels: Channels,
        waiters: Waiters,
        own_token: str,
    ) -> None:
        self._connect, self._names, self._channels = connect, names, channels
        self._waiters, self._own_token = waiters, own_token
        self._task: asyncio.Task[None] | None = None
        self._wanted: set[str] = set()
        self._held: set[str] = set()
        self._changed = asyncio.Event()
        self._locked = asyncio.Event()
        self.hears = False

    def start(self) -> None:
        """Listen from soon on. Idempotent."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="omniq-postgres-listen")

    async def stop(self) -> None:
        """Close the connection; its locks are free then."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def hold(self, worker_id: str) -> None:
        """Hold the lock of a worker for as long as this process lives.

        Returns once it is held, or after some seconds: then it will be as soon as possible.
        """
        self._wanted.add(worker_id)
        self.start()
        self._changed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_SECONDS):
                while worker_id not in self._held:
                    self._locked.clear()
                    await self._locked.wait()

    def let_go(self, worker_id: str) -> None:
        """Hold the lock of a worker no longer. Idempotent."""
        self._wanted.discard(worker_id)
        self._changed.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._session()
                failures = 0
            except Exception as error:
                if not (isinstance(error, OmniQError) or is_drivers(error)):
                    logger.exception("listening to PostgreSQL failed")
                level = logging.WARNING if failures == 0 else logging.DEBUG
                logger.log(level, "listening to PostgreSQL, to be tried again: %s", error)
                failures += 1
            first, longest = BACKOFF_SECONDS
            delay = min(longest, first * 2 ** min(failures, 10))
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load

    async def _session(self) -> None:
        """Listen until the connection is lost."""
        connection = await self._connect()
        try:
            connection.add_termination_listener(self._on_lost)
            await self._listen(connection, "ready", self._channels.ready)
            await self._listen(connection, "final", self._channels.final)
            ping = _Ping(connection)
            await ping.prepare()
            await ping.send()
            await self._update_locks(connection)
            self.hears = True
            self._waiters.look_again()
            while not connection.is_closed():
                is_missing = bool(self._wanted - self._held)
                if not await self._change_within(RETRY_SECONDS if is_missing else PING_SECONDS):
                    await ping.ask()
                await self._update_locks(connection)
            raise ConnectionError("the server closed the connection that listens")
        finally:
            self.hears = False
            self._held.clear()
            await _close(connection)

    def _on_lost(self, *_: object) -> None:
        self._changed.set()

    async def _listen(self, connection: Connection[Any], topic: Topic, channel: str) -> None:
        def heard(_connection: object, _pid: int, _channel: str, message: object) -> None:
            hear(self._waiters, self._own_token, topic, str(message))

        await _in_time(connection.add_listener(channel, heard))

    async def _change_within(self, seconds: float) -> bool:
        """Whether somebody changed what is to be held, or the connection was lost."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def _update_locks(self, connection: Connection[Any]) -> None:
        """Take and free locks. A lost session of ours may hold one, or who looks for the dead."""
        take = "SELECT pg_try_advisory_lock($1::bigint)"
        note = (
            f"INSERT INTO {self._names.worker} (worker_id, lock_key) VALUES ($1, $2) "  # noqa: S608 - checked names
            "ON CONFLICT (worker_id) DO UPDATE SET missing_since = NULL"
        )
        for worker_id in list(self._wanted - self._held):
            key = lock_key(self._names, "worker", worker_id)
            if await _in_time(connection.fetchval(take, key)):
                self._held.add(worker_id)
            await _in_time(connection.execute(note, worker_id, key))
        for worker_id in list(self._held - self._wanted):
            key = lock_key(self._names, "worker", worker_id)
            await _in_time(connection.execute("SELECT pg_advisory_unlock($1::bigint)", key))
            self._held.discard(worker_id)
        self._locked.set()


class _Ping:
    """A notification to oneself, through the server and back."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._channel = f"omniq_ping_{new_token()}"
        self._heard = asyncio.Event()
        self._number = 0

    async def prepare(self) -> None:
        """Start to listen to it."""
        await _in_time(self._connection.add_listener(self._channel, self._on_heard))

    async def ask(self) -> None:
        """Have the server answer, mostly without a notification. Raises TimeoutError if not."""
        self._number += 1
        if self._number % PINGS_A_NOTIFICATION == 0:
            await self.send()
        else:
            await _in_time(self._connection.execute("SELECT 1"))

    async def send(self) -> None:
        """Send one and wait for it. Raises TimeoutError if it does not come back."""
        self._heard.clear()
        query = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')"
        await _in_time(self._connection.execute(query, self._channel))
        await _in_time(self._heard.wait())

    def _on_heard(self, *_: object) -> None:
        self._heard.set()


async def _in_time(answer: Awaitable[Any]) -> Any:
    """Return an answer. Raises TimeoutError if it takes too long.

    When the event loop itself was blocked meanwhile, an answer that lies there already counts: a
    live session, and with it the locks, must not be dropped because a task hogged the loop.
    """
    task = asyncio.ensure_future(answer)
    try:
        done, _ = await asyncio.wait([task], timeout=PING_DEADLINE_SECONDS)
        if not done:
            done, _ = await asyncio.wait([task], timeout=GRACE_AFTER_BLOCKING_SECONDS)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise TimeoutError("PostgreSQL did not answer on the connection that listens")
    return task.result()


async def _close(connection: Connection[Any]) -> None:
    try:
        await connection.close(timeout=1.0)
    except Exception as error:  # noqa: BLE001 - it is gone either way
        logger.debug("closing the connection that listened: %s", error)
        connection.terminate()
