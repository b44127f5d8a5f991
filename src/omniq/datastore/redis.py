"""A data store in Redis or Valkey: lists and strings, with the plain commands for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from omniq.datastore.connection import BaseConnection, Strings, Text
from omniq.datastore.redis_lists import RedisLists
from omniq.exceptions import ConfigError, StorageError
from omniq.storage.redis.address import Address, RedisOptions, read_address
from omniq.storage.redis.clients import Client, Clients
from omniq.storage.redis.errors import is_lost_reply, translated

Send = Callable[[Client], Coroutine[Any, Any, Any]]


class RedisConnection(BaseConnection):
    """The way to a Redis or Valkey server: a pool for each event loop, made by the first use.

    Args:
        host, port, db: the server, when there is no URL.
        password: who asks; may also stand in the URL.
        pool_size: connections an event loop has at most; calls that wait have their own beside.
        url: see the page of the Redis backend; clusters are refused.

    Raises:
        ConfigError: a part of the URL or an option makes no sense.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        pool_size: int = 10,
        *,
        url: str | None = None,
    ) -> None:
        options: RedisOptions = {"max_connections": pool_size}
        if password is not None:
            options["password"] = password
        if url is None:
            options |= {"host": host, "port": port, "db": db}
        self.address: Address = read_address(url, options)
        if self.address.topology == "cluster":
            raise ConfigError("a data store needs one server, not a cluster: its keys go together")
        self._clients = Clients(self.address)

    def __repr__(self) -> str:
        return f"RedisConnection({str(self.address)!r})"

    async def ensure_connection(self) -> Any:
        """Return the client of the driver that belongs to the running event loop.

        Safe to be called by many at once. It reconnects by itself when the server was away.

        Raises:
            StorageError: the server refuses us.
            StorageUnavailableError: it cannot be reached.
        """
        return (await self.client()).driver

    async def client(self) -> Client:
        """Return the client of the running loop with its bounds; connect before, if need be."""
        if not self._is_open:
            await self.connect()
        return await self._clients.get()

    def lists(self, prefix: str) -> RedisLists:
        """Return the lists under a prefix."""
        return RedisLists(prefix, self)

    def strings(self, prefix: str) -> RedisStrings:
        """Return the strings under a prefix."""
        return RedisStrings(prefix, self)

    async def call(self, *command: Any, again: bool = False) -> Any:
        """Send one command over the pool and return its answer as the server gave it.

        Args:
            command: the command and its arguments.
            again: it may be repeated without harm, and is, once, when its connection broke.

        Raises:
            StorageError: the server refused, or could not be reached in time.
        """

        async def send(client: Client) -> Any:
            pool = client.driver.connection_pool
            line = await pool.get_connection()
            try:
                await line.send_command(*command)
                return await line.read_response()
            finally:
                await pool.release(line)

        return await self._guarded(send, again=again)

    async def atomically(self, commands: Sequence[tuple[Any, ...]], *, again: bool = False) -> Any:
        """Send commands as one transaction and return their answers. See `call`."""

        async def send(client: Client) -> Any:
            async with client.driver.pipeline(transaction=True) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute()

        return await self._guarded(send, again=again)

    async def _guarded(self, send: Send, *, again: bool) -> Any:
        """Run `send` with a deadline, at most `pool_size` at once, the driver's errors mapped."""
        client = await self.client()
        seconds = self.address.timeout_seconds + self.address.connect_timeout_seconds
        try:
            async with asyncio.timeout(seconds), client.gate:
                try:
                    return await send(client)
                except Exception as error:
                    if not (again and is_lost_reply(error)):
                        raise
                return await send(client)
        except Exception as error:
            raise self.error(error) from error

    def error(self, error: Exception) -> StorageError:
        """Return our error for one of the driver's."""
        return translated(error, str(self.address))

    async def _open(self) -> None:
        client = await self._clients.get()
        seconds = self.address.timeout_seconds + self.address.connect_timeout_seconds
        try:
            async with asyncio.timeout(seconds), client.gate:
                await client.driver.execute_command("PING")
        except Exception as error:
            await self._clients.close()
            raise self.error(error) from error

    async def _close(self) -> None:
        await self._clients.close()


class RedisStrings(Strings):
    """Strings as Redis strings. See `Strings`."""

    def __init__(self, prefix: str, connection: RedisConnection) -> None:
        super().__init__(prefix)
        self._connection = connection

    async def set(self, texts: Mapping[str, str], ttl_seconds: float | None) -> None:
        """See `Strings.set`."""
        keyed = [(self.key(name), text) for name, text in texts.items()]
        if len(keyed) == 1:
            await self._connection.call(*_set(*keyed[0], ttl_seconds), again=True)
        elif ttl_seconds is None:
            flat = (part for pair in keyed for part in pair)
            await self._connection.call("MSET", *flat, again=True)
        else:
            commands = [_set(key, text, ttl_seconds) for key, text in keyed]
            await self._connection.atomically(commands, again=True)

    async def get(self, names: Sequence[str]) -> list[Text | None]:
        """See `Strings.get`."""
        if len(names) == 1:
            return [await self._connection.call("GET", self.key(names[0]), again=True)]
        found: list[Text | None] = await self._connection.call(
            "MGET", *map(self.key, names), again=True
        )
        return found

    async def delete(self, name: str) -> bool:
        """See `Strings.delete`."""
        return bool(await self._connection.call("DEL", self.key(name)))

    async def exists(self, name: str) -> bool:
        """See `Strings.exists`."""
        return bool(await self._connection.call("EXISTS", self.key(name), again=True))


def _set(key: str, text: str, ttl_seconds: float | None) -> tuple[str | int, ...]:
    if ttl_seconds is None:
        return ("SET", key, text)
    if ttl_seconds.is_integer():
        return ("SETEX", key, int(ttl_seconds), text)
    return ("PSETEX", key, max(1, round(ttl_seconds * 1000)), text)
