"""What the doctor says about real stores with real faults, and that it is quiet without them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Generator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from omniq import OmniQ
from omniq.backend.file import FileBackend
from omniq.backend.nats import NATSBackend
from omniq.backend.postgres import PostgresBackend
from omniq.backend.redis import RedisBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.cli.app import execute
from omniq.exceptions import StorageError
from omniq.models.finding import Finding, Level
from omniq.models.result import TaskResult
from omniq.models.task import Task
from omniq.storage.local import disk
from omniq.storage.nats.frames import Frame
from omniq.storage.sqlite import doctor as sqlite_doctor
from omniq.testing.waiting import wait_until
from tests.integration.disks import tmpfs_disk
from tests.servers import nats as nats_servers
from tests.servers.pgbouncer import running_pgbouncer
from tests.servers.postgres import DURABLE, postgres, postgres_url, schema
from tests.servers.process import Server, free_port
from tests.servers.redis import cluster_url, namespace, running_redis


def bad(found: list[Finding]) -> list[tuple[str, str]]:
    """The level and the text of all that is not fine; each says what to do."""
    assert all(item.hint for item in found if item.level is not Level.FINE)
    return [(item.level.value, item.text) for item in found if item.level is not Level.FINE]


def only(found: list[Finding]) -> tuple[str, str]:
    (one,) = bad(found)
    return one


class TestSQLite:
    """The file, its log, its disk."""

    async def test_a_new_file_is_fine(self, tmp_path: Path) -> None:
        """Nothing to say about what was just made."""
        async with SQLiteBackend(tmp_path / "q.db") as backend:
            assert not bad(await backend.findings())

    async def test_fast_durability_is_a_risk(self, tmp_path: Path) -> None:
        """Somebody chose it, somebody else may not know."""
        async with SQLiteBackend(tmp_path / "q.db", durability="fast") as backend:
            level, text = only(await backend.findings())

        assert level == "risk"
        assert "durability is 'fast'" in text

    async def test_a_damaged_page_is_found(self, tmp_path: Path) -> None:
        """Before a claim stumbles over it."""
        path = tmp_path / "q.db"
        async with SQLiteBackend(path) as backend:
            await backend.get_task_queue().enqueue_many(
                [Task(func="jobs.send", args=("x" * 200,)) for _ in range(300)]
            )
        with sqlite3.connect(path) as connection:
            root = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'omniq_payload'"
            ).fetchone()[0]
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with path.open("r+b") as file:
            file.seek((root - 1) * 4096)
            file.write(b"\xff" * 2000)

        async with SQLiteBackend(path) as backend:
            level, text = only(await backend.findings())

        assert level == "broken"
        assert "the file is damaged" in text

    async def test_a_log_that_a_reader_holds_is_a_risk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Everything gets slower, and nobody knows why."""
        monkeypatch.setattr(sqlite_doctor, "LARGE_WAL_BYTES", 256 << 10)
        path = tmp_path / "q.db"
        async with SQLiteBackend(path, durability="full") as backend:
            reader = sqlite3.connect(path)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM omniq_task").fetchall()
            await backend.get_result_storage().set(TaskResult(task_id="t", result="x" * 400_000))
            level, text = only(await backend.findings())
            reader.close()

        assert level == "risk"
        assert "write-ahead log" in text

    def test_the_wal_bug_matters_where_nothing_guards_against_it(self) -> None:
        """On systems without the write lock."""
        judge = sqlite_doctor.version_finding

        assert judge("x", (3, 51, 2), is_guarded=True).level is Level.FINE
        assert judge("x", (3, 51, 2), is_guarded=False).level is Level.RISK
        assert judge("x", (3, 51, 3), is_guarded=False).level is Level.FINE
        assert judge("x", (3, 50, 7), is_guarded=False).level is Level.FINE


