"""Clients of the redis driver: one for each running event loop, closed with that loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from importlib import import_module
from typing import Any

from omniq.exceptions import ConfigError
from omniq.loops import PerLoop
from omniq.storage.redis.address import Address

CLOSE_SECONDS = 2.0
BLOCKING_CONNECTIONS = 1000


class Client:
    """A client of the driver and the gates that bound its connections. Made inside a loop."""

    def __init__(self, address: Address) -> None:
        self.driver, self._owned = make_driver(address)
        self.gate = asyncio.Semaphore(address.max_connections)
        self.blocking_gate = asyncio.Semaphore(BLOCKING_CONNECTIONS)
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._keeper = self._keep()
        self._kept = False

    async def keep(self) -> None:
        """Let the shutdown of this loop close the client, should nobody else do it.

        A loop awaits the end of its asynchronous generators before it closes.
        """
        if not self._kept:
            self._kept = True
            await anext(self._keeper)

    async def close(self) -> None:
        """Close all connections, in the loop they belong to. Idempotent."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if loop is asyncio.get_running_loop():
            await self._end()
        elif loop.is_running():
            ended = asyncio.run_coroutine_threadsafe(self._end(), loop)
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(asyncio.wrap_future(ended), CLOSE_SECONDS)

    async def _end(self) -> None:
        if self._kept:
            await self._keeper.aclose()
        else:
            await self._close_driver()

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close_driver()

    async def _close_driver(self) -> None:
        for one in self._owned:
            with suppress(OSError, RuntimeError, TimeoutError):
                await one.aclose()


class Clients:
    """One client for each event loop that asks."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._per_loop: PerLoop[Client] = PerLoop(self._make)
        self._all: weakref.WeakSet[Client] = weakref.WeakSet()
        self._guard = threading.Lock()

    async def get(self) -> Client:
        """Return the client of the running loop."""
        client = self._per_loop.get()
        await client.keep()
        return client

    async def close(self) -> None:
        """Close the clients of all loops; the next `get` makes a new one."""
        with self._guard:
            clients, self._all = list(self._all), weakref.WeakSet()
            self._per_loop = PerLoop(self._make)
        for client in clients:
            await client.close()

    def _make(self) -> Client:
        client = Client(self._address)
        with self._guard:
            self._all.add(client)
        return client


def make_driver(address: Address) -> tuple[Any, list[Any]]:
    """Return a client of the driver, and all that must be closed with it. Opens nothing.

    Raises:
        ConfigError: the driver is not installed.
    """
    try:
        driver: Any = import_module("redis.asyncio")
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the redis backend needs its driver: pip install 'omniq-tasks[redis]'"
        ) from error
    options = {**_options(address), "retry": Retry(NoBackoff(), 0)}
    match address.topology:
        case "single":
            ((host, port),) = address.hosts
            made = driver.Redis(host=host, port=port, db=address.db, **options)
            return made, [made]
        case "unix":
            made = driver.Redis(unix_socket_path=address.path, db=address.db, **options)
            return made, [made]
        case "sentinel":
            return _sentinel(driver, address, options)
        case "cluster":
            nodes = [driver.cluster.ClusterNode(host, port) for host, port in address.hosts]
            made = driver.RedisCluster(startup_nodes=nodes, **options)
            return made, [made]


def _sentinel(driver: Any, address: Address, options: dict[str, Any]) -> tuple[Any, list[Any]]:
    asking = {
        **options,
        "username": address.sentinel_username,
        "password": address.sentinel_password,
    }
    sentinel = driver.Sentinel(address.hosts, sentinel_kwargs=asking)
    made = sentinel.master_for(address.service, db=address.db, **options)
    return made, [made, *sentinel.sentinels]


def _options(address: Address) -> dict[str, Any]:
    """Return what all kinds of clients take. `RedisServer` keeps the deadlines of calls."""
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": None,
        "socket_connect_timeout": address.connect_timeout_seconds,
        "socket_keepalive": True,
        "client_name": "omniq",
        "max_connections": address.max_connections + BLOCKING_CONNECTIONS,
    }
    if address.ssl:
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": address.ssl_ca_certs,
            "ssl_certfile": address.ssl_certfile,
            "ssl_keyfile": address.ssl_keyfile,
        }
    return options
