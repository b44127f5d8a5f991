"""`BaseQueue`: everything a task queue offers, written once over the primitives of `TaskStore`."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Sequence
from copy import copy
from datetime import datetime, timedelta

from omniq import lifecycle
from omniq.blocking import blocking
from omniq.clock import check_seconds, utcnow
from omniq.coalesce import Coalescer
from omniq.exceptions import (
    DuplicateTaskError,
    LeaseLostError,
    NotFoundError,
    StaleTaskError,
    TaskExistsError,
)
from omniq.ids import check_name, new_id, new_token
from omniq.models.checks import check_limit, checked_result, checked_task, read_choice
from omniq.models.result import TaskResult
from omniq.models.task import STATE_FIELDS, Task, TaskStatus
from omniq.storage.parents import parents_wanted, refuse_missing
from omniq.storage.refusals import refuse_unstorable
from omniq.storage.results import BaseResultStorage
from omniq.storage.taskstore import TaskStore
from omniq.storage.values import Change, Inserted, Lease, TaskFilter

BARE_LEASE_SECONDS = 60.0
"""The lease of a task taken by `dequeue` or `lock_task`, outside of a worker."""
FINISHED_KEPT = timedelta(days=7)
PAGE = 500
PART = 1000
_CAS_ATTEMPTS = 100


class BaseQueue(TaskStore):
    """A task queue. A backend provides the underscored primitives of `TaskStore`; this is the rest.

    Every method is a coroutine with a blocking twin: `await enqueue(task)`, `enqueue_sync(task)`.
    Concurrent single calls are sent to the store as one batch.
    """

    def __init__(self) -> None:
        self._inserts: Coalescer[Task, Inserted] = Coalescer(self.insert)
        self._swaps: Coalescer[Change, bool] = Coalescer(self.swap)
        self._holder = f"client-{new_id()}"

    async def enqueue(self, task: Task) -> str:
        """Store a task; return the id that stands for it.

        That is the task's own id, or the id of the live task that holds the same `unique_key`.

        Raises:
            ValidationError: a field is bad; nothing is stored.
            TaskExistsError: the id is taken.
            NotFoundError: a parent in `depends_on` does not exist.
        """
        await self._require_parents([task])
        return standing(task, await self._inserts.submit(task))

    async def enqueue_many(self, tasks: Sequence[Task]) -> list[str]:
        """Store tasks in one batch (bounded chunks); return the id that stands for each, in order.

        Raises:
            ValidationError: as `enqueue`; found before anything is stored.
            TaskExistsError: an id is taken; the other tasks of the call are stored.
        """
        pairs = [pair async for part in self.insert_in_parts(tasks) for pair in part]
        return [standing(task, item) for task, item in pairs]

    async def insert_in_parts(
        self, tasks: Sequence[Task]
    ) -> AsyncIterator[list[tuple[Task, Inserted]]]:
        """Do what `enqueue_many` does, and yield each part of at most a thousand once it is stored.

        An id that is taken raises nothing here: `standing` does.
        """
        tasks = list(tasks)
        await self._require_parents(tasks)
        checked = [checked_task(task) for task in tasks]
        if len(tasks) > PART:
            refuse_unstorable((await self._serving())._refuse, checked)
        for start in range(0, len(tasks), PART):
            part = tasks[start : start + PART]
            store = await self._serving()
            inserted = await self._inserted(store, checked[start : start + PART], None)
            yield list(zip(part, inserted, strict=True))

    async def dequeue(
        self,
        queues: str | Sequence[str] = "default",
        timeout: float | None = None,
        *,
        lease_seconds: float = BARE_LEASE_SECONDS,
    ) -> Task | None:
        """Claim one task, leased for 60 seconds, or return None.

        Args:
            queues: one name or several, in strict order of preference.
            timeout: None or 0 looks once; more waits that many seconds; inf waits for ever.

        End it with `complete`, `fail`, `release` or `snooze`, or keep it with `heartbeat`;
        otherwise it is claimable again when the lease ends.
        """
        names = [queues] if isinstance(queues, str) else list(queues)
        ends_at = time.monotonic() + (timeout or 0.0)
        while True:
            claimed = await self.claim(
                names,
                worker_id=self._holder,
                lease_token=new_token(),
                lease_seconds=lease_seconds,
            )
            if claimed:
                return claimed[0]
            left = ends_at - time.monotonic()
            if left <= 0 or math.isnan(left):
                return None
            await self.wait(names, min(left, 60.0))

    async def complete(self, task: Task, *, now: datetime | None = None) -> Task:
        """End the run of a claimed task as COMPLETED. Raises LeaseLostError if it was lost."""
        return await self.settle(task, lifecycle.Completed(), now=now)

    async def fail(
        self, task: Task, error: BaseException | str, *, now: datetime | None = None
    ) -> Task:
        """End the run of a claimed task as failed: retried by its policy, or FAILED.

        Raises LeaseLostError if it was lost.
        """
        return await self.settle(task, lifecycle.failure(error), now=now)

    async def release(
        self, task: Task, reason: str = "released", *, now: datetime | None = None
    ) -> Task:
        """Give a claimed task back at once; the attempt is not counted."""
        return await self.settle(task, lifecycle.Released(reason), now=now)

    async def snooze(
        self, task: Task, delay: float | timedelta, *, now: datetime | None = None
    ) -> Task:
        """Give a claimed task back for `delay` seconds; the attempt is not counted."""
        seconds = check_seconds("delay", delay)
        return await self.settle(task, lifecycle.Snoozed(seconds), now=now)

    async def settle(
        self, task: Task, outcome: lifecycle.Outcome, *, now: datetime | None = None
    ) -> Task:
        """End the run of a claimed task with this outcome; return the task as it is now.

        Raises:
            LeaseLostError: another run holds the task, or it is final already.
        """
        after = lifecycle.settle(task, outcome, now or utcnow())
        if not await self._change(task, after, now):
            raise LeaseLostError(
                f"task {task.id} is no longer held by claim {task.claim_count}; nothing was changed"
            )
        return after

    async def finish(
        self,
        changes: Sequence[Change],
        results: Sequence[TaskResult],
        storage: BaseResultStorage,
        *,
        now: datetime | None = None,
    ) -> list[bool]:
        """Store results, then swap: the order of a finish. A crash in between loses neither.

        Where queue and results are of one store, it may be a single atomic step.

        Raises:
            ValidationError: a result cannot be stored; nothing is changed.
            StorageError: the results may be stored, the swaps not; or the answer got lost.
        """
        store = await self._serving()
        kept = await storage._serving() if results else storage
        return await store._finish(changes, results, kept, now)

    async def heartbeat(
        self, task: Task, *, lease_seconds: float = BARE_LEASE_SECONDS, now: datetime | None = None
    ) -> Task:
        """Let the lease of a claimed task end `lease_seconds` from now; return the task, fresh.

        Raises LeaseLostError if it was lost.
        """
        lease = Lease(task.id, task.claim_count, task.lease_token or "")
        held = await self.extend([lease], lease_seconds=lease_seconds, now=now)
        if not held:
            raise LeaseLostError(f"task {task.id} is no longer held by claim {task.claim_count}")
        return held[0]

    async def cancel(self, task_id: str, *, now: datetime | None = None) -> Task:
        """Cancel a task that has not started; ask the worker of a running one to stop it.

        Returns the task as it is now: CANCELLED, or RUNNING with `cancel_requested`, or final
        already. Raises NotFoundError.
        """
        for _ in range(_CAS_ATTEMPTS):
            task = await self._required(task_id)
            after = lifecycle.request_cancel(task, now or utcnow())
            if after == task or await self._change(task, after, now):
                return after
        raise StaleTaskError(f"task {task_id} kept changing; try again")

    async def retry_task(self, task_id: str, *, now: datetime | None = None) -> Task:
        """Make a final task PENDING again, with a fresh retry budget. Returns it.

        Raises:
            NotFoundError: there is no such task.
            StaleTaskError: it is not final.
            DuplicateTaskError: a live task holds its unique key.
        """
        for _ in range(_CAS_ATTEMPTS):
            task = await self._required(task_id)
            if not task.is_final:
                raise StaleTaskError(f"task {task_id} is {task.status}, not finished")
            after = lifecycle.requeue(task, now or utcnow())
            if await self._swaps.submit(Change(task, after)):
                return after
            if await self._required(task_id) == task:
                raise DuplicateTaskError(
                    f"a live task holds the unique key {task.unique_key!r} of task {task_id}"
                )
        raise StaleTaskError(f"task {task_id} kept changing; try again")

    async def lock_task(
        self,
        task_id: str,
        *,
        worker_id: str | None = None,
        lease_seconds: float = BARE_LEASE_SECONDS,
        now: datetime | None = None,
    ) -> Task | None:
        """Claim exactly this PENDING task; None when it is not there to be had."""
        seconds = check_seconds("lease_seconds", lease_seconds, least=0.001)
        task = await self.get_task(task_id)
        if task is None or task.status is not TaskStatus.PENDING:
            return None
        moment = now or utcnow()
        after = lifecycle.claim(
            task,
            worker_id=check_name("worker_id", worker_id or self._holder),
            lease_token=new_token(),
            lease_ends_at=moment + timedelta(seconds=seconds),
            now=moment,
        )
        return after if await self._swaps.submit(Change(task, after)) else None

    async def get_task(self, task_id: str) -> Task | None:
        """Return the task of this id, or None."""
        return (await self.get([task_id]))[0]

    async def list_tasks(
        self,
        queue_name: str | None = None,
        status: TaskStatus | str | None = None,
        *,
        func: str | None = None,
        limit: int | None = None,
    ) -> list[Task]:
        """Return all tasks that match, by id; at most `limit` if given. See `iter_tasks`."""
        if queue_name is not None:
            check_name("queue_name", queue_name)
        if limit is not None:
            check_limit("limit", limit, 10**9)
        where = TaskFilter(
            queues=frozenset({queue_name} if queue_name else ()),
            statuses=frozenset({read_choice("status", TaskStatus, status)} if status else ()),
            funcs=frozenset({func} if func else ()),
        )
        found: list[Task] = []
        async for task in self.iter_tasks(where):
            if limit is not None and len(found) >= limit:
                break
            found.append(task)
        return found

    async def iter_tasks(self, where: TaskFilter) -> AsyncIterator[Task]:
        """Yield all tasks that match, by id, a page at a time."""
        after: str | None = None
        while True:
            page = await self.find(where, after=after, limit=PAGE)
            for task in page:
                yield task
            if len(page) < PAGE:
                return
            after = page[-1].id

    async def update_task(self, task: Task, *, now: datetime | None = None) -> Task:
        """Write the mutable state of a task that was read and then changed by hand.

        Returns the task as stored. The request (function, arguments, options) never changes.

        Raises:
            ValidationError: the state is none, such as an unknown status.
            NotFoundError: there is no such task.
            StaleTaskError: it was claimed or finished by somebody else since it was read.
        """
        stored = await self._required(task.id)
        same_run = (stored.claim_count, stored.lease_token) == (task.claim_count, task.lease_token)
        wanted = copy(stored)
        for name in STATE_FIELDS:
            setattr(wanted, name, getattr(task, name))
        after = lifecycle.edited(stored, checked_task(wanted), now or utcnow())
        if not same_run or not await self._change(stored, after, now):
            raise StaleTaskError(f"task {task.id} was changed by somebody else; read it again")
        return after

    async def get_queue_size(self, queue_name: str = "default") -> int:
        """Return how many tasks of this queue are PENDING."""
        check_name("queue_name", queue_name)
        return (await self.counts()).get(queue_name, {}).get(TaskStatus.PENDING, 0)

    async def cleanup_expired_tasks(
        self, finished_before: datetime | None = None, *, now: datetime | None = None
    ) -> int:
        """Delete final tasks finished before this moment (default: 7 days ago); return how many."""
        moment = finished_before or (now or utcnow()) - FINISHED_KEPT
        deleted = 0
        while True:
            count = await self.purge(moment, limit=1000)
            deleted += count
            if count < 1000:
                return deleted

    enqueue_sync = blocking(enqueue)
    enqueue_many_sync = blocking(enqueue_many)
    dequeue_sync = blocking(dequeue)
    complete_sync = blocking(complete)
    fail_sync = blocking(fail)
    release_sync = blocking(release)
    snooze_sync = blocking(snooze)
    settle_sync = blocking(settle)
    finish_sync = blocking(finish)
    heartbeat_sync = blocking(heartbeat)
    cancel_sync = blocking(cancel)
    retry_task_sync = blocking(retry_task)
    lock_task_sync = blocking(lock_task)
    get_task_sync = blocking(get_task)
    list_tasks_sync = blocking(list_tasks)
    update_task_sync = blocking(update_task)
    get_queue_size_sync = blocking(get_queue_size)
    cleanup_expired_tasks_sync = blocking(cleanup_expired_tasks)

    async def _finish(
        self,
        changes: Sequence[Change],
        results: Sequence[TaskResult],
        storage: BaseResultStorage,
        now: datetime | None,
    ) -> list[bool]:
        """Do what `finish` says, in one step where the store can."""
        both = self._joint_finish(storage) if results else None
        if both is not None:
            applied = await both(changes, [checked_result(result) for result in results], now)
            if applied is not None:
                return applied
        if results:
            await storage.set_many(results)
        return await self.swap(changes, now=now)

    async def _change(self, before: Task, after: Task, now: datetime | None) -> bool:
        """Swap one task: coalesced, unless the caller says which moment its dependants see."""
        if now is None:
            return await self._swaps.submit(Change(before, after))
        return (await self.swap([Change(before, after)], now=now))[0]

    async def _require_parents(self, tasks: Sequence[Task]) -> None:
        """Refuse tasks whose parents neither exist nor come before them in the same call."""
        ids = parents_wanted(tasks)
        if not ids:
            return
        refuse_missing(ids, {task.id for task in await self.get(ids) if task is not None})

    async def _required(self, task_id: str) -> Task:
        task = await self.get_task(task_id)
        if task is None:
            raise NotFoundError(
                f"there is no task {task_id}; finished tasks are deleted "
                f"{FINISHED_KEPT.days} days after their end by default"
            )
        return task


def standing(task: Task, inserted: Inserted) -> str:
    """Return the id that stands for a task after an insert.

    Raises:
        TaskExistsError: its own id was taken.
    """
    if not inserted.stored and inserted.task_id == task.id:
        raise TaskExistsError(f"a task with id {task.id} exists already")
    return inserted.task_id
