# ruff: noqa: PTH208 - nothing else runs while these tests look at files
"""Tables of older and newer versions: migrated as a whole, once, or refused; never half changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from omniq import OmniQ, Task
from omniq.cli.app import execute
from omniq.exceptions import SchemaError, StorageError
from omniq.storage.postgres import schema as postgres_schema
from omniq.storage.schemas import VersionedSchema
from omniq.storage.sqlite import schema as sqlite_schema
from tests.servers.postgres import postgres_url, schema

FROZEN = Path(__file__).parent / "schemas"
"""The tables of each version as they were when it came out. Never changed, only added to."""
SECOND = """
ALTER TABLE {task} ADD COLUMN note text;
CREATE TABLE {prefix}_extra (id integer PRIMARY KEY);
"""


class Place:
    """A store that can be looked at and written to past OmniQ."""

    def __init__(self, url: str, kind: str, names: Any) -> None:
        self.url, self.kind, self.names = url, kind, names

    async def run(self, script: str) -> None:
        raise NotImplementedError

    async def catalogue(self) -> list[tuple[Any, ...]]:
        """All that makes up the tables: columns, types, indexes."""
        raise NotImplementedError

    async def lay_out_first(self) -> None:
        """Make the tables of version 1, as OmniQ did when that was the only one."""
        script = (FROZEN / f"{self.kind}_1.sql").read_text()
        await self.run(script.format(**self.names._asdict()))

    async def version(self) -> int:
        return await self.value(f"SELECT value FROM {self.names.meta}")

    async def value(self, query: str) -> Any:
        raise NotImplementedError


class SQLitePlace(Place):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        super().__init__(f"sqlite:///{self.path}", "sqlite", sqlite_schema.tables("omniq"))

    async def run(self, script: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)

    async def value(self, query: str) -> Any:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchone()[0]

    async def catalogue(self) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
            return [(kind, name, " ".join((sql or "").split())) for kind, name, sql in rows]


class PostgresPlace(Place):
    def __init__(self) -> None:
        name = schema()
        names = postgres_schema.tables(name, "omniq")
        super().__init__(f"{postgres_url()}?schema={name}", "postgres", names)

    async def run(self, script: str) -> None:
        make = f'CREATE SCHEMA IF NOT EXISTS "{self.names.schema}";\n'
        await self._with(lambda connection: connection.execute(make + script))

    async def value(self, query: str) -> Any:
        return await self._with(lambda connection: connection.fetchval(query))

    async def catalogue(self) -> list[tuple[Any, ...]]:
        columns = (
            "SELECT table_name, column_name, data_type, is_nullable, column_default, "
            "collation_name FROM information_schema.columns WHERE table_schema = $1 ORDER BY 1, 2"
        )
        indexes = (
            "SELECT indexname, replace(indexdef, $1, '') FROM pg_indexes WHERE schemaname = $1 "
            "ORDER BY 1"
        )
        options = (
            "SELECT relname, reloptions FROM pg_class WHERE relnamespace = $1::regnamespace "
            "ORDER BY 1"
        )

        async def look(connection: asyncpg.Connection[Any]) -> list[tuple[Any, ...]]:
            rows = [
                row
                for query in (columns, indexes, options)
                for row in await connection.fetch(query, self.names.schema)
            ]
            return [tuple(row) for row in rows]

        found: list[tuple[Any, ...]] = await self._with(look)
        return found

    async def _with(self, work: Callable[[asyncpg.Connection[Any]], Any]) -> Any:
        connection = await asyncpg.connect(postgres_url())
        try:
            return await work(connection)
        finally:
            await connection.close()


@pytest.fixture(params=["postgres", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PostgresPlace() if request.param == "postgres" else SQLitePlace(tmp_path)


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Add a version to those known; `prefix` is the start of the table names."""

    def add(script: str = SECOND) -> None:
        for module in (postgres_schema, sqlite_schema):
            own = script if module is postgres_schema else script.replace("{prefix}", "omniq")
            own = own.replace("{prefix}_extra", '"{schema}"."{prefix}_extra"')
            monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, own))

    return add


@contextlib.asynccontextmanager
async def keeper(place: Place) -> AsyncGenerator[VersionedSchema]:
    """What looks after the tables, as of one process."""
    found = OmniQ(place.url).task_queue.versioned_schema
    assert found is not None
    yield found
    await found.close(None)


