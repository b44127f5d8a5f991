"""The engines that run as servers: what a test that breaks all of them alike must know of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from tests.servers import nats, postgres, redis
from tests.servers.process import Server


class Engine(NamedTuple):
    """One of them.

    Attributes:
        url: of the shared server.
        space: the part of a URL that names a new, empty store on it.
        durable: runs a server of one's own, with settings by which a crash costs nothing.
    """

    url: Callable[[], str]
    space: Callable[[], str]
    durable: Callable[[Path], AbstractContextManager[Server]]

    def store(self) -> str:
        """Return the URL of a new, empty store on the shared server."""
        return f"{self.url()}?{self.space()}"

    def store_through(self, port: int) -> str:
        """Return the URL of a new, empty store, reached through this port."""
        return at_port(self.store(), port)

    def port(self) -> int:
        """Return the port of the shared server."""
        port = urlsplit(self.url()).port
        assert port is not None
        return port


def at_port(url: str, port: int) -> str:
    """Return the URL with another port."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{port}"))


def _durable_postgres(folder: Path) -> AbstractContextManager[Server]:
    return postgres.postgres(*postgres.DURABLE)


def _durable_redis(folder: Path) -> AbstractContextManager[Server]:
    return redis.running_redis(folder, "--appendfsync", "always")


ENGINES = {
    "nats": Engine(
        nats.nats_url,
        lambda: f"namespace={nats.namespace()}",
        partial(nats.running_nats, jetstream="sync_interval: always"),
    ),
    "postgres": Engine(
        postgres.postgres_url,
        lambda: f"schema={postgres.schema()}",
        _durable_postgres,
    ),
    "redis": Engine(
        redis.redis_url,
        lambda: f"namespace={redis.namespace()}",
        _durable_redis,
    ),
}
