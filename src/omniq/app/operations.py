"""What can be done with stored tasks and queues, whatever functions there are."""

from __future__ import annotations

from datetime import datetime

from omniq.app.enqueuing import Enqueuing
from omniq.app.lookups import Lookups
from omniq.app.queues import QueueStatus, cancel_unstarted, statuses
from omniq.app.stores import Sources, Stores
from omniq.blocking import blocking
from omniq.clock import utcnow
from omniq.hooks import Hooks
from omniq.ids import check_name
from omniq.models.event import EventType, TaskEvent
from omniq.models.finding import Finding
from omniq.models.task import Task, TaskStatus
from omniq.moving.watch import Follower
from omniq.storage.base import Component, Counts


class Operations(Component):
    """Looks after the tasks and queues of the four stores of an application.

    Attributes:
        task_queue, result_storage, event_storage, schedule_storage: the four components.
        log_events: whether the history of tasks is kept.
        hooks: what the application hooks in.
        lookups, enqueuing: batched reads and writes, shared with handles and task functions.
    """

    def __init__(self, sources: Sources, *, log_events: bool) -> None:
        self._stores = Stores(sources)
        Follower.attach(self._stores)
        self.task_queue = self._stores.tasks
        self.result_storage = self._stores.results
        self.event_storage = self._stores.events
        self.schedule_storage = self._stores.schedules
        self.log_events = log_events
        self.lookups = Lookups(self.task_queue, self.result_storage)
        self.hooks = Hooks()
        self.enqueuing = Enqueuing(
            self.task_queue, self.event_storage, self.hooks, log_events=log_events
        )

    async def get_task(self, task_id: str) -> Task | None:
        """Return the task of this id, or None."""
        return await self.lookups.task(check_name("task_id", task_id))

    async def list_tasks(
        self,
        queue: str | None = None,
        status: TaskStatus | str | None = None,
        *,
        func: str | None = None,
        limit: int | None = None,
    ) -> list[Task]:
        """Return all tasks that match, by id (oldest first, as ids are made); `limit` at most."""
        return await self.task_queue.list_tasks(queue, status, func=func, limit=limit)

    async def get_events(self, task_id: str | None = None, *, limit: int = 1000) -> list[TaskEvent]:
        """Return the first `limit` events of a task (or of all), oldest first."""
        return await self.event_storage.get_events(task_id, limit=limit)

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task that has not started; ask the worker of a running one to stop it.

        Returns the task as it is now: CANCELLED, or RUNNING with `cancel_requested`, or final
        already. Raises NotFoundError.
        """
        now = utcnow()
        task = await self.task_queue.cancel(task_id, now=now)
        if not task.is_final:
            await self.enqueuing.log(EventType.CANCEL_REQUESTED, [task_id], now)
        elif task.status is TaskStatus.CANCELLED and task.finished_at == now:
            await self.enqueuing.log(EventType.CANCELLED, [task_id], now, task.error)
        return task

    async def retry(self, task_id: str) -> Task:
        """Run a finished task once more, with a fresh retry budget; return it as PENDING.

        Raises:
            NotFoundError: there is no such task.
            StaleTaskError: it is not finished.
            DuplicateTaskError: a live task holds its unique key.
        """
        now = utcnow()
        task = await self.task_queue.retry_task(task_id, now=now)
        await self.enqueuing.log(EventType.REQUEUED, [task_id], now)
        return task

    async def counts(self) -> Counts:
        """Return how many tasks there are per queue and status."""
        return await self.task_queue.counts()

    async def status(self) -> dict[str, QueueStatus]:
        """Return how each queue stands that has tasks or is paused, by name."""
        return await statuses(self.task_queue)

    async def queue_size(self, queue: str = "default") -> int:
        """Return how many tasks of a queue are PENDING: ready for a worker."""
        return await self.task_queue.get_queue_size(queue)

    async def pause_queue(self, queue: str) -> None:
        """Let workers start no task of this queue until `resume_queue`; running ones go on."""
        await self.task_queue.set_paused(queue, paused=True)

    async def resume_queue(self, queue: str) -> None:
        """Let workers start tasks of this queue again."""
        await self.task_queue.set_paused(queue, paused=False)

    async def paused_queues(self) -> set[str]:
        """Return the names of the paused queues."""
        return await self.task_queue.paused()

    async def purge_queue(self, queue: str) -> int:
        """Cancel all tasks of a queue that have not started; return how many.

        They stay visible as CANCELLED until `cleanup`. Running tasks are left alone.
        """
        now = utcnow()
        cancelled = await cancel_unstarted(self.task_queue, queue)
        await self.enqueuing.log(EventType.CANCELLED, cancelled, now, "its queue was purged")
        return len(cancelled)

    async def cleanup(self) -> dict[str, int]:
        """Delete what is due for deletion; return the numbers deleted.

        That is: final tasks after 7 days, expired results, events after 30 days, schedules that
        will never fire again. The keys are always expired_tasks, expired_results, expired_events,
        expired_schedules.
        """
        return await self._stores.cleanup()

    async def findings(self) -> list[Finding]:
        """Return what is fine, risky or broken about all four components and what is in them.

        A store that cannot be opened or asked is a finding, not an error.
        """
        from omniq.doctor import Patient, examine

        stores = self._stores
        return await examine(Patient(stores.tasks, stores.results, stores.events, stores.schedules))

    async def disconnect(self) -> None:
        """Finish pending writes and close all four components. Idempotent; use opens them again."""
        await super().disconnect()
        if self.task_queue.watch is not None:
            await self.task_queue.watch.close()
        await self._stores.disconnect()

    async def _open(self) -> None:
        await self._stores.connect()

    async def _is_missing(self) -> bool:
        return all([await component.is_missing() for component in self._stores])

    async def _store_time(self) -> datetime | None:
        return await self.task_queue.store_time()

    get_task_sync = blocking(get_task)
    list_tasks_sync = blocking(list_tasks)
    get_events_sync = blocking(get_events)
    cancel_sync = blocking(cancel)
    retry_sync = blocking(retry)
    counts_sync = blocking(counts)
    status_sync = blocking(status)
    queue_size_sync = blocking(queue_size)
    pause_queue_sync = blocking(pause_queue)
    resume_queue_sync = blocking(resume_queue)
    paused_queues_sync = blocking(paused_queues)
    purge_queue_sync = blocking(purge_queue)
    cleanup_sync = blocking(cleanup)
