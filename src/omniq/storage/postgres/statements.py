"""The statements that insert tasks and change their state: whole batches by `unnest`."""

from __future__ import annotations

from collections.abc import Mapping

from omniq.storage.postgres.rows import (
    REQUEST_COLUMNS,
    RESULT_TYPES,
    STATE_COLUMNS,
    TASK_COLUMNS,
    TYPES,
    batch,
)
from omniq.storage.postgres.schema import Tables

_NEW = {**TYPES, "data": "bytea"}
_NEW_AND_EVENT = {**_NEW, "event_type": "text", "at": "timestamptz"}
_CHANGE = {
    "id": "text",
    "seen_claims": "int",
    "seen_token": "text",
    "seen_status": "text",
    **{name: TYPES[name] for name in STATE_COLUMNS},
}
_FINAL = "('completed', 'failed', 'cancelled', 'expired')"
_ALL = ", ".join(TASK_COLUMNS)
_PROMOTED = ", ".join(
    {
        "status": "CASE WHEN i.is_due THEN 'pending' ELSE i.status END",
        "due_at": "CASE WHEN i.is_due THEN NULL ELSE i.due_at END",
    }.get(name, f"i.{name}")
    for name in TASK_COLUMNS
)
"""`lifecycle.promote` mirrored."""
_SAME = (
    "t.claim_count = i.seen_claims AND t.lease_token IS NOT DISTINCT FROM i.seen_token "
    "AND t.status = i.seen_status"
)


class WriteStatements:
    """SQL of one namespace."""

    def __init__(self, names: Tables) -> None:
        # checked names throughout
        self.insert = _insert(names)
        self.insert_fresh = _insert_fresh(names)
        self.insert_one = _insert_one(names)
        self.insert_fresh_logged = _insert_fresh(names, logged=True)
        self.insert_one_logged = _insert_one(names, logged=True)
        self.insert_final = _insert_final(names)
        self.swap = _swap(names)
        self.finish = _swap(names, with_results=True)
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
            f"LEFT JOIN {names.payload} p USING (id) WHERE t.id = ANY($1::text[]) "
            "AND t.status = 'waiting' ORDER BY t.id FOR UPDATE OF t"
        )
        self.known = f"SELECT id FROM {names.payload} WHERE id = ANY($1::text[])"  # noqa: S608
        self.payloads = f"SELECT id, data FROM {names.payload} WHERE id = ANY($1::text[])"  # noqa: S608
        self.holders = (
            "SELECT i.n, coalesce(p.id, t.id) "  # noqa: S608
            "FROM unnest($1::text[], $2::text[], $3::text[]) "
            "WITH ORDINALITY AS i(id, queue, unique_key, n) "
            f"LEFT JOIN {names.payload} p ON p.id = i.id "
            f"LEFT JOIN {names.task} t ON t.queue = i.queue AND t.unique_key = i.unique_key"
        )


def _insert_fresh(names: Tables, *, logged: bool = False) -> str:
    """Store live tasks whose ids were drawn at random, as nearly all are: with no look before.

    A taken id fails the statement, and `_insert` is run instead. The parameter after the columns is
    the moment. Answers with the queues that had no task in line before.
    """
    events = f"""logged AS (
            INSERT INTO {names.event} (task_id, event_type, at)
            SELECT id, event_type, at FROM input ORDER BY n
        ),"""  # noqa: S608
    types = _NEW_AND_EVENT if logged else _NEW
    return f"""
        WITH input AS MATERIALIZED ({_admitted(types)}), {events if logged else ""} kept AS (
            INSERT INTO {names.payload} (id, data) SELECT id, data FROM input
        ), stored AS (
            INSERT INTO {names.task} ({_ALL}) SELECT {_PROMOTED} FROM input i
        )
        SELECT {_empty_queues(names)}
    """  # noqa: S608


