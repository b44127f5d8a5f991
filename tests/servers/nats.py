"""Private NATS servers with JetStream: one alone, or a cluster of three.

The tests of one process share them; each test takes a namespace of its own. OMNIQ_TEST_NATS_URL
(and OMNIQ_TEST_NATS_CLUSTER_URL) name servers to use instead.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from uuid import uuid4

from nats.aio.client import Client

from tests.servers.process import Server, answers, free_port, script, share

MAX_PAYLOAD = 9 << 20
"""Above the largest result OmniQ takes; the server's own default is 1 MiB."""
CLUSTER_SECONDS = 30.0


@cache
def nats_url() -> str:
    """Return the URL of the shared server; it is started once and ended with this process."""
    given = os.environ.get("OMNIQ_TEST_NATS_URL")
    return given or share(start_nats(_folder())).url


@cache
def cluster_url() -> str:
    """Return the URL of the shared cluster; it is started once and ended with this process."""
    given = os.environ.get("OMNIQ_TEST_NATS_CLUSTER_URL")
    if given:
        return given
    nodes = [share(node) for node in start_cluster(_folder())]
    return url_of(nodes)


def namespace() -> str:
    """Return a namespace nobody used yet."""
    return f"test-{uuid4().hex}"


async def drop_all(url: str) -> None:
    """Delete all that tests kept: on a cluster, each stream is a vote of its own, for ever."""
    client = Client()
    await client.connect(url.removeprefix("nats://").split(","))  # pyright: ignore[reportUnknownMemberType] - the driver leaves its options untyped
    try:
        manager = client.jsm()  # pyright: ignore[reportUnknownMemberType] - likewise
        for stream in await manager.streams_info():
            name = stream.config.name or ""
            if name.removeprefix("KV_").startswith("test-"):
                await manager.delete_stream(name)
    finally:
        await client.close()


def start_nats(
    folder: Path, *lines: str, jetstream: str = "", max_payload: int = MAX_PAYLOAD
) -> Server:
    """Start a server that keeps its data when started again.

    Args:
        folder: for its data, settings and log.
        lines: further lines of its configuration.
        jetstream: further settings of JetStream; ``off`` leaves it out.
        max_payload: the largest message it takes.
    """
    port = free_port()
    settings = [f"listen: 127.0.0.1:{port}", f"max_payload: {max_payload}", *lines]
    if jetstream != "off":
        settings.append(f'jetstream {{ store_dir: "{folder}/data", {jetstream} }}')
    return _started(f"nats-{port}", folder, port, settings)


@contextmanager
def running_nats(
    folder: Path, *lines: str, jetstream: str = "", max_payload: int = MAX_PAYLOAD
) -> Generator[Server]:
    """Run a server of one's own, to be broken at will; arguments as of `start_nats`."""
    server = start_nats(folder, *lines, jetstream=jetstream, max_payload=max_payload)
    try:
        yield server
    finally:
        server.stop()


def start_cluster(folder: Path, size: int = 3) -> list[Server]:
    """Start nodes that keep JetStream together, and wait until they do."""
    routes = [free_port() for _ in range(size)]
    urls = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
    monitors: list[int] = []
    nodes: list[Server] = []
    for number, route in enumerate(routes):
        name, home, port, monitor = (
            f"node{number}",
            folder / f"node{number}",
            free_port(),
            free_port(),
        )
        home.mkdir()
        settings = [
            f"server_name: {name}",
            f"listen: 127.0.0.1:{port}",
            f"http: 127.0.0.1:{monitor}",
            f"max_payload: {MAX_PAYLOAD}",
            f'jetstream {{ store_dir: "{home}/data" }}',
            f"cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{urls}] }}",
        ]
        nodes.append(_started(name, home, port, settings))
        monitors.append(monitor)
    ends_at = time.monotonic() + CLUSTER_SECONDS
    while not all(_knows_all(monitor, size) for monitor in monitors):
        if time.monotonic() > ends_at:
            raise TimeoutError("the nodes did not become a cluster")
        time.sleep(0.1)
    return nodes


def port_of(server: Server) -> int:
    """Return the port of a server started here."""
    return int(server.url.rpartition(":")[2])


def url_of(nodes: list[Server]) -> str:
    """Return one URL that names all nodes of a cluster."""
    return "nats://" + ",".join(f"127.0.0.1:{port_of(node)}" for node in nodes)


def _knows_all(monitor: int, size: int) -> bool:
    """Whether a node has elected a leader of JetStream and sees all its peers online."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz", timeout=1) as answer:
            meta = json.load(answer).get("meta_cluster", {})
    except (OSError, urllib.error.URLError):
        return False
    return bool(meta.get("leader")) and meta.get("cluster_size") == size


def _started(name: str, folder: Path, port: int, settings: list[str]) -> Server:
    path = folder / f"{name}.conf"
    path.write_text("\n".join(settings))
    command = [script("nats-server"), "-c", str(path)]
    probe = partial(answers, port, b"", b"INFO")
    return Server(name, command, f"nats://127.0.0.1:{port}", probe, folder)


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="omniq-nats-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
