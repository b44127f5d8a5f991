"""A private PgBouncer in transaction mode before a PostgreSQL server, where it is installed."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.servers.process import Server, answers, free_port, is_root

_SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


@contextmanager
def running_pgbouncer(folder: Path, postgres_url: str) -> Generator[Server]:
    """Run one before this server; its URL names the same user and database."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    parts, port = urlsplit(postgres_url), free_port()
    config = folder / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"* = host={parts.hostname} port={parts.port}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\n"
        "ignore_startup_parameters = extra_float_digits\n"
        "logfile =\npidfile =\n"
    )
    if parts.username:
        text = config.read_text().replace("* = ", f"* = user={parts.username} ")
        config.write_text(text)
    server = Server(
        "pgbouncer",
        [program, str(config)],
        f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}",
        partial(answers, port, _SSL_REQUEST, b"N"),
        folder,
        **_not_as_root(folder),
    )
    try:
        yield server
    finally:
        server.stop()


def _not_as_root(folder: Path) -> dict[str, Any]:
    """It refuses to run as root."""
    if not is_root():
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.parents):
        if path.stat().st_uid == 0 and path != Path("/") and not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 0o1)
    (folder / "pgbouncer.ini").chmod(0o644)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
