"""Connecting to NATS: bad servers, TLS, URLs, and what the monitoring port tells."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from omniq.exceptions import (
    CapabilityError,
    ConfigError,
    SchemaError,
    StorageError,
    StorageUnavailableError,
)
from omniq.models.finding import Level
from omniq.models.task import Task
from omniq.storage.nats import (
    NATSQueue,
    NATSServer,
)
from omniq.storage.nats.doctor import monitor_findings
from omniq.storage.nats.jetstream import Stream
from tests.servers.nats import namespace, nats_url, port_of, running_nats
from tests.servers.nats_jwt import new_realm
from tests.servers.process import free_port
from tests.servers.proxy import proxy

PASSWORD = "correct-horse"


def shared_port() -> int:
    return int(nats_url().rpartition(":")[2])


class TestConnecting:
    """Each bad server is one clear error, soon, and never shows a password."""

    @pytest.mark.parametrize(
        ("line", "right", "wrong"),
        [
            (
                f"authorization {{ user: shop, password: {PASSWORD} }}",
                f"shop:{PASSWORD}@",
                "shop:wrong-battery@",
            ),
            (f"authorization {{ token: {PASSWORD} }}", f"{PASSWORD}@", "wrong-battery@"),
        ],
        ids=["password", "token"],
    )
    async def test_wrong_credentials_are_refused(
        self, tmp_path: Path, line: str, right: str, wrong: str
    ) -> None:
        """And right ones are not."""
        with running_nats(tmp_path, line) as server:
            place = f"127.0.0.1:{port_of(server)}"
            for user in ("", wrong):
                with pytest.raises(StorageError, match="refused the user") as caught:
                    await NATSQueue(f"nats://{user}{place}").connect()
                assert "battery" not in f"{caught.value}{caught.value!r}"
            async with NATSQueue(f"nats://{right}{place}") as queue:
                assert await queue.counts() == {}
                assert PASSWORD not in repr(queue) + repr(NATSServer(f"nats://{right}{place}"))

    async def test_a_server_without_jetstream_is_refused(self, tmp_path: Path) -> None:
        """It could keep nothing."""
        with (
            running_nats(tmp_path, jetstream="off") as server,
            pytest.raises(CapabilityError, match="JetStream is not enabled"),
        ):
            await NATSQueue(server.url).connect()

    async def test_a_credentials_file_that_cannot_be_used_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is missing, or what reads it is; the driver would hide either behind another error."""
        with pytest.raises(ConfigError, match=r"absent\.creds, is no file"):
            await NATSQueue(nats_url(), credentials_file=str(tmp_path / "absent.creds")).connect()

        path = tmp_path / "shop.creds"
        path.write_text("")
        monkeypatch.setitem(sys.modules, "nkeys", None)
        with pytest.raises(ConfigError, match="install it with: pip install nkeys"):
            await NATSQueue(nats_url(), credentials_file=str(path)).connect()

    async def test_a_credentials_file_logs_in_and_another_realms_does_not(
        self, tmp_path: Path
    ) -> None:
        """On a server that knows its users by JWT."""
        realm, stranger = new_realm(), new_realm()
        paths = [tmp_path / "shop.creds", tmp_path / "stranger.creds"]
        for path, text in zip(paths, (realm.credentials, stranger.credentials), strict=True):
            path.write_text(text)
        with running_nats(tmp_path, *realm.lines) as server:
            async with NATSQueue(server.url, credentials_file=str(paths[0])) as queue:
                await queue.enqueue(Task(func="f"))
                assert await queue.get_queue_size("default") == 1
            for path in (str(paths[1]), None):
                with pytest.raises(StorageError, match="refused the user"):
                    await NATSQueue(server.url, credentials_file=path).connect()

    async def test_nobody_there_is_unavailable(self) -> None:
        """Said at once."""
        with pytest.raises(StorageUnavailableError, match="cannot be reached"):
            await NATSQueue(f"nats://127.0.0.1:{free_port()}").connect()

    async def test_silence_ends_at_the_deadline(self) -> None:
        """A server that accepts and never answers."""
        started = time.monotonic()
        async with proxy(shared_port()) as between:
            between.silent = True
            with pytest.raises(StorageUnavailableError, match="in time"):
                await NATSQueue(
                    f"nats://127.0.0.1:{between.port}", connect_timeout_seconds=0.3
                ).connect()
        assert time.monotonic() - started < 3

    async def test_tls_to_a_plain_port_is_refused(self) -> None:
        """Before the password is sent in the clear."""
        with pytest.raises(StorageError, match="offers no TLS"):
            await NATSQueue(f"tls://shop:{PASSWORD}@127.0.0.1:{shared_port()}").connect()

    async def test_tls_verifies_the_certificate(self, tmp_path: Path) -> None:
        """A stranger's is refused, a known authority's accepted."""
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        make_certificate(key, certificate)
        with running_nats(
            tmp_path, f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
        ) as server:
            url = server.url.replace("nats://", "tls://")
            with pytest.raises(StorageError, match=r"(?i)certificate"):
                await NATSQueue(url).connect()
            async with NATSQueue(url, tls_ca_file=str(certificate)) as queue:
                assert await queue.counts() == {}

    async def test_a_missing_driver_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At `connect`, not at import."""
        monkeypatch.delitem(sys.modules, "omniq.storage.nats.wire", raising=False)
        monkeypatch.setitem(sys.modules, "nats.aio.client", None)
        with pytest.raises(ConfigError, match=r"omniq-tasks\[nats\]"):
            await NATSQueue(nats_url()).connect()

    async def test_a_foreign_stream_of_that_name_is_refused(self) -> None:
        """What is in it is not ours to overwrite."""
        space = namespace()
        server = NATSServer(nats_url(), namespace=space)
        owner = object.__new__(_Owner)
        await server.open(owner)
        await Stream(server, f"{space}_tasks", {"subjects": [f"{space}.tasks.>"]}, ()).ensure()
        with pytest.raises(SchemaError, match="allow_atomic"):
            await NATSQueue(nats_url(), namespace=space).connect()
        await server.close(owner)

    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost",
            "nats://",
            "nats://host:port",
            "nats://host/database",
            "nats://host?replicas=9",
            "nats://host?replicas=many",
            "nats://host?colour=red",
            "nats://host?namespace=a%20b",
            ["nats://a", "tls://b"],
            [],
            [1],
        ],
    )
    def test_a_url_that_makes_no_sense_is_a_config_error(self, url: Any) -> None:
        """Before anything is opened."""
        if url == []:
            assert str(NATSServer(url)) == "nats://localhost:4222"
            return
        with pytest.raises(ConfigError):
            NATSServer(url)

    def test_urls_name_servers_and_options(self) -> None:
        """Of one server, of a cluster, and of those that only say host and port."""
        address = NATSServer("nats://me:p%40ss@a,b:1234?replicas=3&namespace=shop").address
        assert address.servers == ("nats://a:4222", "nats://b:1234")
        assert (address.user, address.password) == ("me", "p@ss")
        assert (address.replicas, address.namespace) == (3, "shop")
        assert NATSServer(["a:1", "nats://[::1]"]).address.servers == (
            "nats://a:1",
            "nats://[::1]:4222",
        )


class _Owner:
    """Somebody who uses a server."""


def make_certificate(key: Path, certificate: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )


class TestDoctor:
    """What the monitoring port tells."""

    @pytest.mark.parametrize(
        ("jetstream", "expected"),
        [
            ("sync_interval: always", []),
            ("", ["not crash-durable"]),
            ("off", ["JetStream is not enabled"]),
        ],
    )
    async def test_it_says_when_writes_are_not_durable(
        self, tmp_path: Path, jetstream: str, expected: list[str]
    ) -> None:
        """A client cannot know otherwise."""
        port = free_port()
        with running_nats(tmp_path, f"http: 127.0.0.1:{port}", jetstream=jetstream):
            found = await monitor_findings("nats", f"http://127.0.0.1:{port}/")

        texts = [item.text for item in found if item.level is not Level.FINE]
        assert len(texts) == len(expected)
        assert all(part in text for part, text in zip(expected, texts, strict=True))

    async def test_what_is_no_monitoring_port_is_said(self) -> None:
        """Nobody there, or no URL of that kind."""
        (found,) = await monitor_findings("nats", f"http://127.0.0.1:{free_port()}")
        assert found.level is Level.BROKEN
        with pytest.raises(ConfigError):
            await monitor_findings("nats", "file:///etc/passwd")
