"""What the doctor says about real stores with real faults, and that it is quiet without them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from omniq import OmniQ
from omniq.backend.file import FileBackend
from omniq.backend.nats import NATSBackend
from omniq.backend.redis import RedisBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.cli.app import execute
from omniq.exceptions import StorageError
from omniq.models.finding import Level
from omniq.models.result import TaskResult
from omniq.models.task import Task
from omniq.storage.local import disk
from omniq.storage.nats.frames import Frame
from omniq.storage.sqlite import doctor as sqlite_doctor
from tests.integration.diagnoses import bad, findings_of, only
from tests.integration.disks import tmpfs_disk
from tests.servers import nats as nats_servers
from tests.servers.process import free_port
from tests.servers.redis import cluster_url, namespace, running_redis


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
            told = await findings_of(OmniQ(server.url))

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


class TestObjectStores:
    """What the probe found, and records that cannot be read."""

    async def test_a_store_without_conditions_is_for_one_worker(self) -> None:
        """Nothing would keep a second one from running the same tasks; schedules say it, too."""
        async with FileBackend(f"memory://doctor-{namespace()}") as backend:
            found = bad(await backend.findings())

        why = "does not honour conditional writes, so two"
        assert found == [
            ("risk", f"{why} workers would run the same task"),
            ("risk", f"{why} processes would overwrite each other's schedules"),
        ]

    async def test_a_damaged_record_is_told_by_who_meets_it_and_ever_after(self) -> None:
        """It is set aside as an object of its own."""
        place = f"memory://doctor-{namespace()}"
        async with FileBackend(place) as backend:
            queue = backend.get_task_queue()
            for name in ("good", "torn"):
                await queue.enqueue(Task(func="jobs.send", id=name))
        files: Any = MemoryFileSystem()
        for key in files.find(place.removeprefix("memory://")):
            files.pipe(key, files.cat(key).replace(b'"torn"', b'"t--n"'))

        async with FileBackend(place) as backend:
            met = bad(await backend.findings())
            assert await backend.get_task_queue().get_task("good") is not None
        for key in files.find(place.removeprefix("memory://")):
            if ".damaged" not in key and b'"t--n"' in files.cat(key):
                files.pipe(key, files.cat(key).replace(b'"t--n"', b'"torn"'))
        async with FileBackend(place) as backend:
            later = bad(await backend.findings())

        assert any(level == "broken" and "is damaged" in text for level, text in met)
        assert any(level == "risk" and "1 damaged records" in text for level, text in later)


async def test_components_of_one_store_are_looked_at_once(tmp_path: Path) -> None:
    """The list stays short, and a check of all pages is made once."""
    async with SQLiteBackend(tmp_path / "q.db") as backend:
        found = await backend.findings()

    assert len(found) == len(set(found))
    assert sum("all pages in order" in item.text for item in found) == 1


async def _update_stream(backend: NATSBackend, config: dict[str, Any]) -> None:
    body = json.dumps(config).encode()

    async def work(wire: Any) -> Any:
        return await wire.ask([Frame(f"$JS.API.STREAM.UPDATE.{config['name']}", body)])

    (answer,) = await backend.server.call(work)
    assert b'"error"' not in answer.data
