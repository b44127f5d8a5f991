"""`RedisServer`: the one place through which the driver is called.

Each call has a deadline of its own on this side; when it passes, the connection is closed, and the
next call makes a new one. A call that may be repeated without harm is tried once more when its
connection broke, because an idle connection may have died unnoticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from secrets import token_hex
from typing import Any, Unpack

from omniq.clock import from_micros
from omniq.exceptions import OmniQError, StorageError, StorageUnavailableError
from omniq.models.finding import Finding
from omniq.storage.redis.address import RedisOptions, read_address
from omniq.storage.redis.checks import check_server, server_facts
from omniq.storage.redis.clients import Client, Clients
from omniq.storage.redis.doctor import server_findings
from omniq.storage.redis.errors import is_lost_reply, translated
from omniq.storage.redis.scripts import Script

LONGEST_BLOCK_SECONDS = 5.0
"""The server holds a waiting call no longer, so that a dead connection is noticed soon after."""
_BLOCK_GRACE_SECONDS = 2.0


class RedisServer:
    """A shared handle on a server. `open` and `close` are counted: the last close closes.

    Args:
        url: see `omniq.storage.redis.address`; without one, host, port and db are used.
        options: see `RedisOptions`.

    Raises:
        ConfigError: a part of the URL or an option makes no sense.
    """

    def __init__(self, url: str | None = None, **options: Unpack[RedisOptions]) -> None:
        self.address = read_address(url, options)
        self.prefix = f"{{{self.address.namespace}}}:"
        self._clients = Clients(self.address)
        self._users = 0

    def __str__(self) -> str:
        return str(self.address)

    def key(self, *parts: str) -> str:
        """Return the name of a key: the namespace as hash tag, then the parts."""
        return self.prefix + ":".join(parts)

    async def open(self) -> None:
        """Connect and check the server, or count one more user.

        Raises:
            StorageError: the server refuses us, or is not fit to keep tasks.
            StorageUnavailableError: it cannot be reached, is loading, or is a replica.
        """
        try:
            await check_server(self.address, self._facts)
        except OmniQError:
            if not self._users:
                await self._clients.close()
            raise
        self._users += 1

    async def close(self) -> None:
        """Count one user less; the last one closes the connections of all loops."""
        self._users = max(0, self._users - 1)
        if not self._users:
            await self._clients.close()

    async def call(self, *command: Any, again: bool = False) -> Any:
        """Send one command and return its answer.

        Args:
            command: the command and its arguments.
            again: it may be repeated without harm.

        Raises:
            StorageError: the server refused, or could not be reached in time.
        """

        async def send(client: Client) -> Any:
            return await client.driver.execute_command(*command)

        return await self._guarded(send, again=again)

    async def run(
        self,
        script: Script,
        *arguments: Any,
        again: bool = False,
        lasting: bool = False,
        doubts: list[Exception] | None = None,
    ) -> Any:
        """Run a script on the keys of this namespace and return its answer.

        Args:
            script: what to run.
            arguments: its ARGV.
            again: it may be repeated without harm, with the same arguments.
            lasting: what it wrote must be as durable as this handle promises when this returns.
            doubts: takes the error of a first try that may have been made all the same.

        Raises:
            StorageError: see `call`.
        """
        tail = (1, self.prefix, *arguments)
        durable = lasting and self.address.durability != "server"

        async def send(client: Client) -> Any:
            from redis.exceptions import NoScriptError

            evaluate = self._confirmed if durable else _evaluated
            try:
                return await evaluate(client, "EVALSHA", script.sha, *tail)
            except NoScriptError:
                return await evaluate(client, "EVAL", script.source, *tail)

        return await self._guarded(send, again=again, doubts=doubts)

    async def block(self, command: str, *keys: str, seconds: float) -> Any:
        """Send a blocking command (its last argument is the time) and return its answer.

        Blocks for `seconds` at most, and never longer than `LONGEST_BLOCK_SECONDS`.
        """
        held = max(0.001, min(seconds, LONGEST_BLOCK_SECONDS))

        async def send(client: Client) -> Any:
            return await client.driver.execute_command(command, *keys, f"{held:.3f}")

        return await self._guarded(send, again=False, blocked_seconds=held)

    async def findings(self) -> list[Finding]:
        """Ask the server how it is."""
        facts = await server_facts(self._facts, "clients")
        settings: dict[Any, Any] = await self._unless_hidden("CONFIG GET", "appendfsync") or {}
        fsync = next(iter(settings.values()), b"")
        in_cluster = self.address.topology == "cluster"
        cluster = await self._unless_hidden("CLUSTER INFO") if in_cluster else None
        said = fsync.decode() if isinstance(fsync, bytes) else str(fsync)
        return server_findings(f"redis {self.address}", facts, said, cluster)

    async def time(self) -> datetime:
        """Return what the server's clock says."""
        seconds, micros = await self._of_our_node("TIME")
        return from_micros(int(seconds) * 1_000_000 + int(micros))

    async def _unless_hidden(self, *command: str) -> Any:
        """Ask what services may forbid; None where they do."""
        try:
            return await self._of_our_node(*command)
        except StorageUnavailableError:
            raise
        except StorageError:
            return None

    async def _facts(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        facts: dict[str, Any] = await self._of_our_node("INFO", section)
        return facts

    async def _of_our_node(self, *command: str) -> Any:
        """Send a command without keys to the node that holds ours."""

        async def send(client: Client) -> Any:
            if self.address.topology != "cluster":
                return await client.driver.execute_command(*command)
            await client.driver.initialize()
            node = client.driver.get_node_from_key(self.prefix)
            return await client.driver.execute_command(*command, target_nodes=node)

        return await self._guarded(send, again=True)

    def nonce(self) -> str:
        """Return a fresh name for one write, by which a repeated try recognises its own work."""
        return token_hex(8)

    async def _guarded(
        self,
        send: Callable[[Client], Coroutine[Any, Any, Any]],
        *,
        again: bool,
        blocked_seconds: float | None = None,
        doubts: list[Exception] | None = None,
    ) -> Any:
        """Run `send` with a deadline, at most so many at once, errors mapped.

        What may be done `again` leaves time for a second try.
        """
        client, spare = await self._clients.get(), self.address.connect_timeout_seconds
        seconds, gate = self.address.timeout_seconds, client.gate
        if blocked_seconds is not None:
            seconds, gate = blocked_seconds + _BLOCK_GRACE_SECONDS, client.blocking_gate
        ends_at = asyncio.get_running_loop().time() + seconds + spare
        try:
            if again:
                try:
                    async with asyncio.timeout_at(ends_at - spare), gate:
                        return await send(client)
                except Exception as error:
                    if not is_lost_reply(error):
                        raise
                    if doubts is not None:
                        doubts.append(error)
            async with asyncio.timeout_at(ends_at), gate:
                return await send(client)
        except OmniQError:
            raise
        except Exception as error:
            raise translated(error, str(self.address)) from error

    async def _confirmed(self, client: Client, *command: Any) -> Any:
        """Send a write and, on the same connection, wait until it is as durable as promised."""
        millis = max(1, int(self.address.timeout_seconds * 800))
        fsync = self.address.durability == "fsync"
        waiting = ("WAITAOF", 1, 0, millis) if fsync else ("WAIT", 1, millis)
        pipeline = client.driver.pipeline(transaction=False)
        pipeline.execute_command(*command)
        pipeline.execute_command(*waiting)
        answer, confirmed = await pipeline.execute(raise_on_error=False)
        for one in (answer, confirmed):
            if isinstance(one, Exception):
                raise one
        count = confirmed[0] if fsync else confirmed
        if count < 1:
            raise StorageUnavailableError(
                f"redis server {self.address}: the write was made, but {waiting[0]} did not "
                "confirm it in time; it may be lost if the server fails now"
            )
        return answer


async def _evaluated(client: Client, *command: Any) -> Any:
    return await client.driver.execute_command(*command)
