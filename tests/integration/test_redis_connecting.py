"""Connecting to Redis and Valkey: each bad server is one clear error."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from omniq.backend.redis import RedisBackend
from omniq.exceptions import (
    ConfigError,
    StorageError,
    StorageUnavailableError,
)
from omniq.models import Task, TaskStatus
from omniq.storage.base import BaseQueue
from omniq.storage.redis import RedisQueue
from tests.servers.process import free_port
from tests.servers.proxy import proxy
from tests.servers.redis import namespace, port_of_shared, redis_url, running_redis

PASSWORD = "correct-horse"


def task(**fields: Any) -> Task:
    return Task(func="app.work", **fields)


async def in_batches(queue: BaseQueue, tasks: list[Task]) -> None:
    for start in range(0, len(tasks), 5):
        await queue.enqueue_many(tasks[start : start + 5])


def make_certificate(key: Path, certificate: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )


class TestConnecting:
    """Each bad server is one clear error, soon, and never shows a password."""

    async def test_a_wrong_password_is_refused(self, tmp_path: Path) -> None:
        """And a right one is not."""
        with running_redis(tmp_path, "--requirepass", PASSWORD) as server:
            place = server.url.removeprefix("redis://")
            for user in ("", ":wrong-battery@"):
                with pytest.raises(StorageError, match="refused the user name") as caught:
                    await RedisQueue(f"redis://{user}{place}").connect()
                assert "wrong-battery" not in f"{caught.value}{caught.value!r}"
            async with RedisQueue(f"redis://:{PASSWORD}@{place}") as queue:
                assert await queue.counts() == {}

    async def test_a_server_that_is_no_sentinel_is_told(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Once, and not taken for one that hides its settings."""
        place = redis_url().removeprefix("redis://").rpartition("/")[0]

        with pytest.raises(StorageError, match="what answers there is no Sentinel"):
            await RedisQueue(f"redis+sentinel://{place}/main").connect()

        assert caplog.messages == []

    async def test_tls_to_a_plain_port_says_what_to_look_at(self) -> None:
        """Neither side says a word, so all there is to see is the silence."""
        place = redis_url().removeprefix("redis://")
        options: Any = {"timeout_seconds": 0.2, "connect_timeout_seconds": 0.2}

        with pytest.raises(StorageUnavailableError, match="does this port speak TLS"):
            await RedisQueue(f"rediss://{place}", **options).connect()

    async def test_an_unknown_database_is_refused(self) -> None:
        """The server has sixteen unless told otherwise."""
        url = redis_url().rpartition("/")[0]
        with pytest.raises(StorageError, match="DB index"):
            await RedisQueue(f"{url}/4000").connect()

    async def test_a_replica_is_refused(self, tmp_path: Path) -> None:
        """Writing to it would fail, and reading from it would lag."""
        port = redis_url().rpartition(":")[2].partition("/")[0]
        with (
            running_redis(tmp_path, "--replicaof", f"127.0.0.1 {port}") as server,
            pytest.raises(StorageUnavailableError, match="replica"),
        ):
            await RedisQueue(server.url).connect()

    async def test_an_evicting_server_is_refused_unless_accepted(self, tmp_path: Path) -> None:
        """It may delete tasks when its memory is full."""
        with running_redis(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
            with pytest.raises(StorageError, match="maxmemory-policy is allkeys-lru"):
                await RedisQueue(server.url).connect()
            async with RedisQueue(server.url, allow_eviction=True) as queue:
                assert await queue.counts() == {}

    async def test_full_memory_is_unavailable_and_stores_nothing(self, tmp_path: Path) -> None:
        """Half a batch would be worse than none."""
        with running_redis(tmp_path, "--maxmemory", "3mb") as server:
            async with RedisBackend(server.url) as backend:
                queue = backend.get_task_queue()
                tasks = [task(args=("x" * 100_000,)) for _ in range(50)]
                with pytest.raises(StorageUnavailableError, match="memory is full"):
                    await in_batches(queue, tasks)
                counts = await queue.counts()
                found = await queue.list_tasks()
                assert counts["default"] == {TaskStatus.PENDING: len(found)}

    async def test_nobody_there_is_unavailable(self) -> None:
        """Said at once."""
        with pytest.raises(StorageUnavailableError):
            await RedisQueue(port=free_port()).connect()

    async def test_silence_ends_at_the_deadline(self) -> None:
        """A server that accepts and never answers."""
        started = time.monotonic()
        async with proxy(port_of_shared()) as between:
            between.silent = True
            queue = RedisQueue(port=between.port, timeout_seconds=0.2, connect_timeout_seconds=0.3)
            with pytest.raises(StorageUnavailableError):
                await queue.connect()
        assert time.monotonic() - started < 3

    async def test_tls_to_a_plain_port_is_unavailable(self) -> None:
        """Without hanging beyond the connect timeout."""
        queue = RedisQueue(port=port_of_shared(), ssl=True, connect_timeout_seconds=1)
        async with asyncio.timeout(5):
            with pytest.raises(StorageUnavailableError):
                await queue.connect()

    async def test_tls_verifies_the_certificate(self, tmp_path: Path) -> None:
        """A stranger's is refused, a known authority's accepted."""
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        make_certificate(key, certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        async with proxy(port_of_shared(), context) as between:
            url = f"rediss://127.0.0.1:{between.port}"
            with pytest.raises(StorageUnavailableError, match=r"(?i)certificate"):
                await RedisQueue(url, connect_timeout_seconds=2).connect()
            async with RedisQueue(
                url, ssl_ca_certs=str(certificate), namespace=namespace()
            ) as queue:
                assert await queue.counts() == {}

    async def test_a_missing_driver_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At `connect`, not at import."""
        monkeypatch.setitem(sys.modules, "redis.asyncio", None)
        with pytest.raises(ConfigError, match=r"omniq-tasks\[redis\]"):
            await RedisQueue().connect()
