"""The storage contract for tasks: the atomic primitives every queue backend provides.

The public methods here check their input, open the store on first use and hand over to the
underscored method of the same name, which is all a backend writes (see `omniq.storage.primitives`).
They hand over to that of `_serving`, so that an application follows when its store moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from omniq.blocking import blocking, refuse_in_loop, run_blocking
from omniq.clock import check_seconds, utcnow
from omniq.ids import check_name
from omniq.models.checks import (
    check_limit,
    check_queues,
    checked_event,
    checked_task,
    moment_or_none,
)
from omniq.models.event import TaskEvent
from omniq.models.task import Task
from omniq.storage.events import BaseEventStorage
from omniq.storage.joining import caller_of, require_transactions, unsuspended
from omniq.storage.primitives import Primitives
from omniq.storage.values import EVERY_TASK, Change, Counts, Inserted, Lease, TaskFilter


class TaskStore(Primitives):
    """The primitives as they are called. Each takes and returns many."""

    async def insert(self, tasks: Sequence[Task], *, now: datetime | None = None) -> list[Inserted]:
        """Store each task unless its id is known or a live task of its queue holds its unique key.

        A task that is final from the start (a migrated one, or one whose parent failed) needs no
        key, so it is stored in any case. The state a new task starts in is `lifecycle.admit` of
        its parents' states, read in the same atomic step; parents may come earlier in the same
        call.

        Returns:
            In order, the id that now stands for each task and whether it was stored.

        Raises:
            ValidationError: a field is bad; nothing of the call is stored.
        """
        checked = [checked_task(task) for task in tasks]
        store = await self._serving()
        return await self._inserted(store, checked, moment_or_none("now", now)) if checked else []

    async def insert_within(
        self,
        connection: object,
        tasks: Sequence[Task],
        *,
        events: BaseEventStorage | None = None,
        now: datetime | None = None,
    ) -> list[Inserted]:
        """Store tasks as `insert` does, in the transaction of a caller's connection.

        They exist if and only if that transaction commits; till then nobody else sees them. Errors
        of that connection are raised as its driver raises them. With `events`, it is logged in the
        same transaction, if that storage is part of the same store, that they were enqueued.

        Raises:
            CapabilityError: the store has no transactions to take part in.
            ValidationError: a field is bad, or the connection is none, or leads elsewhere.
            NotFoundError: a parent neither exists nor comes before its child; nothing is stored.
        """
        caller = caller_of(self, connection, is_async=True)
        checked = [checked_task(task) for task in tasks]
        store = await self._serving()
        require_transactions(store)
        moment = moment_or_none("now", now)
        return await store._insert_within(caller, checked, events, moment) if checked else []

    def insert_within_sync(
        self,
        connection: object,
        tasks: Sequence[Task],
        *,
        events: BaseEventStorage | None = None,
        now: datetime | None = None,
    ) -> list[Inserted]:
        """Do as `insert_within`, with a connection that blocks, in this very thread."""
        refuse_in_loop(f"{type(self).__name__}.insert_within")
        caller = caller_of(self, connection, is_async=False)
        checked = [checked_task(task) for task in tasks]
        store = run_blocking(self._serving, f"{type(self).__name__}.insert_within")
        require_transactions(store)
        moment = moment_or_none("now", now)
        if not checked:
            return []
        return unsuspended(store._insert_within(caller, checked, events, moment))

    def logs_with(self, events: BaseEventStorage) -> bool:
        """Whether `insert_logged` with this storage is a single round trip to the store."""
        return self._logged_insert(events) is not None

    async def insert_logged(
        self, tasks: Sequence[Task], events: Sequence[TaskEvent], storage: BaseEventStorage
    ) -> list[Inserted]:
        """Store tasks, whose ids are fresh, and the event of each; see `insert`.

        Raises:
            ValidationError: a field is bad; nothing is stored.
            StorageError: the tasks may be stored, the events not; or the answer got lost.
        """
        checked = [checked_task(task) for task in tasks]
        told = [checked_event(event) for event in events]
        store, log = await self._serving(), await storage._serving()
        if not checked:
            return []
        inserted = await store._insert_logged(checked, told, log)
        await self._confirm(store, inserted)
        return inserted

    async def claim(
        self,
        queues: Sequence[str],
        *,
        worker_id: str,
        lease_token: str,
        limit: int = 1,
        lease_seconds: float = 30.0,
        now: datetime | None = None,
    ) -> list[Task]:
        """Lease up to `limit` claimable tasks to this worker and return them as RUNNING.

        Claimable are PENDING tasks, SCHEDULED ones whose `due_at` has come, and RUNNING ones whose
        lease has ended. Taken in strict order of `queues`, then priority (high first), then
        `created_at`, then `id`; paused queues are skipped. Due SCHEDULED tasks of the claimed
        queues become PENDING even where they are not taken.
        """
        names = check_queues(queues)
        check_name("worker_id", worker_id)
        check_name("lease_token", lease_token)
        check_limit("limit", limit)
        check_seconds("lease_seconds", lease_seconds, least=0.001)
        store = await self._serving()
        return await store._claim(
            names, worker_id, lease_token, limit, lease_seconds, moment_or_none("now", now)
        )

    async def swap(self, changes: Sequence[Change], *, now: datetime | None = None) -> list[bool]:
        """Apply each change if nobody changed its task in between; False means lost.

        Over a stored RUNNING task, `lifecycle.merge_running` holds. A change to a final status
        frees the unique key and moves the task's dependants (`lifecycle.parent_finished`, through
        all generations) in the same atomic step. A change from final to live takes the unique key
        again, and is lost when another live task holds it by now. `now` is the moment the
        dependants see.
        """
        if not changes:
            return []
        store = await self._serving()
        applied = await store._swap(list(changes), moment_or_none("now", now))
        if store is self and self.watch is not None:
            await self.watch.confirm([c.after.id for c in changes if _is_revival(c)])
        return applied

    async def extend(
        self, leases: Sequence[Lease], *, lease_seconds: float = 30.0, now: datetime | None = None
    ) -> list[Task]:
        """Let each lease still held end `lease_seconds` from now; return those tasks, fresh.

        A task missing from the answer is lost. A lease that ended but was claimed by nobody is
        still held.
        """
        check_seconds("lease_seconds", lease_seconds, least=0.0)
        if not leases:
            return []
        store = await self._serving()
        return await store._extend(list(leases), lease_seconds, moment_or_none("now", now))

    async def get(self, task_ids: Sequence[str]) -> list[Task | None]:
        """Return the tasks of these ids, in order; None where there is none."""
        ids = [check_name("task_id", task_id) for task_id in task_ids]
        store = await self._serving()
        return await store._get(ids) if ids else []

    async def find(
        self, where: TaskFilter = EVERY_TASK, *, after: str | None = None, limit: int = 100
    ) -> list[Task]:
        """Return a page of the tasks that match, by id: those whose id is greater than `after`."""
        check_limit("limit", limit)
        if after is not None:
            check_name("after", after)
        store = await self._serving()
        return await store._find(where, after, limit)

    async def counts(self) -> Counts:
        """Return how many tasks there are per queue and status."""
        store = await self._serving()
        return await store._counts()

    async def purge(self, finished_before: datetime, *, limit: int = 1000) -> int:
        """Delete up to `limit` final tasks that finished before this moment; return how many.

        A full batch means there may be more: call again. Bounded, so that it never blocks a claim
        for long.
        """
        check_limit("limit", limit)
        moment = moment_or_none("finished_before", finished_before) or utcnow()
        store = await self._serving()
        return await store._purge(moment, limit)

    async def set_paused(self, queue_name: str, paused: bool) -> None:
        """Let no task of this queue be claimed (or again). Kept in the store."""
        check_name("queue_name", queue_name)
        store = await self._serving()
        await store._set_paused(queue_name, paused)

    async def paused(self) -> set[str]:
        """Return the names of the paused queues."""
        store = await self._serving()
        return await store._paused()

    async def next_due(self, queues: Sequence[str]) -> datetime | None:
        """Return the earliest `due_at` of a SCHEDULED or RUNNING task of these queues, if any.

        One in the past is a task that nobody has claimed yet, or whose lease nobody took over.
        """
        names = check_queues(queues)
        store = await self._serving()
        return await store._next_due(names)

    async def wait(self, queues: Sequence[str], timeout: float) -> None:
        """Return when work may be there, after `timeout` seconds at the latest.

        May return early for no reason. Carries no task: losing a wake-up costs latency only.
        """
        names = check_queues(queues)
        store = await self._serving()
        await store._wait(names, max(0.0, timeout))

    async def wait_final(self, task_ids: Sequence[str], timeout: float) -> None:
        """Return when one of these tasks may have become final, after `timeout` at the latest."""
        ids = [check_name("task_id", task_id) for task_id in task_ids]
        store = await self._serving()
        await store._wait_final(ids, max(0.0, timeout))

    async def announce(self, worker_id: str) -> None:
        """Say that this worker lives in this process, for backends that notice its death.

        A no-op where `capabilities.detects_death` is False.
        """
        check_name("worker_id", worker_id)
        store = await self._serving()
        await store._announce(worker_id)

    async def withdraw(self, worker_id: str) -> None:
        """Take `announce` back: the worker stopped in order."""
        check_name("worker_id", worker_id)
        store = await self._serving()
        await store._withdraw(worker_id)

    async def end_dead_leases(self) -> list[str]:
        """End the leases of announced workers whose process is gone; return those worker ids.

        Their tasks are claimable at once. A no-op where death is not detected.
        """
        store = await self._serving()
        return await store._end_dead_leases()

    insert_sync = blocking(insert)
    insert_logged_sync = blocking(insert_logged)
    claim_sync = blocking(claim)
    swap_sync = blocking(swap)
    extend_sync = blocking(extend)
    get_sync = blocking(get)
    find_sync = blocking(find)
    counts_sync = blocking(counts)
    purge_sync = blocking(purge)
    set_paused_sync = blocking(set_paused)
    paused_sync = blocking(paused)
    next_due_sync = blocking(next_due)
    wait_sync = blocking(wait)
    wait_final_sync = blocking(wait_final)
    announce_sync = blocking(announce)
    withdraw_sync = blocking(withdraw)
    end_dead_leases_sync = blocking(end_dead_leases)

    async def _inserted(
        self, store: TaskStore, tasks: list[Task], now: datetime | None
    ) -> list[Inserted]:
        """Store checked tasks in the store that serves this call."""
        inserted = await store._insert(tasks, now)
        await self._confirm(store, inserted)
        return inserted

    async def _confirm(self, store: TaskStore, inserted: Sequence[Inserted]) -> None:
        """See to tasks just stored, should this store have begun to move meanwhile."""
        if store is self and self.watch is not None and not self.watch.is_idle:
            await self.watch.confirm([item.task_id for item in inserted if item.stored])


def _is_revival(change: Change) -> bool:
    return change.before.is_final and not change.after.is_final
