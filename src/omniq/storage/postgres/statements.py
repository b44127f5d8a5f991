"""The statements that insert tasks and change their state: whole batches by `unnest`."""

from __future__ import annotations

from omniq.storage.postgres.rows import (
    REQUEST_COLUMNS,
    STATE_COLUMNS,
    STATE_TYPES,
    TASK_COLUMNS,
    TASK_TYPES,
    unnest,
)
from omniq.storage.postgres.schema import Tables

FENCE_TYPES = ("text", "int", "text", "text")
_FENCE = "id, seen_claims, seen_token, seen_status"
_FINAL = "('completed', 'failed', 'cancelled', 'expired')"
_SAME = (
    "t.claim_count = i.seen_claims AND t.lease_token IS NOT DISTINCT FROM i.seen_token "
    "AND t.status = i.seen_status"
)


class WriteStatements:
    """SQL of one namespace."""

    def __init__(self, names: Tables) -> None:
        # checked names throughout
        self.insert = _insert(names)
        self.insert_final = _insert_final(names)
        self.swap = _swap(names)
        self.refile = _refile(names)
        self.requeue = _requeue(names)
        self.purge = _purge(names)
        self.children = (
            f"DELETE FROM {names.dependency} WHERE parent_id = ANY($1::text[]) "  # noqa: S608
            "RETURNING parent_id, child_id"
        )
        self.depend = (
            f"INSERT INTO {names.dependency} (parent_id, child_id) "  # noqa: S608
            "SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING"
        )
        self.adopt = (
            f"UPDATE {names.task} t SET has_children = true FROM (SELECT id FROM {names.task} "  # noqa: S608
            "WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE) AS parent "
            "WHERE t.id = parent.id RETURNING t.id, t.status"
        )
        self.finished = f"SELECT id, status FROM {names.history} WHERE id = ANY($1::text[])"  # noqa: S608
        state = ", ".join(f"t.{name}" for name in STATE_COLUMNS)
        self.waiting = (
            f"SELECT t.id, t.queue, t.func, p.data, {state} FROM {names.task} t "  # noqa: S608
            f"JOIN {names.payload} p USING (id) WHERE t.id = ANY($1::text[]) "
            "AND t.status = 'waiting' ORDER BY t.id FOR UPDATE OF t"
        )
        self.holders = (
            "SELECT i.n, coalesce(p.id, t.id) "  # noqa: S608
            "FROM unnest($1::text[], $2::text[], $3::text[]) "
            "WITH ORDINALITY AS i(id, queue, unique_key, n) "
            f"LEFT JOIN {names.payload} p ON p.id = i.id "
            f"LEFT JOIN {names.task} t ON t.queue = i.queue AND t.unique_key = i.unique_key"
        )


def _insert(names: Tables) -> str:
    """Store live tasks unless their id or unique key is taken.

    Answers with the ids stored, and the queues that had no task in line before. The ids of
    `payload` are those of all tasks, live and finished: one that is taken between the look and
    the insert fails the statement, which is then run again. $22 is the moment.
    """
    stored = ", ".join(f"i.{name}" for name in TASK_COLUMNS)
    promoted = stored.replace("i.status", "CASE WHEN is_due THEN 'pending' ELSE i.status END")
    promoted = promoted.replace("i.due_at", "CASE WHEN is_due THEN NULL ELSE i.due_at END")
    return f"""
        WITH input AS MATERIALIZED (
            SELECT i.*, i.status = 'scheduled'
                AND i.due_at <= coalesce($22::timestamptz, clock_timestamp()) AS is_due
            FROM {unnest((*TASK_TYPES, "bytea"))} WITH ORDINALITY
            AS i({", ".join(TASK_COLUMNS)}, data, n)
        ), stored AS (
            INSERT INTO {names.task} ({", ".join(TASK_COLUMNS)})
            SELECT {promoted} FROM input i
            WHERE NOT EXISTS (SELECT FROM {names.payload} p WHERE p.id = i.id)
            ORDER BY i.n ON CONFLICT DO NOTHING RETURNING id
        ), kept AS (
            INSERT INTO {names.payload} (id, data) SELECT id, i.data FROM input i JOIN stored USING (id)
        )
        SELECT ARRAY(SELECT id FROM stored), ARRAY(
            SELECT queue FROM (SELECT DISTINCT queue FROM input) AS i WHERE NOT EXISTS (
                SELECT FROM {names.task} t WHERE t.queue = i.queue AND t.status = 'pending'
            )
        )
    """  # noqa: S608