def _insert_one(names: Tables, *, logged: bool = False) -> str:
    """Store one task as `_insert_fresh` does; single values cost a fraction of arrays of one."""
    types = _NEW_AND_EVENT if logged else _NEW
    given = {name: f"${n}::{kind}" for n, (name, kind) in enumerate(types.items(), 1)}
    moment = f"coalesce(${len(types) + 1}::timestamptz, clock_timestamp())"
    is_due = f"({given['status']} = 'scheduled' AND {given['due_at']} <= {moment})"
    values = given | {
        "status": f"CASE WHEN {is_due} THEN 'pending' ELSE {given['status']} END",
        "due_at": f"CASE WHEN {is_due} THEN NULL ELSE {given['due_at']} END",
    }
    told = ", ".join(given[name] for name in ("id", "event_type", "at") if logged)
    events = f"""logged AS (
            INSERT INTO {names.event} (task_id, event_type, at) VALUES ({told})
        ),"""  # noqa: S608
    return f"""
        WITH {events if logged else ""} kept AS (
            INSERT INTO {names.payload} (id, data) VALUES ({given["id"]}, {given["data"]})
        )
        INSERT INTO {names.task} ({_ALL}) VALUES ({", ".join(values[n] for n in TASK_COLUMNS)})
        RETURNING CASE WHEN (
            SELECT true FROM {names.task} t
            WHERE t.queue = {given["queue"]} AND t.status = 'pending'
            ORDER BY t.priority DESC, t.created_at, t.id LIMIT 1
        ) IS NULL THEN ARRAY[queue] ELSE '{{}}' END
    """  # noqa: S608


def _insert(names: Tables) -> str:
    """Store live tasks unless their id or unique key is taken.

    Answers with the queues that had no task in line before, and the ids stored.
    The ids of `payload` are those of all tasks, live and finished: one that is taken between the
    look and the insert fails the statement, which is then run again.
    """
    return f"""
        WITH input AS MATERIALIZED ({_admitted(_NEW)}), stored AS (
            INSERT INTO {names.task} ({_ALL}) SELECT {_PROMOTED} FROM input i
            WHERE (SELECT true FROM {names.payload} p WHERE p.id = i.id) IS NULL
            ORDER BY i.n ON CONFLICT DO NOTHING RETURNING id
        ), kept AS (
            INSERT INTO {names.payload} (id, data)
            SELECT id, data FROM input WHERE (id IN (SELECT id FROM stored)) IS TRUE
        )
        SELECT {_empty_queues(names)}, ARRAY(SELECT id FROM stored)
    """  # noqa: S608


def _admitted(types: Mapping[str, str]) -> str:
    """Select the new tasks; whether a delayed one is due by now, the server's clock decides."""
    return f"""
        SELECT i.*, i.status = 'scheduled'
            AND i.due_at <= coalesce(${len(types) + 1}::timestamptz, clock_timestamp()) AS is_due
        FROM {batch(types)} AS i
    """  # noqa: S608


def _empty_queues(names: Tables) -> str:
    """Select the queues of the input that nothing waits in, by one look into the index each."""
    queues = f"unnest(${list(_NEW).index('queue') + 1}::text[]) AS i(queue)"
    return f"""
        ARRAY(SELECT queue FROM (SELECT DISTINCT queue FROM {queues}) AS q WHERE (
            SELECT true FROM {names.task} t WHERE t.queue = q.queue AND t.status = 'pending'
            ORDER BY t.priority DESC, t.created_at, t.id LIMIT 1
        ) IS NULL)
    """  # noqa: S608


def _insert_final(names: Tables) -> str:
    """Store tasks that are finished already unless their id is taken; answer with those ids."""
    return f"""
        WITH input AS MATERIALIZED (
            SELECT * FROM {batch(_NEW)} AS i
        ), kept AS (
            INSERT INTO {names.payload} (id, data) SELECT id, data FROM input
            ON CONFLICT DO NOTHING RETURNING id
        )
        INSERT INTO {names.history} ({_ALL})
        SELECT {_ALL} FROM input JOIN kept USING (id) RETURNING id
    """  # noqa: S608


