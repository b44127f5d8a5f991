"""The statements of a claim, and the looks that tell whether one is worth while."""

from __future__ import annotations

import sqlite3
from typing import Any

from omniq.storage.sqlite.schema import Tables
from omniq.storage.sqlite.threads import Transaction

PROMOTED_PER_CLAIM = 10_000
"""So many delayed tasks become ready in one claim at most; the rest follow with the next."""
_FOR_EVER = 3600.0


class ClaimStatements:
    """SQL of one namespace. Moments are microseconds since 1970."""

    def __init__(self, names: Tables) -> None:
        task = names.task
        self._paused = f"SELECT queue FROM {names.paused}"  # noqa: S608 - checked names throughout
        self._is_ready = (
            f"SELECT EXISTS (SELECT 1 FROM {task} WHERE queue = :queue AND status = 'pending') "  # noqa: S608
            f"OR EXISTS (SELECT 1 FROM {task} WHERE queue = :queue AND status = 'scheduled'"
            " AND due_at <= :now) "
            f"OR EXISTS (SELECT 1 FROM {task} WHERE queue = :queue AND status = 'running'"
            " AND due_at <= :now)"
        )
        self._next_due = (
            "SELECT min(due_at) FROM ("  # noqa: S608
            f"SELECT min(due_at) AS due_at FROM {task} "
            "WHERE queue = :queue AND status = 'scheduled' UNION ALL "
            f"SELECT min(due_at) FROM {task} WHERE queue = :queue AND status = 'running')"
        )
        self._promote = (
            f"UPDATE {task} SET status = 'pending', due_at = NULL WHERE seq IN ("  # noqa: S608
            f"SELECT seq FROM {task} WHERE queue = ? AND status = 'scheduled' AND due_at <= ? "
            f"ORDER BY due_at LIMIT {PROMOTED_PER_CLAIM})"
        )
        self._claim = _claim_statement(names)

    def is_ready(self, connection: sqlite3.Connection, queues: list[str], now: int) -> bool:
        """Whether a claim from these queues would find a task."""
        return any(
            connection.execute(self._is_ready, {"queue": queue, "now": now}).fetchone()[0]
            for queue in self._open_queues(connection, queues)
        )

    def paused(self, connection: sqlite3.Connection) -> set[str]:
        """Return the names of the paused queues."""
        return {queue for (queue,) in connection.execute(self._paused)}

    def next_due(self, connection: sqlite3.Connection, queues: list[str]) -> int | None:
        """Return the earliest moment at which a delayed task or a lease comes due."""
        dues = [
            connection.execute(self._next_due, {"queue": queue}).fetchone()[0] for queue in queues
        ]
        return min((due for due in dues if due is not None), default=None)

    def pause(self, connection: sqlite3.Connection, queues: list[str], now: int) -> float:
        """How many seconds to wait until a claim may find something; 0 when it would now."""
        names = self._open_queues(connection, queues)
        if self.is_ready(connection, names, now):
            return 0.0
        due = self.next_due(connection, names)
        return _FOR_EVER if due is None else max(0.0, (due - now) / 1e6) + 0.0005

    def claim(
        self,
        transaction: Transaction,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        now: int,
        ends_at: int,
    ) -> list[Any]:
        """Lease tasks and return their rows in the order they are to run."""
        connection = transaction.connection
        names = self._open_queues(connection, queues)
        for queue in names:
            connection.execute(self._promote, (queue, now))
        rows: list[Any] = []
        for queue in names:
            if len(rows) >= limit:
                break
            values = {
                "queue": queue,
                "now": now,
                "limit": limit - len(rows),
                "token": lease_token,
                "worker": worker_id,
                "ends_at": ends_at,
            }
            found = connection.execute(self._claim, values).fetchall()
            rows += sorted(found, key=lambda row: (-row[0], row[1], row[3]))
        return rows

    def _open_queues(self, connection: sqlite3.Connection, queues: list[str]) -> list[str]:
        paused = self.paused(connection)
        return [queue for queue in queues if queue not in paused] if paused else queues


def _claim_statement(names: Tables) -> str:
    """Lease the first tasks of one queue: ready ones by index, merged with expired leases."""
    task, payload = names.task, names.payload
    order = "ORDER BY priority DESC, created_at, id LIMIT :limit"
    return f"""
        UPDATE {task} SET
            status = 'running',
            attempt = attempt + 1,
            claim_count = claim_count + 1,
            lost_leases = lost_leases + (status = 'running'),
            lease_token = :token,
            worker_id = :worker,
            due_at = :ends_at,
            started_at = :now,
            progress = NULL
        WHERE seq IN (
            SELECT seq FROM (
                SELECT * FROM (
                    SELECT seq, priority, created_at, id FROM {task}
                    WHERE queue = :queue AND status = 'pending' {order}
                )
                UNION ALL
                SELECT seq, priority, created_at, id FROM {task}
                WHERE queue = :queue AND status = 'running' AND due_at <= :now
            ) {order}
        )
        RETURNING priority, created_at, seq, id, queue, func,
            (SELECT data FROM {payload} WHERE {payload}.seq = {task}.seq),
            attempt, claim_count, lost_leases, cancel_requested, error, expires_at,
            waiting_for
    """  # noqa: S608 - checked names only
