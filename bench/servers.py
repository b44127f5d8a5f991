"""The servers of one run: private, on free ports, as durable as users should have them.

Valkey has the allocator of its released builds and appends to a file that is synced every second,
PostgreSQL syncs each commit, JetStream keeps its streams in files. Each experiment has a new
Valkey or NATS server, or a new database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.servers.debian import Program

URL_VARIABLE = "BENCH_URL"
_JEMALLOC = "libjemalloc.so.2"


@contextmanager
def serving(backend: str, directory: Path) -> Generator[str]:
    """Yield the URL of an empty server for this backend; '' for those without one."""
    match backend:
        case "redis":
            from tests.servers.redis import running_redis

            with running_redis(directory, made_by=_valkey()) as server:
                yield server.url
        case "nats":
            from tests.servers.nats import running_nats

            with running_nats(directory) as server:
                yield server.url
        case "postgres":
            name = f"bench_{uuid4().hex}"
            url = _postgres()
            asyncio.run(_execute(url, "CHECKPOINT", f"CREATE DATABASE {name}"))
            try:
                yield url.rpartition("/")[0] + f"/{name}"
            finally:
                asyncio.run(_execute(url, f"DROP DATABASE {name} WITH (FORCE)"))
        case _:
            yield ""


@cache
def _valkey() -> Program:
    """Return Valkey of its wheel, with the jemalloc that the wheel was built without.

    The packages and images of Valkey and Redis contain it; with the allocator of glibc a server
    needs about half as much time again for the same commands.
    """
    from tests.servers.redis import redis7, redis_program

    folders = redis7().environment.get("LD_LIBRARY_PATH", "")
    found = [
        path for folder in folders.split(":") if folder for path in Path(folder).glob(_JEMALLOC)
    ]
    library = str(found[0]) if found else _JEMALLOC
    return Program(Path(redis_program()), {"LD_PRELOAD": library})


@cache
def _postgres() -> str:
    """Return the URL of the one PostgreSQL server of this process, which ends with it."""
    import atexit

    from tests.servers.postgres import DURABLE, postgres

    running = postgres(*DURABLE)
    server = running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    return server.url


async def _execute(url: str, *statements: str) -> None:
    import asyncpg

    connection: Any = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
