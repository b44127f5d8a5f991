"""What is particular to NATS: bad servers, broken connections, late messages, long lines."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq import lifecycle
from omniq.backend.nats import NATSBackend
from omniq.clock import utcnow
from omniq.exceptions import (
    CapabilityError,
    ConfigError,
    PayloadTooLargeError,
    SchemaError,
    StorageError,
    StorageUnavailableError,
)
from omniq.models import Task, TaskStatus
from omniq.models.event import EventType, TaskEvent
from omniq.storage.base import BaseQueue, Change, EventFilter
from omniq.storage.nats import (
    NATSEventStorage,
    NATSQueue,
    NATSResultStorage,
    NATSServer,
    claims,
    dependants,
    records,
    shelf,
)
from omniq.storage.nats.doctor import findings
from omniq.storage.nats.frames import Frame
from omniq.storage.nats.jetstream import Stream
from omniq.testing.waiting import wait_until
from tests.servers.nats import namespace, nats_url, port_of, running_nats
from tests.servers.process import free_port
from tests.servers.proxy import Proxy, proxy

PASSWORD = "correct-horse"


def task(task_id: str | None = None, **fields: Any) -> Task:
    return Task(func="app.work", **({"id": task_id} if task_id else {}), **fields)


def shared_port() -> int:
    return int(nats_url().rpartition(":")[2])


@pytest.fixture
async def queue() -> AsyncIterator[NATSQueue]:
    async with NATSQueue(nats_url(), namespace=namespace()) as queue:
        yield queue


async def claim(queue: BaseQueue, limit: int) -> list[Task]:
    return await queue.claim(["default"], worker_id="w", lease_token="x", limit=limit)


def through(between: Proxy, **options: Any) -> NATSQueue:
    return NATSQueue(f"nats://127.0.0.1:{between.port}", namespace=namespace(), **options)


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
                await through(between, connect_timeout_seconds=0.3).connect()
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


class TestConnections:
    """What happens to connections while they are used."""

    @pytest.mark.parametrize("fields", [{}, {"unique_key": "k"}], ids=["plain", "keyed"])
    async def test_a_lost_reply_makes_exactly_one_task(self, fields: dict[str, Any]) -> None:
        """The repeated insert recognises its own work."""
        async with proxy(shared_port()) as between, through(between) as queue:
            await queue.enqueue(task("first"))
            between.replies_to_lose = 1
            assert await queue.enqueue(task("a", **fields)) == "a"
            assert await queue.counts() == {"default": {TaskStatus.PENDING: 2}}

    async def test_a_lost_reply_of_a_settle_is_still_a_success(self) -> None:
        """The repeated swap recognises its own work, even one that went back to the queue."""
        async with proxy(shared_port()) as between, through(between) as queue:
            await queue.enqueue_many([task("a"), task("b")])
            first, second = await queue.dequeue(), await queue.dequeue()
            assert first is not None
            assert second is not None

            between.replies_to_lose = 1
            await queue.complete(first)
            between.replies_to_lose = 1
            await queue.release(second)

            counts = (await queue.counts())["default"]
            assert counts == {TaskStatus.COMPLETED: 1, TaskStatus.PENDING: 1}

    @pytest.mark.parametrize("step", ["claim", "settle", "look"])
    async def test_a_half_open_connection_is_noticed(self, step: str) -> None:
        """Each kind of call gives up by itself; the next one works on a new connection."""
        async with (
            proxy(shared_port()) as between,
            through(between, timeout_seconds=0.3, connect_timeout_seconds=0.3) as queue,
        ):
            await queue.enqueue_many([task("a"), task("b")])
            held = await queue.dequeue()
            assert held is not None
            between.silent = True
            calls: dict[str, Any] = {
                "claim": queue.dequeue,
                "settle": lambda: queue.complete(held),
                "look": lambda: queue.wait(["empty"], 60),
            }
            async with asyncio.timeout(15):
                with pytest.raises(StorageUnavailableError):
                    await calls[step]()
            between.silent = False

            assert (await queue.get_task("a")) is not None

    @pytest.mark.slow
    async def test_a_half_open_waiting_connection_is_noticed(self) -> None:
        """A waiter looks by itself every five seconds."""
        async with (
            proxy(shared_port()) as between,
            through(between, timeout_seconds=1, connect_timeout_seconds=0.3) as queue,
        ):
            waiting = asyncio.create_task(queue.wait(["empty"], 60))
            await asyncio.sleep(0.1)
            between.silent = True
            async with asyncio.timeout(20):
                with pytest.raises(StorageUnavailableError):
                    await waiting

    async def test_one_connection_serves_a_loop(self) -> None:
        """However many calls are made at once."""
        async with proxy(shared_port()) as between, through(between) as queue:
            await asyncio.gather(*(queue.enqueue(task()) for _ in range(200)))
            await asyncio.gather(*(queue.counts() for _ in range(50)))
            assert between.connections == 1

    def test_an_object_works_in_one_loop_after_another(self) -> None:
        """Each loop closes its connection as it ends, though nobody said `disconnect`."""
        queue = NATSQueue(nats_url(), namespace=namespace())

        async def enqueue() -> None:
            await queue.enqueue(task())

        asyncio.run(enqueue())
        thread = threading.Thread(target=lambda: asyncio.run(enqueue()))
        thread.start()
        thread.join()
        asyncio.run(enqueue())

        assert queue.get_queue_size_sync() == 3
        queue.close_sync()

    async def test_a_killed_server_loses_nothing_and_is_found_again(self, tmp_path: Path) -> None:
        """With sync_interval always, what was acknowledged is there after kill -9 and a restart."""
        with running_nats(tmp_path, jetstream="sync_interval: always") as server:
            async with NATSQueue(server.url, connect_timeout_seconds=1) as queue:
                for n in range(3):
                    await queue.enqueue_many([task(f"t{n}-{i}") for i in range(20)])
                    server.kill()
                    with pytest.raises(StorageUnavailableError):
                        await queue.enqueue(task(f"lost{n}"))
                    server.start()
                    await wait_until(lambda: is_back(queue), description="the server is back")

                assert await queue.get_queue_size() == 60
                assert await queue.dequeue() is not None

    async def test_a_waiter_meets_the_error_of_a_killed_server(self, tmp_path: Path) -> None:
        """So that a worker can back off; waiting works again when the server does."""
        with running_nats(tmp_path) as server:
            async with NATSQueue(server.url, connect_timeout_seconds=1) as queue:
                waiting = asyncio.create_task(queue.wait(["default"], 60))
                ending = asyncio.create_task(queue.dequeue(timeout=60))
                await asyncio.sleep(0.1)
                server.kill()
                async with asyncio.timeout(10):
                    for waiter in (waiting, ending):
                        with pytest.raises(StorageUnavailableError):
                            await waiter
                server.start()
                await wait_until(lambda: is_back(queue), description="the server is back")

                waiting = asyncio.create_task(queue.dequeue(timeout=60))
                await asyncio.sleep(0.05)
                await queue.enqueue(task())
                assert await waiting is not None


async def enqueue_each(queue: BaseQueue, tasks: list[Task]) -> None:
    for one in tasks:
        await queue.enqueue(one)


async def is_back(queue: BaseQueue) -> bool:
    try:
        await queue.counts()
    except StorageUnavailableError:
        return False
    return True


class TestByTheServersClock:
    """Without a moment of the caller's, the server moves tasks on by itself."""

    async def test_a_delayed_task_wakes_a_waiter_when_it_is_due(self, queue: NATSQueue) -> None:
        """Nobody polls for it."""
        due_at = utcnow() + timedelta(seconds=0.4)
        await queue.enqueue(task("a", run_at=due_at))

        claimed = await asyncio.wait_for(queue.dequeue(timeout=10), 5)

        assert claimed is not None
        assert claimed.id == "a"
        assert timedelta(0) <= utcnow() - due_at < timedelta(seconds=1)

    async def test_a_retried_task_comes_back(self, queue: NATSQueue) -> None:
        """After its delay, as the next attempt."""
        await queue.enqueue(task("a"))
        first = await queue.dequeue()
        assert first is not None
        await queue.snooze(first, 0.3)

        again = await asyncio.wait_for(queue.dequeue(timeout=10), 5)

        assert again is not None
        assert (again.attempt, again.claim_count) == (1, 2)

    async def test_a_lost_lease_is_claimed_by_another(self, queue: NATSQueue) -> None:
        """And its first holder is fenced."""
        await queue.enqueue(task("a"))
        first = await queue.dequeue(lease_seconds=1)
        assert first is not None

        second = await asyncio.wait_for(queue.dequeue(timeout=10), 5)

        assert second is not None
        assert (second.claim_count, second.lost_leases) == (2, 1)
        done = lifecycle.settle(first, lifecycle.Completed(), utcnow())
        assert await queue.swap([Change(first, done)]) == [False]

    async def test_a_heartbeat_keeps_a_task(self, queue: NATSQueue) -> None:
        """The server's timer moves with the lease."""
        await queue.enqueue(task("a"))
        held = await queue.dequeue(lease_seconds=1)
        assert held is not None
        for _ in range(4):
            held = await queue.heartbeat(held, lease_seconds=1)
            assert await queue.dequeue(timeout=0.4) is None
        await queue.complete(held)

    async def test_a_due_task_not_taken_becomes_pending(self, queue: NATSQueue) -> None:
        """So that counts tell what is claimable."""
        soon = utcnow() + timedelta(seconds=0.2)
        await queue.enqueue_many([task(f"t{n}", run_at=soon) for n in range(3)])
        assert await asyncio.wait_for(queue.dequeue(timeout=10), 5) is not None

        async def has_no_delayed() -> bool:
            await claim(queue, 1)
            return TaskStatus.SCHEDULED not in (await queue.counts())["default"]

        await wait_until(has_no_delayed, description="all are promoted or claimed")

    async def test_a_waiting_task_looks_after_itself(
        self, queue: NATSQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Should whoever ended its parent not live to tell it."""
        monkeypatch.setattr(shelf, "LOOK_AFTER", (timedelta(seconds=0.2), timedelta(seconds=1)))
        await queue.enqueue_many([task("p"), task("c", depends_on=("p",))])
        parent = await queue.dequeue()
        assert parent is not None

        async def silence(*_: object) -> None:
            """Tell nobody."""

        with monkeypatch.context() as patched:
            patched.setattr(dependants.Dependants, "settle", silence)
            await queue.complete(parent)
        child = await asyncio.wait_for(queue.dequeue(timeout=10), 5)

        assert child is not None
        assert child.id == "c"


class TestLateMessages:
    """A scheduled message that the server moves on after its task has changed."""

    async def moved_late(self, queue: NATSQueue, held: Task) -> None:
        """Do what the server does, too late."""
        record = next(iter((await queue.shelf.read([held.id])).values()))
        stale = lifecycle.claim(
            task(held.id),
            worker_id="w",
            lease_token=held.lease_token or "",
            lease_ends_at=utcnow(),
            now=utcnow(),
        )
        place = record.place._replace(group="r", status=TaskStatus.RUNNING)
        head = records.head_after(record.head, stale)
        head.version = 1
        data = records.data_of(head, record.request)
        await queue.shelf.stream.publish([Frame(queue.shelf.places.subject(place), data)])

    async def test_it_does_not_run_a_finished_task_again(self, queue: NATSQueue) -> None:
        """The version tells which message is the task."""
        await queue.enqueue(task("a"))
        held = await queue.dequeue()
        assert held is not None
        await queue.complete(held)

        await self.moved_late(queue, held)

        assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 1}}
        await self.moved_late(queue, held)
        assert await queue.dequeue() is None
        found = await queue.get_task("a")
        assert found is not None
        assert found.status is TaskStatus.COMPLETED

    async def test_it_does_not_hide_a_released_task(self, queue: NATSQueue) -> None:
        """Which is claimable all the same, once."""
        await queue.enqueue(task("a"))
        held = await queue.dequeue()
        assert held is not None
        await queue.release(held)

        await self.moved_late(queue, held)

        again = await queue.dequeue()
        assert again is not None
        assert (again.claim_count, again.lost_leases) == (2, 0)
        assert await queue.dequeue() is None

    async def test_it_does_not_keep_an_id_from_being_free(self, queue: NATSQueue) -> None:
        """A purged task leaves nothing."""
        await queue.enqueue(task("a"))
        held = await queue.dequeue()
        assert held is not None
        await queue.complete(held)
        await self.moved_late(queue, held)

        assert await queue.purge(utcnow() + timedelta(seconds=1)) == 1

        assert await queue.enqueue(task("a")) == "a"


class TestLines:
    """The index of ready tasks that each claiming process keeps."""

    async def test_claimers_in_many_processes_share_without_loss(self) -> None:
        """What one has taken is refused to the others, who find the rest."""
        space = namespace()
        queues = [NATSQueue(nats_url(), namespace=space) for _ in range(4)]
        await queues[0].enqueue_many([task(f"t{n:04}") for n in range(1000)])

        async def drain(queue: NATSQueue, limit: int) -> list[str]:
            taken: list[str] = []
            while claimed := await claim(queue, limit):
                taken += [one.id for one in claimed]
            return taken

        taken = await asyncio.gather(
            *(drain(queue, limit) for queue, limit in zip(queues, (1, 7, 50, 200), strict=True))
        )

        assert sorted(one for part in taken for one in part) == [f"t{n:04}" for n in range(1000)]
        for queue in queues:
            await queue.disconnect()

    async def test_a_process_that_looked_long_ago_finds_what_is_left(self) -> None:
        """Its index is out of date from end to end."""
        space = namespace()
        async with (
            NATSQueue(nats_url(), namespace=space) as busy,
            NATSQueue(nats_url(), namespace=space) as idle,
        ):
            await busy.enqueue_many([task(f"t{n:04}") for n in range(1000)])
            assert await idle.dequeue() is not None
            assert len(await claim(busy, 990)) == 990

            assert len(await claim(idle, 100)) == 9

    async def test_a_line_is_bounded(
        self, queue: NATSQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond what is kept in memory, tasks follow in the order of arrival."""
        monkeypatch.setattr(claims, "LOOK_AHEAD", 1000)
        await queue.enqueue_many([task(f"t{n:04}") for n in range(2500)])

        taken: list[str] = []
        while claimed := await claim(queue, 500):
            taken += [one.id for one in claimed]

        assert taken == [f"t{n:04}" for n in range(2500)]

    async def test_a_cursor_the_server_forgot_is_made_anew(self, queue: NATSQueue) -> None:
        """It goes on where it was."""
        await queue.enqueue(task("a"))
        assert await queue.dequeue() is not None
        cursor = queue.claims.get().lane("default").cursor
        name = cursor.name
        await cursor.close()
        cursor.name = name

        await queue.enqueue(task("b"))
        claimed = await queue.dequeue()

        assert claimed is not None
        assert claimed.id == "b"


class TestLimits:
    """What is refused rather than half done."""

    async def test_a_message_over_the_servers_limit_is_refused(self, tmp_path: Path) -> None:
        """The server would end the connection."""
        with running_nats(tmp_path, max_payload=100_000) as server:
            async with NATSBackend(server.url) as backend:
                big = "x" * 100_000
                with pytest.raises(PayloadTooLargeError, match="max_payload"):
                    await backend.get_task_queue().enqueue_many([task("a"), task(args=(big,))])
                with pytest.raises(PayloadTooLargeError, match="max_payload"):
                    await backend.get_result_storage().store_result("a", big)
                assert await backend.get_task_queue().counts() == {}

    async def test_a_full_server_is_unavailable(self, tmp_path: Path) -> None:
        """Nothing is acknowledged that was not stored."""
        with running_nats(tmp_path, jetstream="max_file_store: 2MB") as server:
            async with NATSQueue(server.url) as queue:
                with pytest.raises(StorageUnavailableError, match=r"resource|storage|exceeded"):
                    await enqueue_each(queue, [task(args=("x" * 50_000,)) for _ in range(100)])
                found = await queue.list_tasks()
                assert 0 < len(found) == await queue.get_queue_size()

    async def test_too_many_parents_are_refused(self, queue: NATSQueue) -> None:
        """They would not fit into one atomic batch."""
        parents = [task(f"p{n:03}") for n in range(901)]
        await queue.enqueue_many(parents)
        with pytest.raises(CapabilityError, match="900"):
            await queue.enqueue(task("c", depends_on=tuple(one.id for one in parents)))

    async def test_many_dependants_are_all_released(self, queue: NATSQueue) -> None:
        """More than a page, and more than an atomic batch holds."""
        await queue.enqueue(task("p"))
        await queue.enqueue_many([task(f"c{n:04}", depends_on=("p",)) for n in range(1100)])
        parent = await queue.dequeue()
        assert parent is not None
        await queue.complete(parent)

        assert (await queue.counts())["default"] == {
            TaskStatus.COMPLETED: 1,
            TaskStatus.PENDING: 1100,
        }


class TestEvents:
    """Events are read only as far as need be."""

    async def test_the_newest_are_found_from_the_end(self) -> None:
        """Among many pages, with some appended late."""
        async with NATSEventStorage(nats_url(), namespace=namespace()) as events:
            now = utcnow()
            for part in range(5):
                await events.append(
                    [
                        TaskEvent(
                            task_id=f"t{n}",
                            event_type=EventType.STARTED,
                            timestamp=now + timedelta(milliseconds=part * 100 + n / 10),
                        )
                        for n in range(900)
                    ]
                )
            late = TaskEvent(
                task_id="late", event_type="x", timestamp=now + timedelta(milliseconds=489.85)
            )
            await events.append([late])

            newest = await events.query(limit=3, newest=True)
            oldest = await events.query(limit=2)
            failed = await events.query(EventFilter(event_type="FAILED"), newest=True)

        assert [event.task_id for event in newest] == ["t898", "late", "t899"]
        assert [event.task_id for event in oldest] == ["t0", "t1"]
        assert failed == []

    async def test_events_of_the_past_are_in_their_place(self) -> None:
        """As a migration appends them."""
        async with NATSEventStorage(nats_url(), namespace=namespace()) as events:
            now = utcnow()
            for seconds in (0, -86_400, -3600):
                at = now + timedelta(seconds=seconds)
                await events.append(
                    [TaskEvent(task_id=f"t{seconds}", event_type="x", timestamp=at)]
                )

            found = [event.task_id for event in await events.get_all_events()]
            assert found == ["t-86400", "t-3600", "t0"]
            assert await events.purge(now - timedelta(hours=2)) == 1


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
            found = await findings(f"http://127.0.0.1:{port}/")

        assert len(found) == len(expected)
        assert all(part in line for part, line in zip(expected, found, strict=True))

    async def test_what_is_no_monitoring_port_is_said(self) -> None:
        """Nobody there, or no URL of that kind."""
        with pytest.raises(StorageUnavailableError):
            await findings(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(ConfigError):
            await findings("file:///etc/passwd")


class TestResults:
    """Results leave the server by themselves."""

    async def test_the_server_deletes_what_expired(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a purge, and later than they count as absent."""
        monkeypatch.setattr("omniq.storage.nats.results.EXPIRY_GRACE_SECONDS", 1)
        async with NATSResultStorage(nats_url(), namespace=namespace()) as results:
            await results.store_result("a", 1, ttl=0.2)
            await results.store_result("b", 2)
            stream = results.stream

            async def is_gone() -> bool:
                return len(await stream.subjects(">")) == 1

            await wait_until(is_gone, description="the server has deleted the result")
            assert await results.get_result("b") == 2

    async def test_a_waiter_is_told(self) -> None:
        """Sooner than it would poll."""
        async with NATSResultStorage(nats_url(), namespace=namespace()) as results:
            waiting = asyncio.create_task(results.wait("a", 30))
            await asyncio.sleep(0.5)
            started = time.monotonic()
            await results.store_result("a", 1)
            found = await waiting

        assert found is not None
        assert time.monotonic() - started < 0.2
