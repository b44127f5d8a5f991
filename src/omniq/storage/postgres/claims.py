"""The statements of claims, heartbeats and waits; each is one round trip, however many tasks."""

from __future__ import annotations

from omniq.storage.postgres.rows import STATE_COLUMNS, batch
from omniq.storage.postgres.schema import Tables

PROMOTED_PER_CLAIM = 10_000
"""So many delayed tasks of a queue become ready in one claim at most; the rest follow."""
GRACE_SECONDS = 2.0
"""How long a worker's lock must have been free before it counts as dead: a lost connection is
made anew sooner."""
GRACE_AFTER_START_SECONDS = 15.0
"""When the server itself started anew, all locks are free until the workers are back."""

_ORDER = "ORDER BY priority DESC, created_at, id"


class ClaimStatements:
    """SQL of one namespace. A moment of NULL means the server's clock."""

    def __init__(self, names: Tables) -> None:
        # checked names throughout
        self.claim = _claim(names)
        self.extend = _extend(names)
        self.pause = _pause(names)
        self.next_due = (
            "SELECT min(d.due_at) FROM unnest($1::text[]) AS q(name) CROSS JOIN LATERAL ("  # noqa: S608
            f"(SELECT due_at FROM {names.task} WHERE queue = q.name AND status = 'scheduled' "
            "ORDER BY due_at LIMIT 1) UNION ALL "
            f"(SELECT due_at FROM {names.task} WHERE queue = q.name AND status = 'running' "
            "ORDER BY due_at LIMIT 1)) AS d"
        )
        self.any_final = (
            f"SELECT count(*) < cardinality($1::text[]) FROM {names.task} "  # noqa: S608
            "WHERE id = ANY($1::text[])"
        )
        self.end_dead = _end_dead(names)


def _claim(names: Tables) -> str:
    """Lease tasks in order; put what is due in line.

    The candidates are locked first, in CTEs the planner must not inline: it might run a limited
    subquery several times and lease more than asked for. Rows somebody else is claiming at this
    moment are skipped, not waited for. The parameters: queues, worker, token, limit, seconds, now.
    """
    return f"""
        WITH moment AS MATERIALIZED (
            SELECT coalesce($6::timestamptz, clock_timestamp()) AS now
        ), q AS MATERIALIZED (
            SELECT name, ord FROM unnest($1::text[]) WITH ORDINALITY AS asked(name, ord)
            WHERE NOT EXISTS (SELECT FROM {names.paused} p WHERE p.queue = asked.name)
            ORDER BY ord
        ), due AS MATERIALIZED (
            SELECT q.ord, d.* FROM q CROSS JOIN LATERAL (
                SELECT id, priority, created_at FROM {names.task}
                WHERE queue = q.name AND status = 'scheduled'
                    AND due_at <= (SELECT now FROM moment)
                ORDER BY due_at LIMIT {PROMOTED_PER_CLAIM} FOR UPDATE SKIP LOCKED
            ) AS d
        ), late AS MATERIALIZED (
            SELECT q.ord, l.* FROM q CROSS JOIN LATERAL (
                SELECT id, priority, created_at FROM {names.task}
                WHERE queue = q.name AND status = 'running'
                    AND due_at <= (SELECT now FROM moment)
                {_ORDER} LIMIT $4 FOR UPDATE SKIP LOCKED
            ) AS l LIMIT $4
        ), ready AS MATERIALIZED (
            SELECT q.ord, r.* FROM q CROSS JOIN LATERAL (
                SELECT id, priority, created_at FROM {names.task}
                WHERE queue = q.name AND status = 'pending'
                {_ORDER} LIMIT $4 FOR UPDATE SKIP LOCKED
            ) AS r LIMIT $4
        ), picked AS MATERIALIZED (
            SELECT id, row_number() OVER (ORDER BY ord, priority DESC, created_at, id) AS place
            FROM (TABLE ready UNION ALL TABLE due UNION ALL TABLE late) AS candidate
            ORDER BY place LIMIT $4
        ), promoted AS (
            UPDATE {names.task} t SET status = 'pending', due_at = NULL FROM due WHERE t.id = due.id
            AND (due.id IN (SELECT id FROM picked)) IS NOT TRUE
        )
        UPDATE {names.task} t SET
            status = 'running',
            attempt = t.attempt + 1,
            claim_count = t.claim_count + 1,
            lost_leases = t.lost_leases + (t.status = 'running')::int,
            lease_token = $3, worker_id = $2,
            due_at = (SELECT now FROM moment) + make_interval(secs => $5),
            started_at = (SELECT now FROM moment),
            progress = NULL
        FROM picked LEFT JOIN {names.payload} p USING (id) WHERE t.id = picked.id
        RETURNING picked.place, t.id, t.queue, t.func, p.data, t.attempt, t.claim_count,
            t.lost_leases, t.cancel_requested, t.error, t.due_at, t.started_at, t.expires_at,
            t.waiting_for
    """  # noqa: S608