async def test_the_first_version_migrated_is_a_new_one(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However old the tables: in the end they are those that a fresh store gets."""
    await place.lay_out_first()
    async with OmniQ(place.url):
        pass

    folder = tmp_path_factory.mktemp("fresh")
    fresh: Place = PostgresPlace() if place.kind == "postgres" else SQLitePlace(folder)
    async with OmniQ(fresh.url):
        pass

    assert await place.catalogue() == await fresh.catalogue()


async def test_a_migration_keeps_what_is_stored(
    place: Place, second_version: Callable[..., None]
) -> None:
    """Opening is enough; a task of the version before runs."""
    await place.lay_out_first()
    async with OmniQ(place.url) as app:
        await app.enqueue_task(Task(func="f", id="old"))
    second_version()

    async with OmniQ(place.url) as app:
        task = await app.task_queue.dequeue()

    assert task is not None
    assert task.id == "old"
    assert await place.version() == 2
    assert await place.value(f"SELECT count(note) FROM {place.names.task}") == 0


async def test_one_of_many_migrates(place: Place, second_version: Callable[..., None]) -> None:
    """All programs of an application start at once with the new version."""
    await place.lay_out_first()
    second_version()
    steps: list[tuple[int, int]] = []

    async def migrate() -> int:
        async with keeper(place) as tables:
            state = await tables.migrate(lambda version, last: steps.append((version, last)))
            return state.found

    found = await asyncio.gather(*(migrate() for _ in range(5)))

    assert sorted(found) == [1, 2, 2, 2, 2]
    assert steps == [(2, 2)]
    assert await place.version() == 2


async def test_a_migration_that_fails_changes_nothing(
    place: Place, second_version: Callable[..., None]
) -> None:
    """Not even what came before the failure; the next try starts from the same tables."""
    await place.lay_out_first()
    before = await place.catalogue()
    second_version(SECOND + "ALTER TABLE {task} ADD COLUMN note text;\n")

    with pytest.raises(StorageError, match="note"):
        await OmniQ(place.url).connect()

    assert await place.catalogue() == before
    assert await place.version() == 1


async def test_without_migrate_older_tables_are_refused(
    place: Place, second_version: Callable[..., None]
) -> None:
    """The error names the command; afterwards the same program works."""
    await place.lay_out_first()
    second_version()
    separator = "&" if "?" in place.url else "?"
    app = OmniQ(f"{place.url}{separator}migrate=false")

    with pytest.raises(SchemaError, match=r"version 1, version 2 is needed.*`omniq migrate-schema"):
        await app.connect()
    assert await place.version() == 1
    async with keeper(place) as tables:
        await tables.migrate()

    await app.enqueue_task(Task(func="f"))
    await app.disconnect()


async def test_without_migrate_nothing_is_made(tmp_path: Path) -> None:
    """Not the file, and nothing beside it: a wrong path is told, not filled."""
    app = OmniQ(f"sqlite:///{tmp_path}/queue.db?migrate=false")

    with pytest.raises(SchemaError, match="no tables, version 1 is needed"):
        await app.connect()

    assert os.listdir(tmp_path) == []


# The command


def _told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (told,) = json.loads(capsys.readouterr().out)
    return dict(told)


def test_the_command_checks_then_migrates(
    place: Place, second_version: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 says there is work to do; a check leaves it undone."""
    asyncio.run(place.lay_out_first())
    second_version()

    for _ in range(2):
        assert execute(["migrate-schema", place.url, "--check", "--json"]) == 1
        told = _told(capsys)
        assert (told["standing"], told["found"], told["known"]) == ("older", 1, 2)
        assert told["migrated"] is False
    assert execute(["migrate-schema", place.url, "--json"]) == 0
    assert _told(capsys)["migrated"] is True
    assert execute(["migrate-schema", "--app", place.url, "--check"]) == 0
    assert asyncio.run(place.version()) == 2


def test_the_statements_can_be_run_by_hand(
    place: Place, second_version: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """For an owner of the tables who trusts no program with them; step by step."""
    for version in (1, 2):
        assert execute(["migrate-schema", place.url, "--sql"]) == 0
        asyncio.run(place.run(capsys.readouterr().out))
        assert execute(["migrate-schema", place.url, "--check"]) == 0
        assert asyncio.run(place.version()) == version
        capsys.readouterr()
        if version == 1:
            second_version()

    assert execute(["migrate-schema", place.url, "--sql"]) == 0
    assert capsys.readouterr().out == ""


def test_newer_tables_are_left_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """An old program must not touch what it does not understand."""
    asyncio.run(place.lay_out_first())
    asyncio.run(place.run(f"UPDATE {place.names.meta} SET value = 99;"))

    for options in ([], ["--check"], ["--sql"]):
        assert execute(["migrate-schema", place.url, *options]) == 3
        assert "upgrade it" in " ".join(capsys.readouterr().err.split())
    assert asyncio.run(place.version()) == 99


def test_a_store_without_tables_has_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """One command for every deployment, whatever it uses."""
    assert execute(["migrate-schema", "memory://", "--check"]) == 0
    assert "none of these stores has tables" in capsys.readouterr().out
