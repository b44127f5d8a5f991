"""Commands that remove something: their answer must reach the caller, or be undone.

The driver closes the connection of a cancelled call, and an item that was on its way is lost with
it. Here the answer of a cancelled command is still read (after CLIENT UNBLOCK, if it blocks), and
what it brought is put back, before the cancellation goes on.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from omniq.datastore.insist import insist
from omniq.exceptions import StorageError
from omniq.storage.redis.errors import is_lost_reply

if TYPE_CHECKING:
    from omniq.datastore.redis import RedisConnection

GRACE_SECONDS = 2.0
Undo = Callable[..., Coroutine[Any, Any, None]]


class Taking:
    """One command on a connection of its own.

    Args:
        connection: where to.
        undo: given the answer of a cancelled command, puts back what it took.
        blocks: the server may hold it; then it does not count against the size of the pool.
    """

    def __init__(self, connection: RedisConnection, undo: Undo, *, blocks: bool = False) -> None:
        self._connection = connection
        self._undo = undo
        self._blocks = blocks
        self._line: Any = None
        self._answer: Any = None
        self._is_answered = False
        self.was_sent = False

    async def run(self, *command: Any, seconds: float = 0.0) -> Any:
        """Send the command, which the server may hold for `seconds`, and return the answer.

        Raises:
            StorageError: the server refused, or could not be reached or did not answer in time.
        """
        client = await self._connection.client()
        address = self._connection.address
        grace = GRACE_SECONDS if self._blocks else address.timeout_seconds
        gate = client.blocking_gate if self._blocks else client.gate
        pool = client.driver.connection_pool
        try:
            async with asyncio.timeout(seconds + grace + address.connect_timeout_seconds), gate:
                await self._exchange(pool, command)
                await self._give_back(pool)
                return self._answer
        except asyncio.CancelledError:
            if self.was_sent:
                await insist(self._salvage)
            raise
        except Exception as error:
            raise self._connection.error(error) from error
        finally:
            if self._line is not None:
                await self._give_back(pool)

    async def _exchange(self, pool: Any, command: tuple[Any, ...]) -> None:
        line = await pool.get_connection()
        self._line = line
        if self._blocks:
            await _know(line)
        self.was_sent = True
        await line.send_command(*command)
        await self._read()

    async def _read(self) -> None:
        """Read the answer. May be cancelled and called again: nothing read is lost."""
        if not self._is_answered:
            self._answer = await self._line.read_response(disconnect_on_error=False)
            self._is_answered = True

    async def _salvage(self) -> None:
        """Read the answer of the cancelled command and undo it."""
        seconds = GRACE_SECONDS + self._connection.address.timeout_seconds
        with suppress(Exception):  # a broken or silent connection, or an error the server answered
            async with asyncio.timeout(seconds):
                if self._blocks and not self._is_answered:
                    await self._unblock()
                await self._read()
        if self._is_answered and self._answer is not None:
            answer, self._answer = self._answer, None
            await self._undo(answer)

    async def _unblock(self) -> None:
        number = _numbers.get(self._line)
        if number is not None:
            with suppress(StorageError):
                await self._connection.call("CLIENT", "UNBLOCK", number)

    async def _give_back(self, pool: Any) -> None:
        line, self._line = self._line, None
        if not self._is_answered:
            await line.disconnect(nowait=True)
        await pool.release(line)


class _Numbers:
    """The number by which the server knows a connection; forgotten when it is made anew."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[Any, int | None] = weakref.WeakKeyDictionary()

    def get(self, line: Any) -> int | None:
        return self._of.get(line)

    async def know(self, line: Any) -> None:
        """Ask the server, the first time; who may not ask waits a little longer when cancelled."""
        if line not in self._of:
            line.register_connect_callback(self.forget)
            try:
                await line.send_command("CLIENT", "ID")
                self._of[line] = await line.read_response()
            except Exception as error:
                if is_lost_reply(error):
                    raise
                self._of[line] = None

    async def forget(self, line: Any) -> None:
        self._of.pop(line, None)


_numbers = _Numbers()
_know = _numbers.know