def store_results(names: Tables, first: int = 1) -> str:
    """Store results unless one of a later claim stands; answer with the ids stored.

    Rows are written in order of id, so that no two statements wait for each other.
    """
    fields = ", ".join(RESULT_TYPES)
    return f"""
        INSERT INTO {names.result} AS r ({fields})
        SELECT {fields} FROM {batch(RESULT_TYPES, first)} AS i ORDER BY task_id
        ON CONFLICT (task_id) DO UPDATE SET claim_count = excluded.claim_count,
            expires_at = excluded.expires_at, data = excluded.data
        WHERE excluded.claim_count >= r.claim_count OR r.expires_at <= clock_timestamp()
        RETURNING task_id
    """  # noqa: S608


def _swap(names: Tables, *, with_results: bool = False) -> str:
    """Change live tasks: keep them with another state, or file them among the finished.

    Answers with (id, false), or (id, true) for a task that ends and that others wait for: it is
    left alone unless the last parameter says that the caller tells its children in the same
    transaction. That mark lies in the task's own row, so that it is seen even when it was set a
    moment ago. Rows are locked in order of id: no deadlocks. `lifecycle.merge_running` is mirrored
    here. With results, their parameters follow the last.
    """
    fixed = ("due_at", "cancel_requested")
    values = ", ".join(f"{name} = h.{name}" for name in STATE_COLUMNS if name not in fixed)
    request = ", ".join(f"t.{name}" for name in REQUEST_COLUMNS)
    state = ", ".join(f"i.{name}" for name in STATE_COLUMNS)
    extra = f", results AS ({store_results(names, len(_CHANGE) + 2)})" if with_results else ""
    return f"""
        WITH held AS MATERIALIZED (
            SELECT {request}, {state}, i.status IN {_FINAL} AS ends,
                i.status IN {_FINAL} AND t.has_children
                    AND NOT ${len(_CHANGE) + 1}::bool AS is_parent
            FROM {batch(_CHANGE)} AS i JOIN {names.task} t ON t.id = i.id WHERE {_SAME}
            ORDER BY t.id FOR UPDATE OF t
        ), kept AS (
            UPDATE {names.task} t SET {values},
                due_at = CASE WHEN t.status = 'running' AND h.status = 'running'
                    THEN t.due_at ELSE h.due_at END,
                cancel_requested = h.cancel_requested
                    OR (t.status = 'running' AND t.cancel_requested)
            FROM held h WHERE t.id = h.id AND NOT h.ends
        ), gone AS (
            DELETE FROM {names.task} t USING held h
            WHERE t.id = h.id AND h.ends AND NOT h.is_parent
        ), filed AS (
            INSERT INTO {names.history} ({_ALL})
            SELECT {_ALL} FROM held WHERE ends AND NOT is_parent
        ){extra}
        SELECT id, is_parent FROM held
    """  # noqa: S608


def _refile(names: Tables) -> str:
    """Change the state of finished tasks that stay finished; answer with the ids changed."""
    values = ", ".join(f"{name} = i.{name}" for name in STATE_COLUMNS)
    return f"""
        UPDATE {names.history} t SET {values} FROM {batch(_CHANGE)} AS i
        WHERE t.id = i.id AND {_SAME} RETURNING t.id
    """  # noqa: S608


def _requeue(names: Tables) -> str:
    """Bring finished tasks back to life; those whose unique key is held by now stay as they are."""
    request = ", ".join(f"h.{name}" for name in REQUEST_COLUMNS)
    return f"""
        WITH held AS MATERIALIZED (
            SELECT {request.replace("h.", "t.")}, {", ".join(f"i.{c}" for c in STATE_COLUMNS)}
            FROM {batch(_CHANGE)} AS i JOIN {names.history} t ON t.id = i.id WHERE {_SAME}
            ORDER BY t.id FOR UPDATE OF t
        ), back AS (
            INSERT INTO {names.task} ({_ALL})
            SELECT {_ALL} FROM held ON CONFLICT DO NOTHING RETURNING id
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
