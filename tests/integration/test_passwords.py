"""Passwords of servers stay between us and the server, on each engine alike."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from omniq import OmniQ
from omniq.exceptions import StorageError
from omniq.models import Task
from omniq.models.config import OmniQConfig
from tests.servers.engines import ENGINES
from tests.servers.nats import running_nats
from tests.servers.postgres import postgres
from tests.servers.process import free_port
from tests.servers.redis import running_redis

PASSWORD, WRONG = "s3cr3t/p@ss", "n0t-s3cr3t/p@ss"
USER = "keeper"


@contextmanager
def locked(name: str, folder: Path) -> Generator[int]:
    """Run a server that asks for the password; give its port."""
    match name:
        case "nats":
            line = f'authorization {{ user: {USER}, password: "{PASSWORD}" }}'
            with running_nats(folder, line) as server:
                yield int(server.url.rpartition(":")[2])
        case "redis":
            acl = ("--user", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
            with running_redis(folder, *acl) as server:
                yield urlsplit(server.url).port or 0
        case _:
            with postgres() as server:
                rules = server.folder / "data" / "pg_hba.conf"
                rules.write_text(f"host all {USER} all scram-sha-256\n{rules.read_text()}")
                yield urlsplit(server.url).port or 0


async def make_keeper(port: int) -> None:
    """Make the role, as one who is trusted, and let the rules for it hold."""
    connection = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres")
    try:
        await connection.execute(f"CREATE ROLE {USER} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


SCHEMES = {"nats": "nats", "postgres": "postgresql", "redis": "redis"}
DATABASES = {"nats": "", "postgres": "/postgres", "redis": "/0"}


def url_of(name: str, port: int, password: str) -> str:
    """Return the URL by which somebody with this password comes."""
    secret = quote(password, safe="")
    return f"{SCHEMES[name]}://{USER}:{secret}@127.0.0.1:{port}{DATABASES[name]}"


@pytest.mark.parametrize("name", ENGINES)
async def test_a_password_is_never_shown(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in an error, a log line or a `repr`: whether it was right, wrong or for nobody."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with locked(name, tmp_path) as port:
        if name == "postgres":
            await make_keeper(port)
        async with OmniQ(url_of(name, port, PASSWORD)) as app:
            (handle,) = await app.enqueue_tasks([Task(func="f")])
            shown += [str(await handle.status()), *map(describe, parts_of(app))]
            await app.worker(burst=True).run()
        shown.append(await refused(url_of(name, port, WRONG)))
    shown.append(await refused(url_of(name, free_port(), PASSWORD)))
    shown.append(describe(OmniQConfig(url=url_of(name, 1, PASSWORD))))

    assert re.search(rf"serves default; tasks, .* in {name} .*127\.0\.0\.1", caplog.text)
    for text in (*shown, caplog.text):
        for secret in (PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in text


def parts_of(app: OmniQ) -> list[object]:
    """Return all that somebody may print."""
    return [app, app.task_queue, app.result_storage, app.event_storage, app.schedule_storage]


def describe(thing: object) -> str:
    return f"{thing} {thing!r}"


async def refused(url: str) -> str:
    """Return all that an error says, with what it was raised from."""
    app = OmniQ(url)
    with pytest.raises(StorageError) as caught:
        await app.connect()
    await app.disconnect()
    return "".join(traceback.format_exception(caught.value)) + describe(caught.value)
