"""Private NATS servers with JetStream: one alone, or a cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.servers.process import Server, answers, free_port, script

MAX_PAYLOAD = 9 << 20
"""Above the largest result OmniQ takes; the server's own default is 1 MiB."""


def start_nats(folder: Path, *lines: str, max_payload: int = MAX_PAYLOAD) -> Server:
    """Start a server that keeps its data when started again; `lines` go to its configuration."""
    port = free_port()
    settings = [
        f"listen: 127.0.0.1:{port}",
        f"max_payload: {max_payload}",
        f'jetstream {{ store_dir: "{folder}/data", sync_interval: always }}',
        *lines,
    ]
    return _started("nats", folder, port, settings)


def start_nats_cluster(folder: Path, size: int = 3) -> list[Server]:
    """Start a cluster, each node with a folder of its own."""
    routes = [free_port() for _ in range(size)]
    urls = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
    nodes: list[Server] = []
    for number, route in enumerate(routes):
        name, home, port = f"node{number}", folder / f"node{number}", free_port()
        home.mkdir()
        settings = [
            f"server_name: {name}",
            f"listen: 127.0.0.1:{port}",
            f"max_payload: {MAX_PAYLOAD}",
            f'jetstream {{ store_dir: "{home}/data" }}',
            f"cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{urls}] }}",
        ]
        nodes.append(_started(name, home, port, settings))
    return nodes


def _started(name: str, folder: Path, port: int, settings: list[str]) -> Server:
    path = folder / f"{name}.conf"
    path.write_text("\n".join(settings))
    command = [script("nats-server"), "-c", str(path)]
    return Server(
        name, command, f"nats://127.0.0.1:{port}", partial(answers, port, b"", b"INFO"), folder
    )
