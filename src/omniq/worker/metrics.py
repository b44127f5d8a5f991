"""Serving the metrics of a worker process."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

from omniq.exceptions import ConfigError

if TYPE_CHECKING:
    from omniq.core import OmniQ

LAST_PORT = 65_535


class MetricsAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the metrics of a process are served."""

    host: str
    port: int

    def of(self, number: int) -> MetricsAddress:
        """Return the address of one of several processes: each has a port of its own."""
        return MetricsAddress(host=self.host, port=self.port + number)


def check_metrics(app: OmniQ, address: MetricsAddress, processes: int) -> None:
    """Refuse before any worker starts what could not be counted or served.

    Raises:
        ConfigError: a port is taken or out of range, the host is none of this machine,
            prometheus-client is not installed, or has other metrics of the same names.
    """
    from omniq.integrations.prometheus import registry_of

    if not 0 < address.port <= LAST_PORT - processes + 1:
        raise ConfigError(
            f"metrics of {processes} process(es) at port {address.port} and on: ports end at "
            f"{LAST_PORT} and begin at 1"
        )
    registry_of(app)
    for number in range(processes):
        one = address.of(number)
        with _telling(one):
            family = socket.getaddrinfo(one.host, one.port, type=socket.SOCK_STREAM)[0][0]
            socket.create_server((one.host, one.port), family=family).close()


@contextmanager
def metrics_served(app: OmniQ, address: MetricsAddress | None) -> Generator[None]:
    """Serve what this process counts during the block, if it is to be served anywhere.

    Raises:
        ConfigError: the port is taken or may not be used.
    """
    if address is None:
        yield
        return
    from omniq.integrations.prometheus import served

    with ExitStack() as stack:
        with _telling(address):
            stack.enter_context(served(app, address.port, address.host))
        yield


@contextmanager
def _telling(address: MetricsAddress) -> Generator[None]:
    try:
        yield
    except OSError as error:
        where = f"{address.host}:{address.port}"
        raise ConfigError(f"metrics cannot be served at {where}: {error.strerror}") from error
