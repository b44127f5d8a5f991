"""The write jobs of the queue: plain functions of a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from omniq import lifecycle
from omniq.models.task import Task, TaskStatus
from omniq.serialization import RecordCodec
from omniq.storage.base import Change, Inserted, Lease
from omniq.storage.sqlite.bulk import BulkInsert
from omniq.storage.sqlite.rows import (
    STATE_COLUMNS,
    TASK_COLUMNS,
    read_task,
    set_state,
    state_values,
    task_values,
)
from omniq.storage.sqlite.schema import Tables
from omniq.storage.sqlite.threads import Transaction

_READY = (TaskStatus.PENDING, TaskStatus.SCHEDULED)


class TaskWrites:
    """SQL of one namespace. Each method is one job: all or nothing with its transaction."""

    def __init__(self, names: Tables, codec: RecordCodec) -> None:
        self._names = names
        self._codec = codec
        columns = ", ".join(TASK_COLUMNS)
        self._insert = BulkInsert(
            f"INSERT OR IGNORE INTO {names.task} ({columns}) VALUES", len(TASK_COLUMNS)
        )
        self._insert_payload = BulkInsert(f"INSERT INTO {names.payload} (seq, data) VALUES", 2)
        self._swap = _swap_statement(names.task)
        self._extend = (
            f"UPDATE {names.task} SET due_at = ? "  # noqa: S608
            "WHERE id = ? AND claim_count = ? AND lease_token = ? AND status = 'running'"
        )

    def insert(
        self, transaction: Transaction, tasks: Sequence[Task], payloads: list[bytes], now: datetime
    ) -> list[Inserted]:
        """Admit and store tasks: all at once, or one by one when an id or key is taken."""
        connection = transaction.connection
        if any(task.depends_on for task in tasks):
            return self._insert_each(transaction, tasks, payloads, now)
        admitted = [lifecycle.admit(task, {}, now) for task in tasks]
        seq = self._next_seq(connection)
        rows = [task_values(seq + n, task) for n, task in enumerate(admitted)]
        connection.execute("SAVEPOINT batch")
        if self._insert.run(connection, rows) != len(rows):
            connection.execute("ROLLBACK TO batch")
            connection.execute("RELEASE batch")
            return self._insert_each(transaction, tasks, payloads, now)
        self._insert_payload.run(connection, list(enumerate(payloads, seq)))
        connection.execute("RELEASE batch")
        _note_ready(transaction, admitted)
        return [Inserted(task.id, stored=True) for task in admitted]

    def _insert_each(
        self, transaction: Transaction, tasks: Sequence[Task], payloads: list[bytes], now: datetime
    ) -> list[Inserted]:
        return [
            self._insert_one(transaction, task, data, now)
            for task, data in zip(tasks, payloads, strict=True)
        ]

    def _insert_one(
        self, transaction: Transaction, task: Task, data: bytes, now: datetime
    ) -> Inserted:
        connection = transaction.connection
        parents = self._statuses(connection, task.depends_on)
        admitted = lifecycle.admit(task, parents, now)
        seq = self._next_seq(connection)
        if self._insert.run(connection, [task_values(seq, admitted)]) != 1:
            return Inserted(self._holder(connection, task), stored=False)
        self._insert_payload.run(connection, [(seq, data)])
        if admitted.status is TaskStatus.WAITING:
            unfinished = [(key, task.id) for key, status in parents.items() if not status.is_final]
            query = f"INSERT INTO {self._names.dependency} VALUES (?, ?)"  # noqa: S608
            connection.executemany(query, unfinished)
        _note_ready(transaction, [admitted])
        return Inserted(task.id, stored=True)

    def _next_seq(self, connection: sqlite3.Connection) -> int:
        query = f"SELECT coalesce(max(seq), 0) + 1 FROM {self._names.task}"  # noqa: S608
        (seq,) = connection.execute(query).fetchone()
        return int(seq)

    def _holder(self, connection: sqlite3.Connection, task: Task) -> str:
        """Return the id that stands for a task that could not be inserted."""
        query = (
            f"SELECT id FROM {self._names.task} WHERE id = ? UNION ALL "  # noqa: S608
            f"SELECT id FROM {self._names.task} WHERE queue = ? AND unique_key = ?"
            " AND finished_at IS NULL LIMIT 1"
        )
        row = connection.execute(query, (task.id, task.queue_name, task.unique_key)).fetchone()
        return str(row[0])

    def _statuses(
        self, connection: sqlite3.Connection, ids: Sequence[str]
    ) -> dict[str, TaskStatus]:
        if not ids:
            return {}
        query = (
            f"SELECT id, status FROM {self._names.task} "  # noqa: S608
            "WHERE id IN (SELECT value FROM json_each(?))"
        )
        rows = connection.execute(query, (json.dumps(list(ids)),))
        return {task_id: TaskStatus(status) for task_id, status in rows}

    def swap(
        self, transaction: Transaction, changes: Sequence[Change], now: datetime
    ) -> list[bool]:
        """Apply changes: in groups of one statement each, or one by one when some are lost."""
        connection = transaction.connection
        groups: dict[tuple[Any, ...], list[str]] = {}
        for before, after in changes:
            fence = (before.claim_count, before.lease_token, before.status.value)
            groups.setdefault((*state_values(after), *fence), []).append(before.id)
        connection.execute("SAVEPOINT batch")
        complete = all(self._swap_group(connection, key, ids) for key, ids in groups.items())
        if not complete:
            connection.execute("ROLLBACK TO batch")
        connection.execute("RELEASE batch")
        applied = [complete or self._swap_one(connection, change) for change in changes]
        done = [change.after for change, ok in zip(changes, applied, strict=True) if ok]
        _note_ready(transaction, done)
        _note_leases(transaction, changes)
        self._free_children(transaction, [task for task in done if task.is_final], now)
        return applied

    def _swap_group(
        self, connection: sqlite3.Connection, values: tuple[Any, ...], ids: list[str]
    ) -> bool:
        """Write the same state under the same fence to all of these tasks; whether all held.

        Tasks claimed together and finished together differ in nothing but their id: one statement,
        run by SQLite without a step in Python for each row.
        """
        try:
            cursor = connection.execute(self._swap, (*values, json.dumps(ids)))
        except sqlite3.IntegrityError:
            return False  # a unique key is held by another live task
        return cursor.rowcount == len(ids)

    def _swap_one(self, connection: sqlite3.Connection, change: Change) -> bool:
        before = change.before
        fence = (before.claim_count, before.lease_token, before.status.value)
        return self._swap_group(connection, (*state_values(change.after), *fence), [before.id])

    def extend(self, transaction: Transaction, leases: list[Lease], due_at: int) -> list[str]:
        """Move the end of leases; return the ids of those still held."""
        connection = transaction.connection
        return [
            task_id
            for task_id, claim_count, token in leases
            if connection.execute(self._extend, (due_at, task_id, claim_count, token)).rowcount
        ]

    def end_leases(self, transaction: Transaction, worker_ids: list[str], now: int) -> None:
        """Let all leases of these workers end now."""
        marks = ", ".join("?" * len(worker_ids))
        query = (
            f"UPDATE {self._names.task} SET due_at = min(due_at, ?) "  # noqa: S608
            f"WHERE status = 'running' AND worker_id IN ({marks}) RETURNING queue"
        )
        rows = transaction.connection.execute(query, (now, *worker_ids)).fetchall()
        transaction.ready_queues.update(queue for (queue,) in rows)

    def purge(self, transaction: Transaction, before: int, limit: int) -> int:
        """Delete final tasks that finished before this moment."""
        connection, names = transaction.connection, self._names
        query = (
            f"DELETE FROM {names.task} WHERE seq IN (SELECT seq FROM {names.task} "  # noqa: S608
            "WHERE finished_at IS NOT NULL AND finished_at < ? ORDER BY finished_at LIMIT ?) "
            "RETURNING seq, id"
        )
        gone = connection.execute(query, (before, limit)).fetchall()
        connection.executemany(
            f"DELETE FROM {names.payload} WHERE seq = ?",  # noqa: S608
            [(seq,) for seq, _ in gone],
        )
        if self._has_dependencies(connection):
            ids = json.dumps([task_id for _, task_id in gone])
            children = "child_id IN (SELECT value FROM json_each(?))"
            connection.execute(f"DELETE FROM {names.dependency} WHERE {children}", (ids,))  # noqa: S608
        return len(gone)

    def _has_dependencies(self, connection: sqlite3.Connection) -> bool:
        query = f"SELECT EXISTS (SELECT 1 FROM {self._names.dependency})"  # noqa: S608
        return bool(connection.execute(query).fetchone()[0])

    def _free_children(self, transaction: Transaction, finished: list[Task], now: datetime) -> None:
        """Move the dependants of tasks that became final, through all generations."""
        transaction.final_ids += [task.id for task in finished]
        while finished and self._has_dependencies(transaction.connection):
            finished = self._free_generation(transaction, finished, now)
            transaction.final_ids += [task.id for task in finished]

    def _free_generation(
        self, transaction: Transaction, finished: list[Task], now: datetime
    ) -> list[Task]:
        """Tell the children of these tasks; return those that became final by it."""
        statuses = {task.id: task.status for task in finished}
        children: dict[str, Task] = {}
        for parent_id, child in self._take_children(transaction.connection, list(statuses)):
            task = children.setdefault(child.id, child)
            if task.status is TaskStatus.WAITING:
                status = statuses[parent_id]
                children[child.id] = lifecycle.parent_finished(task, parent_id, status, now)
        assignments = ", ".join(f"{name} = ?" for name in STATE_COLUMNS)
        update = f"UPDATE {self._names.task} SET {assignments} WHERE id = ?"  # noqa: S608
        rows = [(*state_values(task), task.id) for task in children.values()]
        transaction.connection.executemany(update, rows)
        _note_ready(transaction, list(children.values()))
        return [task for task in children.values() if task.is_final]

    def _take_children(
        self, connection: sqlite3.Connection, parent_ids: list[str]
    ) -> list[tuple[str, Task]]:
        names, ids = self._names, json.dumps(parent_ids)
        state = ", ".join(f"t.{name}" for name in STATE_COLUMNS)
        parents = "parent_id IN (SELECT value FROM json_each(?))"
        query = (
            f"SELECT d.parent_id, t.id, t.queue, t.func, p.data, {state} "  # noqa: S608
            f"FROM {names.dependency} d JOIN {names.task} t ON t.id = d.child_id "
            f"LEFT JOIN {names.payload} p USING (seq) WHERE d.{parents} AND t.status = 'waiting' "
            "ORDER BY d.parent_id, t.id"
        )
        rows = connection.execute(query, (ids,)).fetchall()
        connection.execute(f"DELETE FROM {names.dependency} WHERE {parents}", (ids,))  # noqa: S608
        return [
            (row[0], set_state(read_task(self._codec.decode, *row[1:5]), row[5:])) for row in rows
        ]


def _note_ready(transaction: Transaction, tasks: Sequence[Task]) -> None:
    transaction.ready_queues.update(task.queue_name for task in tasks if task.status in _READY)


def _note_leases(transaction: Transaction, changes: Sequence[Change]) -> None:
    """Wake waiters when a lease begins by a swap: they reckon anew how long to sleep.

    A claim wakes nobody: that would be all idle workers at each. Who waits meanwhile looks again
    after `LONGEST_WAIT_SECONDS`.
    """
    running = TaskStatus.RUNNING
    transaction.ready_queues.update(
        after.queue_name
        for before, after in changes
        if after.status is running and before.status is not running
    )


def _swap_statement(task: str) -> str:
    """Write the state if the fence holds, by the rules of `lifecycle.merge_running`."""
    held = {
        "due_at": "CASE WHEN status = 'running' AND ?1 = 'running' THEN due_at ELSE ?5 END",
        "cancel_requested": (
            "CASE WHEN status = 'running' AND ?13 IS NULL "
            "THEN max(cancel_requested, ?8) ELSE ?8 END"
        ),
    }
    assignments = ", ".join(
        f"{name} = {held.get(name, f'?{n}')}" for n, name in enumerate(STATE_COLUMNS, 1)
    )
    fence = len(STATE_COLUMNS)
    return (
        f"UPDATE {task} SET {assignments} WHERE claim_count = ?{fence + 1} "  # noqa: S608 - checked name
        f"AND lease_token IS ?{fence + 2} AND status = ?{fence + 3} "
        f"AND id IN (SELECT value FROM json_each(?{fence + 4}))"
    )
