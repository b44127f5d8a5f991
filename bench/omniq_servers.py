"""OmniQ on Redis, PostgreSQL and NATS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.omniq_store import OmniQStore
from bench.servers import URL_VARIABLE
from omniq.models.task import TaskStatus

EVENTS_PER_TASK = 3
"""ENQUEUED, STARTED and COMPLETED."""

SENT = ("evalsha", "eval", "blpop", "info", "hgetall", "publish")
"""What OmniQ sends to Redis, and uses in no script."""


class OmniQRedis(OmniQStore):
    """OmniQ on Redis or Valkey."""

    async def setup(self, directory: Path) -> None:
        from redis.asyncio import Redis

        await super().setup(directory)
        self._store: Any = Redis.from_url(os.environ[URL_VARIABLE])

    async def finished(self) -> int:
        async with self._store.pipeline(transaction=False) as pipeline:
            pipeline.hget("{omniq}:counts", "default:completed")
            pipeline.zcard("{omniq}:results")
            pipeline.get("{omniq}:events:count")
            completed, results, events = await pipeline.execute()
        return min(int(completed or 0), results, int(events or 0) // EVENTS_PER_TASK)

    async def queries(self) -> int:
        """Return what clients sent: the server's own total counts each command of a script."""
        stats = await self._store.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in SENT)

    async def teardown(self) -> None:
        await self._store.aclose()
        await super().teardown()


class OmniQPostgres(OmniQStore):
    """OmniQ on PostgreSQL."""

    settled = """
    SELECT least((SELECT count(*) FROM omniq_history WHERE status = 'completed'),
                 (SELECT count(*) FROM omniq_result),
                 (SELECT count(*) FROM omniq_event WHERE event_type = 'COMPLETED'))
    """

    async def setup(self, directory: Path) -> None:
        import asyncpg

        await super().setup(directory)
        self._store: Any = await asyncpg.connect(os.environ[URL_VARIABLE])

    async def finished(self) -> int:
        return int(await self._store.fetchval(self.settled))

    async def queries(self) -> int:
        """Return transactions; a query that stands alone is one."""
        query = (
            "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database "
            "WHERE datname = current_database()"
        )
        return int(await self._store.fetchval(query))

    async def teardown(self) -> None:
        await self._store.close()
        await super().teardown()


class OmniQNATS(OmniQStore):
    """OmniQ on NATS JetStream."""

    async def setup(self, directory: Path) -> None:
        import nats

        await super().setup(directory)
        self._store: Any = await nats.connect(os.environ[URL_VARIABLE])

    async def finished(self) -> int:
        counts = await self._q.task_queue.counts()
        completed = counts.get("default", {}).get(TaskStatus.COMPLETED, 0)
        events = await self._store.jetstream().stream_info("omniq_events")
        return min(completed, int(events.state.messages) // EVENTS_PER_TASK)

    async def teardown(self) -> None:
        await self._store.close()
        await super().teardown()


class OmniQNATSBare(OmniQNATS):
    """OmniQ on NATS JetStream with results and events off, for the sake of those who have none."""

    async def setup(self, directory: Path) -> None:
        os.environ["BENCH_OMNIQ_BARE"] = "1"
        await super().setup(directory)

    async def finished(self) -> int:
        counts = await self._q.task_queue.counts()
        return counts.get("default", {}).get(TaskStatus.COMPLETED, 0)

    async def round_trip(self, number: int) -> None:
        raise NotImplementedError
