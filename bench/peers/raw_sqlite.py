"""The limit of the driver: the standard library's sqlite3 doing the writes that OmniQ does, and nothing else.

Per batch of 100: claim with one ``UPDATE … RETURNING``, store the results, move the tasks to completed if the claim is
still theirs, append two events a task. No task objects, no retries, no coroutines: the task is called directly.
"""

from __future__ import annotations

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
CREATE TABLE IF NOT EXISTS tasks (
    id BLOB PRIMARY KEY, queue TEXT NOT NULL, priority INTEGER NOT NULL, status INTEGER NOT NULL,
    attempt INTEGER NOT NULL, claim_count INTEGER NOT NULL, lease_token BLOB, due_at REAL NOT NULL,
    worker_id TEXT, cancel_requested INTEGER NOT NULL, created_at REAL NOT NULL, started_at REAL, finished_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_ready ON tasks (queue, priority DESC, created_at, id) WHERE status = 0;
CREATE TABLE IF NOT EXISTS payloads (id BLOB PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    task_id BLOB PRIMARY KEY, claim_count INTEGER NOT NULL, status INTEGER NOT NULL, value BLOB,
    finished_at REAL NOT NULL, expires_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, task_id BLOB NOT NULL, type TEXT NOT NULL, at REAL NOT NULL, data BLOB
);
CREATE INDEX IF NOT EXISTS events_by_task ON events (task_id);
"""
INSERT = "INSERT INTO tasks VALUES (?, 'default', 0, 0, 0, 0, NULL, ?, NULL, 0, ?, NULL, NULL) ON CONFLICT DO NOTHING"
CLAIM = """
UPDATE tasks SET status = 1, attempt = attempt + 1, claim_count = claim_count + 1, lease_token = :token,
    due_at = :now + 30, worker_id = :worker, started_at = :now
WHERE id IN (SELECT id FROM tasks WHERE status = 0 AND queue = 'default'
             ORDER BY priority DESC, created_at, id LIMIT :limit)
RETURNING id, claim_count, (SELECT payload FROM payloads WHERE payloads.id = tasks.id)
"""
RESULT = """
INSERT INTO results VALUES (?, ?, 0, ?, ?, NULL) ON CONFLICT (task_id) DO UPDATE SET
    claim_count = excluded.claim_count, status = excluded.status, value = excluded.value,
    finished_at = excluded.finished_at, expires_at = excluded.expires_at
WHERE excluded.claim_count >= results.claim_count
"""
COMPLETE = """
UPDATE tasks SET status = 2, finished_at = ?, lease_token = NULL
WHERE id = ? AND claim_count = ? AND lease_token = ? AND status = 1
"""
EVENT = "INSERT INTO events (task_id, type, at, data) VALUES (?, ?, ?, NULL)"


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
        (count,) = self._connection.execute("SELECT count(*) FROM tasks WHERE status = 2").fetchone()
        return int(count)

    async def round_trip(self, number: int) -> None:
        (task_id,) = self._insert([number])
        while not self._connection.execute("SELECT 1 FROM results WHERE task_id = ?", [task_id]).fetchone():
            time.sleep(IDLE_SECONDS)

    async def teardown(self) -> None:
        self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        return connection

    def _insert(self, numbers: Iterable[int]) -> list[bytes]:
        now = time.time()
        tasks = [(_ordered_id(), json.dumps({"func": "noop", "args": [number]})) for number in numbers]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, [(task_id, now, now) for task_id, _ in tasks])
        self._connection.executemany("INSERT INTO payloads VALUES (?, ?)", tasks)
        self._connection.execute("COMMIT")
        return [task_id for task_id, _ in tasks]

    def _work(self) -> None:
        connection = self._connect()
        while True:
            token = os.urandom(16)
            if claimed := _claim(connection, token):
                _settle(connection, token, [(task_id, claims, _run(payload)) for task_id, claims, payload in claimed])
            else:
                time.sleep(IDLE_SECONDS)


class RawNormal(RawFull):
    """sqlite3 in WAL mode, synced at checkpoints only: survives a killed process, not a power cut."""

    synchronous = "NORMAL"


def _ordered_id() -> bytes:
    return time.time_ns().to_bytes(8) + os.urandom(8)


def _run(payload: str) -> int:
    (number,) = json.loads(payload)["args"]
    record(number)
    return number


def _claim(connection: sqlite3.Connection, token: bytes) -> list[tuple[bytes, int, str]]:
    values = {"token": token, "now": time.time(), "worker": "raw", "limit": BATCH}
    connection.execute("BEGIN IMMEDIATE")
    claimed = connection.execute(CLAIM, values).fetchall()
    connection.execute("COMMIT")
    return claimed


def _settle(connection: sqlite3.Connection, token: bytes, done: list[tuple[bytes, int, int]]) -> None:
    now = time.time()
    events = [(task_id, kind, now) for task_id, _, _ in done for kind in ("STARTED", "COMPLETED")]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(RESULT, [(task_id, claims, json.dumps(value), now) for task_id, claims, value in done])
    connection.executemany(COMPLETE, [(now, task_id, claims, token) for task_id, claims, _ in done])
    connection.executemany(EVENT, events)
    connection.execute("COMMIT")