def _extend(names: Tables) -> str:
    """Move the end of leases still held; return the tasks. Locks in order of id: no deadlocks."""
    state = ", ".join(f"t.{name}" for name in STATE_COLUMNS)
    return f"""
        WITH held AS MATERIALIZED (
            SELECT t.id FROM {batch({"id": "text", "claim_count": "int", "token": "text"})} AS i
            JOIN {names.task} t ON t.id = i.id
            WHERE t.claim_count = i.claim_count AND t.lease_token = i.token
                AND t.status = 'running'
            ORDER BY t.id FOR UPDATE OF t
        )
        UPDATE {names.task} t
        SET due_at = coalesce($5::timestamptz, clock_timestamp()) + make_interval(secs => $4)
        FROM held LEFT JOIN {names.payload} p USING (id) WHERE t.id = held.id
        RETURNING t.id, t.queue, t.func, p.data, {state}
    """  # noqa: S608


def _pause(names: Tables) -> str:
    """In how many seconds a claim may find something: 0 for now, NULL for not by itself."""
    task = names.task
    return f"""
        SELECT CASE WHEN bool_or(look.ready) OR min(look.due_at) <= clock_timestamp()
            THEN 0.0 ELSE extract(epoch FROM min(look.due_at) - clock_timestamp())::float8 END
        FROM unnest($1::text[]) AS q(name) CROSS JOIN LATERAL (
            SELECT (SELECT true FROM {task} WHERE queue = q.name AND status = 'pending'
                    {_ORDER} LIMIT 1) AS ready,
                least(
                    (SELECT due_at FROM {task} WHERE queue = q.name AND status = 'scheduled'
                     ORDER BY due_at LIMIT 1),
                    (SELECT due_at FROM {task} WHERE queue = q.name AND status = 'running'
                     ORDER BY due_at LIMIT 1)
                ) AS due_at
        ) AS look
        WHERE NOT EXISTS (SELECT FROM {names.paused} p WHERE p.queue = q.name)
    """  # noqa: S608


def _end_dead(names: Tables) -> str:
    """Bury the workers whose lock was free for the grace; end their leases.

    A lock that is got here is freed at the end of the statement; who else tries meanwhile takes
    the worker for alive and looks again later. The first look at a free lock only notes the time.
    Answers with the dead, the queues they held tasks of, how many workers there were, and whether
    any of them was missing.
    """
    return f"""
        WITH probed AS MATERIALIZED (
            SELECT worker_id, missing_since, pg_try_advisory_xact_lock(lock_key) AS is_free
            FROM {names.worker}
        ), noted AS (
            UPDATE {names.worker} w SET missing_since = clock_timestamp()
            FROM probed p WHERE w.worker_id = p.worker_id AND p.is_free AND w.missing_since IS NULL
        ), dead AS (
            DELETE FROM {names.worker} w USING probed p
            WHERE w.worker_id = p.worker_id AND p.is_free
                AND w.missing_since < clock_timestamp() - make_interval(secs => {GRACE_SECONDS})
                AND pg_postmaster_start_time()
                    < clock_timestamp() - make_interval(secs => {GRACE_AFTER_START_SECONDS})
            RETURNING w.worker_id
        ), ended AS (
            UPDATE {names.task} t SET due_at = least(t.due_at, clock_timestamp())
            FROM dead WHERE t.status = 'running' AND t.worker_id = dead.worker_id
            RETURNING t.queue
        )
        SELECT ARRAY(SELECT worker_id FROM dead ORDER BY 1),
            ARRAY(SELECT DISTINCT queue FROM ended),
            (SELECT count(*) FROM probed), EXISTS (SELECT FROM probed WHERE is_free)
    """  # noqa: S608
