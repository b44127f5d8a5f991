"""`ObjectQueue`: tasks in the objects of a store, and in the memory of all who use them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from threading import Lock

from omniq import lifecycle
from omniq.exceptions import PayloadTooLargeError
from omniq.models.task import Task
from omniq.serialization import SerializationFormat
from omniq.storage.file.codec import Compression
from omniq.storage.file.location import check_folder_name
from omniq.storage.memory.table import encoded
from omniq.storage.memory.waiters import Waiters
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.leaves import TaskLeaves, readable
from omniq.storage.objectstore.logged import LoggedComponent, codec_of, frugal
from omniq.storage.objectstore.service import LogService
from omniq.storage.objectstore.taskstate import Row, TaskLogState, row
from omniq.storage.queue import BaseQueue
from omniq.storage.values import Change, Counts, Inserted, Lease, TaskFilter

MOST_BYTES = 32 << 20
"""The arguments of all tasks of one call: they are one object."""


class ObjectQueue(LoggedComponent, BaseQueue):
    """Tasks in an object store, shared by any number of processes of any number of machines.

    The truth is a log of objects, ``<base_dir>/tasks/.log/``. Every process keeps all tasks in
    memory and learns from the log what others changed.

    Args:
        driver: of the store.
        tasks_dir: name of the folder inside the location of the driver.
        serialization_format: how arguments are encoded; ``pickle`` takes any picklable value.
        compression: ``zlib`` compresses the arguments of large tasks.
        tree: publish a copy of the tasks, a readable object each, in folders by queue and status.
    """

    _two_at_once = "two workers would run the same task"

    def __init__(
        self,
        driver: ObjectDriver,
        *,
        tasks_dir: str = "tasks",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
        tree: bool = True,
    ) -> None:
        super().__init__()
        self.capabilities = frugal(driver)
        self._codec = codec_of(Task, serialization_format, compression)
        folder = check_folder_name("tasks_dir", tasks_dir)
        leaves = TaskLeaves(self._codec) if tree else None
        self._log = LogService(driver, folder, self._new_state, keeps_time=True, leaves=leaves)

    def _new_state(self) -> TaskLogState:
        """Return an empty state, and wake from now on who waits for that one."""
        lock = Lock()
        self._arrivals, self._ends = Waiters(lock), Waiters(lock)
        return TaskLogState(self._arrivals.announce, self._ends.announce)

    def _refuse(self, task: Task) -> None:
        encoded(task, self._codec)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        datas = [encoded(task, self._codec) for task in tasks]
        size = sum(len(data) for data in datas if data)
        if size > MOST_BYTES:
            raise PayloadTooLargeError(
                "tasks",
                f"{size:,} bytes in one call, the limit is {MOST_BYTES:,}; enqueue fewer at once",
            )

        def job(state: TaskLogState) -> list[Inserted]:
            moment = now or self._log.now()
            return [
                state.insert(task, data, moment) for task, data in zip(tasks, datas, strict=True)
            ]

        return await self._log.run(job)

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        def job(state: TaskLogState) -> list[Row]:
            moment = now or self._log.now()
            run = partial(
                lifecycle.claim,
                worker_id=worker_id,
                lease_token=lease_token,
                lease_ends_at=moment + timedelta(seconds=lease_seconds),
                now=moment,
            )
            return list(map(row, state.claim(queues, limit, run, moment)))

        return [self._whole(one) for one in await self._log.run(job)]

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        def job(state: TaskLogState) -> list[bool]:
            moment = now or self._log.now()
            return [state.swap(change, moment) for change in changes]

        return await self._log.run(job)

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        def job(state: TaskLogState) -> list[Row]:
            ends_at = (now or self._log.now()) + timedelta(seconds=lease_seconds)
            held = [state.extend(lease, ends_at) for lease in leases]
            return [row(record) for record in held if record is not None]

        return [self._whole(one) for one in await self._log.run(job)]

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        def job(state: TaskLogState) -> list[Row | None]:
            records = map(state.get, task_ids)
            return [None if record is None else row(record) for record in records]

        found = await self._log.run(job)
        return [None if one is None else self._whole(one) for one in found]

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        def job(state: TaskLogState) -> list[Row]:
            ids = state.sorted_ids()
            start = 0 if after is None else bisect_right(ids, after)
            return list(map(row, state.find(where, islice(ids, start, None), limit)))

        return [self._whole(one) for one in await self._log.run(job)]

    async def _counts(self) -> Counts:
        return await self._log.run(TaskLogState.counts)

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        return await self._log.run(lambda state: state.purge(finished_before, limit))

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        await self._log.run(lambda state: state.set_paused(queue_name, paused=paused))

    async def _paused(self) -> set[str]:
        return await self._log.run(TaskLogState.paused)

    async def _next_due(self, queues: list[str]) -> datetime | None:
        return await self._log.run(lambda state: state.next_due(queues))

    async def _wait(self, queues: list[str], timeout: float) -> None:
        def due(state: TaskLogState, now: datetime) -> datetime | None:
            return state.claimable_at(queues, now)

        await self._wait_for(lambda: self._arrivals, queues, timeout, due)

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        def due(state: TaskLogState, now: datetime) -> datetime | None:
            records = map(state.get, task_ids)
            return now if any(one is None or one.task.is_final for one in records) else None

        await self._wait_for(lambda: self._ends, task_ids, timeout, due)

    async def _wait_for(
        self,
        waiters: Callable[[], Waiters],
        names: list[str],
        timeout: float,
        due: Callable[[TaskLogState, datetime], datetime | None],
    ) -> None:
        """Wait for one of these names, or for the moment that is due by the clock of the store."""

        async def wait(state: TaskLogState) -> None:
            offset = self._log.offset

            def due_here(now: datetime) -> datetime | None:
                moment = due(state, now + offset)
                return None if moment is None else moment - offset

            await waiters().wait(names, timeout, due_here)

        await self._log.wait(wait)

    def _whole(self, one: Row) -> Task:
        return readable(*one, self._codec)

    async def _store_time(self) -> datetime | None:
        return self._log.now() if self._log.driver.is_conditional else None
