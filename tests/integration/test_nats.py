"""Tasks on NATS: delays by the server, its late messages, long lines, limits."""

from __future__ import annotations

import asyncio
import itertools
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
    PayloadTooLargeError,
    StorageUnavailableError,
)
from omniq.models import Task, TaskStatus
from omniq.storage.base import BaseQueue, Change
from omniq.storage.nats import (
    NATSQueue,
    NATSServer,
    claims,
    dependants,
    records,
    shelf,
)
from omniq.storage.nats.answers import Stored
from omniq.storage.nats.cursor import Cursor
from omniq.storage.nats.frames import Frame
from omniq.testing.waiting import wait_until
from tests.servers.nats import namespace, nats_url, running_nats


def task(task_id: str | None = None, **fields: Any) -> Task:
    return Task(func="app.work", **({"id": task_id} if task_id else {}), **fields)


@pytest.fixture
async def queue() -> AsyncIterator[NATSQueue]:
    async with NATSQueue(nats_url(), namespace=namespace()) as queue:
        yield queue


async def claim(queue: BaseQueue, limit: int) -> list[Task]:
    return await queue.claim(["default"], worker_id="w", lease_token="x", limit=limit)


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

    async def test_several_waiters_of_a_loop_share_an_ear(self, queue: NATSQueue) -> None:
        """One of them gets the task, and all go on waiting."""
        waiting = [asyncio.create_task(queue.dequeue(timeout=20)) for _ in range(3)]
        await asyncio.sleep(0.05)

        for name in ("a", "b", "c"):
            await queue.enqueue(task(name))
        claimed = await asyncio.wait_for(asyncio.gather(*waiting), 4)

        assert sorted(one.id for one in claimed if one) == ["a", "b", "c"]

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
        """It begins again; what is known is not taken twice."""
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


async def test_what_a_crashed_server_brought_back_is_removed() -> None:
    """A server that is killed may forget its last deletions: what they removed counts as a task."""
    space = namespace()
    async with NATSQueue(nats_url(), namespace=space) as queue:
        await queue.enqueue(task("a"))
        held = await queue.dequeue()
        assert held is not None
        (before,) = await queue.stream.last([queue.shelf.places.anywhere("a")])
        await queue.complete(held)
        await queue.stream.publish([Frame(before.subject, before.data)])
        assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 1, TaskStatus.RUNNING: 1}}

    async with NATSQueue(nats_url(), namespace=space) as queue:
        assert await queue.dequeue() is None
        assert await queue.counts() == {"default": {TaskStatus.COMPLETED: 1}}


async def enqueue_each(queue: BaseQueue, tasks: list[Task]) -> None:
    for one in tasks:
        await queue.enqueue(one)


@pytest.mark.parametrize("copies", [1, 3])
async def test_a_claim_waits_for_a_copy_that_is_behind(
    monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    """Only where there are several: a single server that has nothing to show never will."""
    server = NATSServer(nats_url(), namespace=namespace())
    reads, read = itertools.count(1), Cursor.next

    async def late(cursor: Cursor) -> list[Stored]:
        return [] if next(reads) <= shelf.ATTEMPTS + 3 else await read(cursor)

    async with NATSQueue(server=server) as queue:
        await queue.enqueue(task("a"))
        monkeypatch.setitem(server.streams, queue.stream.name, copies)
        monkeypatch.setattr(Cursor, "next", late)
        found = [one.id for one in await claim(queue, 1)]

    assert found == ["a"] * (copies > 1)
