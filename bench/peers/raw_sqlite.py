"""The limit of the driver: sqlite3 doing the writes that OmniQ does, and nothing else.

The tables and indexes are laid out like OmniQ's. Two transactions per batch of 100: claim with one
``UPDATE … RETURNING``; then store the results, move the tasks to completed if the claim is still
theirs, and append two events a task. No task objects, no retries, no coroutines: the task is called
directly.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from bench.adapter import Adapter
from bench.recorder import record

BATCH = 100
IDLE_SECONDS = 0.002

SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL,
    priority INTEGER NOT NULL, created_at INTEGER NOT NULL, func TEXT NOT NULL, unique_key TEXT,
    status TEXT NOT NULL, attempt INTEGER NOT NULL, claim_count INTEGER NOT NULL, lease_token TEXT,
    due_at INTEGER, worker_id TEXT, cancel_requested INTEGER NOT NULL, error TEXT,
    started_at INTEGER, finished_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS payload (seq INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS task_ready ON task (queue, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX IF NOT EXISTS task_due ON task (queue, due_at) WHERE status = 'scheduled';
CREATE INDEX IF NOT EXISTS task_leased ON task (queue, due_at) WHERE status = 'running';
CREATE INDEX IF NOT EXISTS task_finished ON task (finished_at) WHERE status = 'completed';
CREATE TABLE IF NOT EXISTS result (
    seq INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, claim_count INTEGER NOT NULL,
    expires_at INTEGER, data BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY, task_id TEXT NOT NULL, event_type TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS event_task ON event (task_id);
CREATE INDEX IF NOT EXISTS event_at ON event (at);
"""
INSERT = """
INSERT INTO task (id, queue, priority, created_at, func, status, attempt, claim_count,
                  cancel_requested)
VALUES (?, 'default', 0, ?, 'noop', 'pending', 0, 0, 0) ON CONFLICT DO NOTHING
"""
INSERT_PAYLOAD = "INSERT INTO payload SELECT seq, ? FROM task WHERE id = ?"
CLAIM = """
UPDATE task SET status = 'running', attempt = attempt + 1, claim_count = claim_count + 1,
    lease_token = :token, due_at = :now + 30000000, worker_id = 'raw', started_at = :now
WHERE seq IN (SELECT seq FROM task WHERE status = 'pending' AND queue = 'default'
              ORDER BY priority DESC, created_at, id LIMIT :limit)
RETURNING id, claim_count, (SELECT data FROM payload WHERE payload.seq = task.seq)
"""
RESULT = """
INSERT INTO result (task_id, claim_count, data) VALUES (?, ?, ?)
ON CONFLICT (task_id) DO UPDATE SET claim_count = excluded.claim_count, data = excluded.data
WHERE excluded.claim_count >= result.claim_count
"""
COMPLETE = """
UPDATE task SET status = 'completed', finished_at = ?, lease_token = NULL, due_at = NULL
WHERE id = ? AND claim_count = ? AND lease_token = ? AND status = 'running'
"""
EVENT = "INSERT INTO event (task_id, event_type, at) VALUES (?, ?, ?)"


class RawFull(Adapter):
    """sqlite3 in WAL mode, each commit synced to disk."""

    synchronous: ClassVar[str] = "FULL"

    async def setup(self, directory: Path) -> None:
        self._path = directory / "raw.db"
        self._connection = self._connect()
        self._connection.executescript(SCHEMA)

    async def enqueue(self, number: int) -> None:
        self._insert([number])

    async def enqueue_bulk(self, numbers: range) -> None:
        self._insert(numbers)

    async def start_worker(self, processes: int) -> None:
        threading.Thread(target=self._work, daemon=True).start()

    async def finished(self) -> int:
        (count,) = self._connection.execute(
            "SELECT count(*) FROM task WHERE status = 'completed'"
        ).fetchone()
        return int(count)

    async def round_trip(self, number: int) -> None:
        ids = self._insert([number])
        query = "SELECT 1 FROM result WHERE task_id = ?"
        while not self._connection.execute(query, ids).fetchone():
            await asyncio.sleep(IDLE_SECONDS)

    async def teardown(self) -> None:
        self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        return connection

    def _insert(self, numbers: Iterable[int]) -> list[str]:
        now = time.time_ns() // 1000
        tasks = [
            (_ordered_id(), json.dumps({"args": [number], "queue_name": "default"}).encode())
            for number in numbers
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, [(task_id, now) for task_id, _ in tasks])
        self._connection.executemany(INSERT_PAYLOAD, [(data, task_id) for task_id, data in tasks])
        self._connection.execute("COMMIT")
        return [task_id for task_id, _ in tasks]

    def _work(self) -> None:
        connection = self._connect()
        while True:
            token = os.urandom(16).hex()
            if claimed := _claim(connection, token):
                done = [(task_id, claims, _run(data)) for task_id, claims, data in claimed]
                _settle(connection, token, done)
            else:
                time.sleep(IDLE_SECONDS)


class RawNormal(RawFull):
    """sqlite3 in WAL mode, synced at checkpoints: survives a killed process, not a power cut."""

    synchronous = "NORMAL"


def _ordered_id() -> str:
    text = (time.time_ns().to_bytes(8) + os.urandom(8)).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _run(payload: bytes) -> int:
    (number,) = json.loads(payload)["args"]
    record(number)
    return number


def _claim(connection: sqlite3.Connection, token: str) -> list[tuple[str, int, bytes]]:
    values = {"token": token, "now": time.time_ns() // 1000, "limit": BATCH}
    connection.execute("BEGIN IMMEDIATE")
    claimed = connection.execute(CLAIM, values).fetchall()
    connection.execute("COMMIT")
    return claimed


def _settle(connection: sqlite3.Connection, token: str, done: list[tuple[str, int, int]]) -> None:
    now = time.time_ns() // 1000
    results = [(task_id, claims, json.dumps(value).encode()) for task_id, claims, value in done]
    events = [(task_id, kind, now) for kind in ("STARTED", "COMPLETED") for task_id, _, _ in done]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(RESULT, results)
    connection.executemany(COMPLETE, [(now, task_id, claims, token) for task_id, claims, _ in done])
    connection.executemany(EVENT, events)
    connection.execute("COMMIT")
