"""Events and results on NATS: read only as far as need be, deleted by the server."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from omniq.clock import utcnow
from omniq.models.event import EventType, TaskEvent
from omniq.storage.base import EventFilter
from omniq.storage.nats import (
    NATSEventStorage,
    NATSResultStorage,
)
from omniq.testing.waiting import wait_until
from tests.servers.nats import namespace, nats_url


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
