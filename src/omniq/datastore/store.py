"""`DataStore`: one way in to queues and cache."""

from __future__ import annotations

from urllib.parse import urlsplit

from omniq.datastore.cache import CacheStore
from omniq.datastore.connection import BaseConnection
from omniq.datastore.memory import MemoryConnection
from omniq.datastore.names import DEFAULT_PREFIX
from omniq.datastore.queue import QueueStore
from omniq.exceptions import ConfigError
from omniq.storage.component import Component
from omniq.storage.factory import StorageBackendFactory, masked

_HOST, _PORT, _DB, _POOL_SIZE = "127.0.0.1", 6379, 0, 10


class DataStore(Component):
    """Queues and a cache over one connection, which the first use opens.

    Args:
        host, port, db: the Redis server, when there is no URL.
        password: who asks; may also stand in the URL.
        pool_size: connections an event loop has at most; pops that wait have their own beside.
        url: ``redis://…`` (or any Redis URL of one server), ``sqlite:///file.db`` or ``memory://``.
        prefix: what all keys begin with, so that applications can share a store.

    Raises:
        ConfigError: a part of the URL or an option makes no sense.
    """

    def __init__(
        self,
        host: str = _HOST,
        port: int = _PORT,
        db: int = _DB,
        password: str | None = None,
        pool_size: int = _POOL_SIZE,
        *,
        url: str | None = None,
        prefix: str = DEFAULT_PREFIX,
    ) -> None:
        parts = (host, port, db)
        if url is not None and parts != (_HOST, _PORT, _DB):
            raise ConfigError("give either url= or host, port and db, not both")
        self._connection = _connect_to(url, parts, password, pool_size)
        self._queue = QueueStore(self._connection, prefix)
        self._cache = CacheStore(self._connection, prefix)

    def __repr__(self) -> str:
        return f"DataStore({self._connection!r})"

    @property
    def queue(self) -> QueueStore:
        """The queues."""
        return self._queue

    @property
    def cache(self) -> CacheStore:
        """The cache."""
        return self._cache

    @property
    def connection(self) -> BaseConnection:
        """The connection both share."""
        return self._connection

    async def connect(self) -> None:
        """Open the connection. Idempotent; every use does it as well."""
        await self._connection.connect()

    async def disconnect(self) -> None:
        """Close the connection. Idempotent; a later use opens it again."""
        await self._connection.disconnect()


def _connect_to(
    url: str | None, parts: tuple[str, int, int], password: str | None, pool_size: int
) -> BaseConnection:
    kind = "redis" if url is None or url.startswith("unix:") else StorageBackendFactory.type_of(url)
    if kind != "redis" and password is not None:
        raise ConfigError(f"a data store of type {kind!r} takes no password")
    match kind:
        case "memory":
            return _memory(url or "")
        case "sqlite":
            from omniq.datastore.sqlite import SQLiteConnection

            return SQLiteConnection(url=url or "")
        case "redis":
            from omniq.datastore.redis import RedisConnection

            host, port, db = parts
            return RedisConnection(host, port, db, password, pool_size, url=url)
        case _:
            raise ConfigError(f"no data store of type {kind!r}: use redis, sqlite or memory")


def _memory(url: str) -> MemoryConnection:
    if urlsplit(url).netloc or urlsplit(url).path.strip("/") or "?" in url:
        raise ConfigError(f"memory:// takes no host, path or option, got {masked(url)!r}")
    return MemoryConnection()
