"""A private PgBouncer in transaction mode, before a PostgreSQL server.

The tests of one process share one. It comes from Debian's package, see `tests.servers.debian`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers import debian
from tests.servers.postgres import postgres_url
from tests.servers.process import Server, answers, free_port, is_root, keep

POOL_SIZE = 8
"""Connections to the server: fewer than a test has clients, so that they do share."""
_SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


@cache
def pgbouncer_url() -> str:
    """Return the URL of a shared one before the shared server."""
    return keep(running_pgbouncer(postgres_url())).url


@contextmanager
def running_pgbouncer(server_url: str) -> Generator[Server]:
    """Run one before this server; its URL names the same user and database."""
    program = debian.program("pgbouncer", "usr/sbin/pgbouncer")
    folder = Path(tempfile.mkdtemp(prefix="omniq-pgbouncer-"))
    folder.chmod(0o755)  # the user that runs it must get through
    port, parts = free_port(), urlsplit(server_url)
    config = folder / "pgbouncer.ini"
    config.write_text(_configuration(port, server_url))
    options: dict[str, Any] = {"env": {**os.environ, **program.environment}, "cwd": "/"}
    server: Server | None = None
    try:
        server = Server(
            "pgbouncer",
            [str(program.path), str(config)],
            f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}",
            partial(answers, port, _SSL_REQUEST, b"N"),
            folder,
            **(options | _not_as_root()),
        )
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(port: int, server_url: str) -> str:
    parts = urlsplit(server_url)
    password = f" password={parts.password}" if parts.password else ""
    lines = (
        "[databases]",
        f"* = host={parts.hostname} port={parts.port or 5432} user={parts.username}{password}",
        "[pgbouncer]",
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =",
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {POOL_SIZE}",
        "max_client_conn = 1000\nserver_round_robin = 1",
        "logfile =\npidfile =",
    )
    return "\n".join(lines) + "\n"


def _not_as_root() -> dict[str, Any]:
    """It refuses to run as root."""
    if not is_root():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
