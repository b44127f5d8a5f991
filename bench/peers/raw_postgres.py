"""The limit of the driver: asyncpg doing the writes that OmniQ does, and nothing else.

Live tasks in a narrow table, payloads and finished tasks apart. Three statements a batch of 100,
each by ``unnest``: claim by ``FOR UPDATE SKIP LOCKED``; store the results and file the tasks if the
claim is still theirs; append two events a task. No task objects, no retries, no coroutines: the
task is called directly.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from bench.adapter import Adapter
from bench.peers.raw_redis import ordered_id
from bench.recorder import record
from bench.servers import URL_VARIABLE

BATCH = 100
INSERTED_AT_ONCE = 1000
IDLE_SECONDS = 0.002

SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    id text COLLATE "C" PRIMARY KEY, queue text NOT NULL, priority int NOT NULL,
    created_at timestamptz NOT NULL, func text NOT NULL, status text NOT NULL,
    attempt int NOT NULL, claim_count int NOT NULL, lease_token text, due_at timestamptz,
    worker_id text, started_at timestamptz, finished_at timestamptz
) WITH (fillfactor = 75);
CREATE INDEX IF NOT EXISTS task_ready ON task (queue, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX IF NOT EXISTS task_leased ON task (queue, due_at) WHERE status = 'running';
CREATE TABLE IF NOT EXISTS payload (id text COLLATE "C" PRIMARY KEY, data bytea NOT NULL);
CREATE TABLE IF NOT EXISTS history (LIKE task);
CREATE INDEX IF NOT EXISTS history_finished ON history (finished_at);
CREATE TABLE IF NOT EXISTS result (
    task_id text COLLATE "C" PRIMARY KEY, claim_count int NOT NULL, expires_at timestamptz,
    data bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS result_expires ON result (expires_at);
CREATE TABLE IF NOT EXISTS event (
    at timestamptz NOT NULL, seq bigint GENERATED ALWAYS AS IDENTITY,
    task_id text COLLATE "C" NOT NULL, event_type text NOT NULL, PRIMARY KEY (at, seq)
);
CREATE INDEX IF NOT EXISTS event_task ON event (task_id, at, seq);
"""
INSERT = """
WITH input AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::bytea[]) AS i(id, data)),
kept AS (INSERT INTO payload SELECT id, data FROM input),
told AS (INSERT INTO event (at, task_id, event_type) SELECT $3, id, 'ENQUEUED' FROM input)
INSERT INTO task (id, queue, priority, created_at, func, status, attempt, claim_count)
SELECT id, 'default', 0, $3, 'noop', 'pending', 0, 0 FROM input
"""
CLAIM = """
WITH ready AS MATERIALIZED (
    SELECT id FROM task WHERE queue = 'default' AND status = 'pending'
    ORDER BY priority DESC, created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE task t SET status = 'running', attempt = attempt + 1, claim_count = claim_count + 1,
        lease_token = $2, due_at = $3, worker_id = 'raw', started_at = $4
    FROM ready WHERE t.id = ready.id RETURNING t.id
)
SELECT c.id, p.data FROM claimed c JOIN payload p USING (id)
"""
FINISH = """
WITH input AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::bytea[]) AS i(id, data)),
gone AS (
    DELETE FROM task t USING input WHERE t.id = input.id AND t.lease_token = $3 RETURNING t.*
), filed AS (
    INSERT INTO history SELECT id, queue, priority, created_at, func, 'completed', attempt,
        claim_count, NULL, NULL, worker_id, started_at, $4 FROM gone
)
INSERT INTO result SELECT id, 1, $5, data FROM input
ON CONFLICT (task_id) DO UPDATE SET claim_count = excluded.claim_count, data = excluded.data
WHERE excluded.claim_count >= result.claim_count
"""
EVENT = """
INSERT INTO event (at, task_id, event_type)
SELECT $1, * FROM unnest($2::text[], $3::text[])
"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class RawPostgres(Adapter):
    """asyncpg, one connection, its statements prepared."""

    async def setup(self, directory: Path) -> None:
        self._connection: Any = await asyncpg.connect(os.environ[URL_VARIABLE])
        async with self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock(1)")
            await self._connection.execute(SCHEMA)
        await self._connection.execute("SET enable_seqscan = off")
        self._work: asyncio.Task[None] | None = None

    async def enqueue(self, number: int) -> None:
        await self._insert([number])

    async def enqueue_concurrently(self, n: int, width: int) -> float:
        return await super().enqueue_concurrently(n, 1)

    async def enqueue_bulk(self, numbers: range) -> None:
        for start in range(0, len(numbers), INSERTED_AT_ONCE):
            await self._insert(numbers[start : start + INSERTED_AT_ONCE])

    async def start_worker(self, processes: int) -> None:
        self._work = asyncio.create_task(self._drain())

    async def finished(self) -> int:
        query = (
            "SELECT least((SELECT count(*) FROM history), (SELECT count(*) FROM result), "
            "(SELECT count(*) FROM event WHERE event_type = 'COMPLETED'))"
        )
        return int(await self._connection.fetchval(query))

    async def round_trip(self, number: int) -> None:
        (task_id,) = await self._insert([number])
        query = "SELECT 1 FROM result WHERE task_id = $1"
        while not await self._connection.fetchval(query, task_id):
            await asyncio.sleep(IDLE_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._connection.terminate()

    async def _insert(self, numbers: Iterable[int]) -> list[str]:
        ids = [ordered_id() for _ in numbers]
        data = [_encode({"args": [number], "queue_name": "default"}) for number in numbers]
        await self._connection.fetch(INSERT, ids, data, datetime.now(UTC))
        return ids

    async def _drain(self) -> None:
        connection: Any = await asyncpg.connect(os.environ[URL_VARIABLE])
        await connection.execute("SET enable_seqscan = off")
        while True:
            token, now = os.urandom(16).hex(), datetime.now(UTC)
            lease = now + timedelta(seconds=30)
            claimed = await connection.fetch(CLAIM, BATCH, token, lease, now)
            if not claimed:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            ids = [row[0] for row in claimed]
            values = [_run(row[1]) for row in claimed]
            now = datetime.now(UTC)
            await connection.fetch(FINISH, ids, values, token, now, now + timedelta(days=1))
            kinds = ["STARTED"] * len(ids) + ["COMPLETED"] * len(ids)
            await connection.fetch(EVENT, now, ids + ids, kinds)


def _run(payload: bytes) -> bytes:
    (number,) = _decode(payload)["args"]
    record(number)
    return _encode(number)