class TestFiles:
    """Records, journal, disk."""

    async def test_a_new_folder_is_fine(self, tmp_path: Path) -> None:
        """Nothing to say about what was just made."""
        async with FileBackend(tmp_path / "jobs") as backend:
            await backend.get_task_queue().enqueue(Task(func="jobs.send"))
            assert not bad(await backend.findings())

    async def test_a_damaged_record_is_set_aside_and_told(self, tmp_path: Path) -> None:
        """It hides no other, and is not forgotten."""
        async with FileBackend(tmp_path / "jobs") as backend:
            queue = backend.get_task_queue()
            await queue.enqueue_many(
                [Task(func="jobs.send", id="good"), Task(func="jobs.send", id="torn")]
            )
        for path in (tmp_path / "jobs").rglob("*torn*.json"):
            path.write_bytes(b"\0" * 40)

        async with FileBackend(tmp_path / "jobs") as backend:
            level, text = only(await backend.findings())
            assert await backend.get_task_queue().get_task("good") is not None

        assert level == "risk"
        assert "1 damaged records were set aside: torn" in text

    async def test_a_disk_that_fills_up_is_told_before_and_after(self, tmp_path: Path) -> None:
        """Before is when it helps."""
        with tmpfs_disk(tmp_path / "disk") as small:
            async with FileBackend(small.folder / "jobs") as backend:
                found = [item for item in await backend.findings() if "disk" in item.component]
                small.fill()
                full = [item for item in await backend.findings() if "disk" in item.component]

        assert only(found)[0] == "broken"  # two megabytes are full from the start
        assert only(full)[1].startswith("is full, 0 MiB free")

    def test_a_disk_is_nearly_full_by_share_and_by_size(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Five percent of a large disk is room enough."""
        free = shutil.disk_usage(tmp_path).free
        monkeypatch.setattr(disk, "NEARLY_FULL", (free + (1 << 30), free + (1 << 30)))

        level, text = only(disk.disk_findings(tmp_path))

        assert level == "risk"
        assert "is nearly full" in text


class TestRedis:
    """Servers set up for caching, not for keeping."""

    async def test_a_durable_server_is_fine(self, tmp_path: Path) -> None:
        """The settings the documentation names."""
        with running_redis(tmp_path) as server:
            async with RedisBackend(server.url) as backend:
                found = await backend.findings()

        assert not bad(found)
        assert any("synced every second" in item.text for item in found)

    async def test_a_cache_is_a_risk_in_three_ways(self, tmp_path: Path) -> None:
        """Evicts, forgets, is nearly full; and is refused unless told otherwise."""
        options = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "2mb", "--appendonly", "no")
        with running_redis(tmp_path, *options) as server:
            async with RedisBackend(server.url, allow_eviction=True) as backend:
                results = backend.get_result_storage()
                for number in range(30):
                    await results.set(TaskResult(task_id=f"t{number}", result="x" * 60_000))
                texts = [text for level, text in bad(await backend.findings()) if level == "risk"]
            with pytest.raises(StorageError):
                await RedisBackend(server.url).connect()
            told = await _findings_of(OmniQ(server.url))

        assert any("allkeys-lru" in text for text in texts)
        assert any("appendonly is off" in text for text in texts)
        assert any("of maxmemory" in text for text in texts)
        assert bad(told)[0][1].startswith("cannot be used")

    async def test_an_append_only_file_that_is_never_synced_is_a_risk(self, tmp_path: Path) -> None:
        """It looks durable."""
        with running_redis(tmp_path, "--appendfsync", "no") as server:
            async with RedisBackend(server.url) as backend:
                level, text = only(await backend.findings())

        assert level == "risk"
        assert "appendfsync is no" in text

    async def test_a_replica_is_broken(self, tmp_path: Path) -> None:
        """It turns into one after a failover, while clients stay connected."""
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        with running_redis(tmp_path / "a") as primary, running_redis(tmp_path / "b") as server:
            async with RedisBackend(server.url) as backend:
                port = primary.url.rpartition(":")[2].partition("/")[0]
                await backend.server.call("REPLICAOF", "127.0.0.1", port)
                texts = [text for level, text in bad(await backend.findings()) if level == "broken"]

        assert any("read-only replica" in text for text in texts)

    async def test_a_user_who_may_not_ask_is_told_so(self, tmp_path: Path) -> None:
        """Managed services hide CONFIG and INFO: no failure, and no false comfort."""
        with running_redis(tmp_path) as server:
            async with RedisBackend(server.url) as backend:
                await backend.server.call(
                    *("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all"),
                    *("-info", "-config"),
                )
            url = server.url.replace("redis://", "redis://app:secret@")
            async with RedisBackend(url) as backend:
                found = await backend.findings()

        assert "cannot be read" in only(found)[1]
        assert "secret" not in str(found)

    async def test_a_cluster_is_asked_for_its_state(self) -> None:
        """Of the node that holds our keys."""
        async with RedisBackend(cluster_url(), namespace=namespace()) as backend:
            found = await backend.findings()
            moment = await backend.get_task_queue().store_time()

        assert not bad(found)
        assert any("cluster of 3 primaries is ok" in item.text for item in found)
        assert moment is not None


class TestNATS:
    """In-band, and by the monitoring port."""

    async def test_without_the_monitoring_port_it_cannot_tell(self) -> None:
        """And says how it could."""
        url, name = nats_servers.nats_url(), nats_servers.namespace()
        async with NATSBackend(url, namespace=name) as backend:
            found = await backend.findings()
            moment = await backend.get_task_queue().store_time()

        level, text = only(found)
        assert level == "risk"
        assert "cannot tell" in text
        assert moment is not None

    @pytest.mark.parametrize(
        ("jetstream", "text"),
        [("sync_interval: always", ""), ("", "acknowledged writes are not crash-durable")],
    )
    def test_the_command_asks_the_monitoring_port(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], jetstream: str, text: str
    ) -> None:
        """The most important thing to know about a NATS server."""
        port = free_port()
        monitor = f"http://127.0.0.1:{port}"
        lines = f"http: 127.0.0.1:{port}"
        with nats_servers.running_nats(tmp_path, lines, jetstream=jetstream) as server:
            code = execute(["doctor", server.url, "--monitor-url", monitor, "--strict"])

        out = capsys.readouterr().out
        assert code == (1 if text else 0)
        assert text in out
        assert ("synced to the disk" in out) is (not text)

    async def test_one_copy_in_a_cluster_is_a_risk(self) -> None:
        """The cluster survives the loss of a node, the tasks do not."""
        url = nats_servers.cluster_url()
        async with NATSBackend(url, namespace=nats_servers.namespace()) as backend:
            single = bad(await backend.findings())
        async with NATSBackend(url, namespace=nats_servers.namespace(), replicas=3) as backend:
            triple = bad(await backend.findings())

        assert sum("one copy in a cluster" in text for _, text in single) == 4
        assert not any("copy" in text for _, text in triple)

    async def test_a_limit_that_deletes_tasks_is_a_risk(self) -> None:
        """Operators set limits on streams; the default discard policy deletes what is oldest."""
        server = nats_servers.nats_url()
        async with NATSBackend(server, namespace=nats_servers.namespace()) as backend:
            queue: Any = backend.get_task_queue()
            info = await queue.stream.info()
            limited = {**info.config, "max_msgs": 1000}
            await _update_stream(backend, limited)
            texts = [text for _, text in bad(await queue.findings())]

        assert any("a limit of number" in text for text in texts)


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
            told = await _findings_of(OmniQ(server.url))

        assert any("read-only replica" in text for text in texts)
        assert bad(told)[0][1].startswith("cannot be used")
        assert "read-only replica" in bad(told)[0][1]

    async def test_listening_through_a_pooler_is_a_risk(
        self, durable: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wake-ups get lost, and nobody sees why tasks start late."""
        monkeypatch.setattr("omniq.storage.postgres.doctor.HEAR_SECONDS", 1.0)
        with running_pgbouncer(tmp_path, durable.url) as pooler:
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


async def test_components_of_one_store_are_looked_at_once(tmp_path: Path) -> None:
    """The list stays short, and a check of all pages is made once."""
    async with SQLiteBackend(tmp_path / "q.db") as backend:
        found = await backend.findings()

    assert len(found) == len(set(found))
    assert sum("all pages in order" in item.text for item in found) == 1


async def _findings_of(app: OmniQ) -> list[Finding]:
    try:
        return await app.findings()
    finally:
        await app.disconnect()


async def _until_set(connection: Any, setting: str, value: str) -> None:
    """Wait until the server has read its configuration again."""

    async def is_set() -> bool:
        return await connection.fetchval(f"SHOW {setting}") == value

    await wait_until(is_set, description=f"{setting} is {value}")


async def _update_stream(backend: NATSBackend, config: dict[str, Any]) -> None:
    body = json.dumps(config).encode()

    async def work(wire: Any) -> Any:
        return await wire.ask([Frame(f"$JS.API.STREAM.UPDATE.{config['name']}", body)])

    (answer,) = await backend.server.call(work)
    assert b'"error"' not in answer.data