def _insert_final(names: Tables) -> str:
    """Store tasks that are finished already unless their id is taken; answer with those ids."""
    return f"""
        WITH input AS MATERIALIZED (
            SELECT * FROM {unnest((*TASK_TYPES, "bytea"))} AS i({", ".join(TASK_COLUMNS)}, data)
        ), kept AS (
            INSERT INTO {names.payload} (id, data) SELECT id, data FROM input
            ON CONFLICT DO NOTHING RETURNING id
        )
        INSERT INTO {names.history} ({", ".join(TASK_COLUMNS)})
        SELECT {", ".join(TASK_COLUMNS)} FROM input JOIN kept USING (id) RETURNING id
    """  # noqa: S608


def _swap(names: Tables) -> str:
    """Change live tasks: keep them with another state, or file them among the finished.

    Answers with (id, 'kept'), (id, 'filed'), or (id, 'parent') for a task others wait for, which
    is left alone unless $18 says that the caller tells its children in the same transaction. That
    mark lies in the task's own row, so that it is seen even when it was set a moment ago. Rows
    are locked in order of id: no deadlocks. `lifecycle.merge_running` is mirrored here.
    """
    fixed = ("due_at", "cancel_requested")
    values = ", ".join(f"{name} = i.{name}" for name in STATE_COLUMNS if name not in fixed)
    request = ", ".join(f"t.{name}" for name in REQUEST_COLUMNS)
    return f"""
        WITH input AS MATERIALIZED (
            SELECT i.*, i.status IN {_FINAL} AS ends FROM {unnest((*FENCE_TYPES, *STATE_TYPES))}
            AS i({_FENCE}, {", ".join(STATE_COLUMNS)})
        ), held AS MATERIALIZED (
            SELECT t.id, i.ends, i.ends AND t.has_children AND NOT $18::bool AS is_parent
            FROM input i JOIN {names.task} t ON t.id = i.id WHERE {_SAME}
            ORDER BY t.id FOR UPDATE OF t
        ), kept AS (
            UPDATE {names.task} t SET {values},
                due_at = CASE WHEN t.status = 'running' AND i.status = 'running'
                    THEN t.due_at ELSE i.due_at END,
                cancel_requested = i.cancel_requested
                    OR (t.status = 'running' AND t.cancel_requested)
            FROM held h JOIN input i USING (id) WHERE t.id = h.id AND NOT h.ends RETURNING t.id
        ), gone AS (
            DELETE FROM {names.task} t USING held h
            WHERE t.id = h.id AND h.ends AND NOT h.is_parent RETURNING {request}
        ), filed AS (
            INSERT INTO {names.history} ({", ".join(TASK_COLUMNS)})
            SELECT {request.replace("t.", "gone.")}, {", ".join(f"i.{c}" for c in STATE_COLUMNS)}
            FROM gone JOIN input i USING (id) RETURNING id
        )
        SELECT id, 'kept' FROM kept UNION ALL SELECT id, 'filed' FROM filed
        UNION ALL SELECT id, 'parent' FROM held WHERE is_parent
    """  # noqa: S608


def _refile(names: Tables) -> str:
    """Change the state of finished tasks that stay finished; answer with the ids changed."""
    values = ", ".join(f"{name} = i.{name}" for name in STATE_COLUMNS)
    return f"""
        UPDATE {names.history} t SET {values} FROM {unnest((*FENCE_TYPES, *STATE_TYPES))}
        AS i({_FENCE}, {", ".join(STATE_COLUMNS)}) WHERE t.id = i.id AND {_SAME} RETURNING t.id
    """  # noqa: S608


def _requeue(names: Tables) -> str:
    """Bring finished tasks back to life; those whose unique key is held by now stay as they are."""
    request = ", ".join(f"h.{name}" for name in REQUEST_COLUMNS)
    return f"""
        WITH held AS MATERIALIZED (
            SELECT {request.replace("h.", "t.")}, {", ".join(f"i.{c}" for c in STATE_COLUMNS)}
            FROM {unnest((*FENCE_TYPES, *STATE_TYPES))} AS i({_FENCE}, {", ".join(STATE_COLUMNS)})
            JOIN {names.history} t ON t.id = i.id WHERE {_SAME} ORDER BY t.id FOR UPDATE OF t
        ), back AS (
            INSERT INTO {names.task} ({", ".join(TASK_COLUMNS)})
            SELECT {", ".join(TASK_COLUMNS)} FROM held ON CONFLICT DO NOTHING RETURNING id
        )
        DELETE FROM {names.history} t USING back WHERE t.id = back.id RETURNING t.id
    """  # noqa: S608


def _purge(names: Tables) -> str:
    """Delete tasks that finished before a moment, with all that belongs to them."""
    return f"""
        WITH gone AS (
            DELETE FROM {names.history} WHERE id IN (
                SELECT id FROM {names.history} WHERE finished_at < $1
                ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ) RETURNING id
        ), payloads AS (
            DELETE FROM {names.payload} p USING gone WHERE p.id = gone.id
        ), edges AS (
            DELETE FROM {names.dependency} d USING gone WHERE d.child_id = gone.id
        )
        SELECT count(*) FROM gone
    """  # noqa: S608
