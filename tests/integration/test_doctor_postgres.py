"""What the doctor says about PostgreSQL: settings, sessions, tables, listening."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import asyncpg
import pytest

from omniq import OmniQ
from omniq.backend.postgres import PostgresBackend
from omniq.models.task import Task
from omniq.testing.waiting import wait_until
from tests.integration.diagnoses import bad, findings_of
from tests.servers.pgbouncer import running_pgbouncer
from tests.servers.postgres import DURABLE, postgres, postgres_url, schema
from tests.servers.process import Server


@pytest.fixture(scope="module")
def durable() -> Generator[Server]:
    """A server with the settings PostgreSQL comes with."""
    with postgres("-c", "max_prepared_transactions=2") as server:
        yield server


class TestPostgres:
    """Settings, sessions, tables, listening."""

    async def test_a_durable_server_is_fine(self, durable: Server) -> None:
        """The settings PostgreSQL comes with."""
        async with PostgresBackend(durable.url) as backend:
            found = await backend.findings()
            moment = await backend.get_task_queue().store_time()

        assert not bad(found)
        assert any("LISTEN arrive" in item.text for item in found)
        assert moment is not None

    async def test_settings_that_lose_data_are_risks(self) -> None:
        """Of the server, not of our connection."""
        async with PostgresBackend(postgres_url(), schema=schema()) as backend:
            texts = [text for level, text in bad(await backend.findings()) if level == "risk"]

        assert any("fsync is off" in text for text in texts)

    @pytest.mark.parametrize(
        ("setting", "text"),
        [("synchronous_commit", "synchronous_commit is off"), ("autovacuum", "autovacuum is off")],
    )
    async def test_a_setting_turned_off_is_a_risk(
        self, durable: Server, setting: str, text: str
    ) -> None:
        """Both are turned off to be faster, and then forgotten."""
        connection = await asyncpg.connect(durable.url)
        await connection.execute(f"ALTER SYSTEM SET {setting} = off")
        await connection.execute("SELECT pg_reload_conf()")
        try:
            await _until_set(connection, setting, "off")
            async with PostgresBackend(durable.url) as backend:
                found = bad(await backend.findings())
        finally:
            await connection.execute(f"ALTER SYSTEM RESET {setting}")
            await connection.execute("SELECT pg_reload_conf()")
            await _until_set(connection, setting, "on")
            await connection.close()

        assert found[0][0] == "risk"
        assert text in found[0][1]

    async def test_what_holds_old_rows_is_named(
        self, durable: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An idle transaction anywhere slows every claim down."""
        monkeypatch.setattr("omniq.storage.postgres.doctor.LONG_SECONDS", 0)
        idle = await asyncpg.connect(
            durable.url, server_settings={"application_name": "forgotten-notebook"}
        )
        await idle.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await idle.fetch("SELECT count(*) FROM pg_class")
        prepared = await asyncpg.connect(durable.url)
        await prepared.execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'lost'")
        async with PostgresBackend(durable.url) as backend:
            texts = [text for level, text in bad(await backend.findings()) if level == "risk"]
        await prepared.execute("ROLLBACK PREPARED 'lost'")
        await prepared.close()
        await idle.close()

        assert any("forgotten-notebook" in text and "idle in trans" in text for text in texts)
        assert any("prepared transaction lost" in text for text in texts)

    async def test_a_table_nobody_vacuums_is_a_risk(
        self, durable: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Dead rows are what makes a queue in PostgreSQL slow."""
        monkeypatch.setattr("omniq.storage.postgres.doctor.MANY_DEAD", 100)
        async with PostgresBackend(durable.url, schema="dead") as backend:
            connection = await asyncpg.connect(durable.url)
            await connection.execute("ALTER TABLE dead.omniq_task SET (autovacuum_enabled = false)")
            queue = backend.get_task_queue()
            await queue.enqueue_many([Task(func="jobs.send") for _ in range(300)])
            await connection.execute("DELETE FROM dead.omniq_task")
            await connection.execute("SELECT pg_stat_force_next_flush()")
            await connection.execute("SELECT 1")
            await connection.close()
            texts = [text for level, text in bad(await backend.findings()) if level == "risk"]

        assert any("autovacuum is turned off for omniq_task" in text for text in texts)
        assert any("300 dead rows" in text for text in texts)

    async def test_a_replica_is_broken(self) -> None:
        """Reads work there, so it is noticed late."""
        with postgres(*DURABLE) as server:
            async with PostgresBackend(server.url) as backend:
                server.stop()
                (server.folder / "data" / "standby.signal").touch()
                server.start()
                texts = [text for level, text in bad(await backend.findings()) if level == "broken"]
            told = await findings_of(OmniQ(server.url))

        assert any("read-only replica" in text for text in texts)
        assert bad(told)[0][1].startswith("cannot be used")
        assert "read-only replica" in bad(told)[0][1]

    async def test_listening_through_a_pooler_is_a_risk(
        self, durable: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wake-ups get lost, and nobody sees why tasks start late."""
        monkeypatch.setattr("omniq.storage.postgres.doctor.HEAR_SECONDS", 1.0)
        with running_pgbouncer(durable.url) as pooler:
            options: dict[str, Any] = {"statement_cache_size": 0}
            async with PostgresBackend(pooler.url, **options) as backend:
                through = bad(await backend.findings())
            async with PostgresBackend(pooler.url, **options, direct_dsn=durable.url) as backend:
                beside = await backend.findings()
            async with PostgresBackend(pooler.url, **options, listen=False) as backend:
                polling = await backend.findings()

        assert any("LISTEN" in text for _, text in through)
        assert not bad(beside)
        assert any("through a pooler" in item.text for item in beside)
        assert not bad(polling)

    async def test_a_direct_way_to_another_server_is_a_risk(
        self, durable: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Everything seems to work, but for wake-ups."""
        monkeypatch.setattr("omniq.storage.postgres.doctor.HEAR_SECONDS", 0.5)
        async with PostgresBackend(durable.url, direct_dsn=postgres_url()) as backend:
            found = bad(await backend.findings())

        assert any("do not arrive" in text for _, text in found)

    async def test_no_finding_shows_a_password(self, durable: Server) -> None:
        """Findings end up in tickets."""
        url = durable.url.replace("postgres@", "postgres:correct-horse@")
        async with PostgresBackend(url) as backend:
            assert "correct-horse" not in str(await backend.findings())


async def _until_set(connection: Any, setting: str, value: str) -> None:
    """Wait until the server has read its configuration again."""

    async def is_set() -> bool:
        return await connection.fetchval(f"SHOW {setting}") == value

    await wait_until(is_set, description=f"{setting} is {value}")
