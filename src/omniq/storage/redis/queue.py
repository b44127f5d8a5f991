"""The task queue in Redis or Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Unpack

from omniq.clock import from_micros, to_micros
from omniq.loops import PerLoop
from omniq.models.event import TaskEvent
from omniq.models.result import TaskResult
from omniq.models.task import Task, TaskStatus
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.events import BaseEventStorage
from omniq.storage.parts import cut
from omniq.storage.queue import BaseQueue
from omniq.storage.redis import records
from omniq.storage.redis.address import RedisOptions
from omniq.storage.redis.component import (
    RedisComponent,
    joined,
    micros_or_empty,
    packed,
    server_of,
)
from omniq.storage.redis.events import RedisEventStorage
from omniq.storage.redis.inbox import Inbox
from omniq.storage.redis.results import RedisResultStorage
from omniq.storage.redis.scripts import script
from omniq.storage.redis.server import LONGEST_BLOCK_SECONDS, RedisServer
from omniq.storage.redis.wakes import Wakes
from omniq.storage.results import BaseResultStorage
from omniq.storage.values import (
    Change,
    Counts,
    Inserted,
    JointFinish,
    Lease,
    LoggedInsert,
    TaskFilter,
)

TASKS_PER_READ = 500
LOOKS_PER_CALL = 5_000


class RedisQueue(RedisComponent, BaseQueue):
    """Tasks on a Redis or Valkey server, shared by any number of processes and machines.

    Args:
        url: where; without one, `host`, `port` and `db` are used.
        serialization_format: of new payloads; each says its own format when read.
        server: share this handle instead of making one.
        options: see `RedisOptions`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        server: RedisServer | None = None,
        **options: Unpack[RedisOptions],
    ) -> None:
        super().__init__()
        self._server = server_of(url, server, options)
        self._codec = RecordCodec(Task, ("args", "kwargs", "metadata"), format=serialization_format)
        self._inboxes: PerLoop[Inbox] = PerLoop(lambda: Inbox(self._server))
        self._wakes: PerLoop[Wakes] = PerLoop(lambda: Wakes(self._server))

    async def _close(self) -> None:
        for waiting in (self._inboxes.pop(), self._wakes.pop()):
            if waiting is not None:
                await waiting.close()
        await super()._close()

    def _logged_insert(self, events: BaseEventStorage) -> LoggedInsert | None:
        if isinstance(events, RedisEventStorage) and events.is_kept_on(self._server):
            return partial(self._insert_telling, events)
        return None

    async def _insert_telling(
        self, storage: RedisEventStorage, tasks: list[Task], events: list[TaskEvent]
    ) -> list[Inserted]:
        """Store tasks and their events by one script."""
        payloads = [self._codec.encode(task) for task in tasks]
        calls = [
            (tasks[start:end], payloads[start:end], storage.appending(events[start:end]))
            for start, end in cut(payloads)
        ]
        return [item for call in calls for item in await self._run_insert(None, *call)]

    def _refuse(self, task: Task) -> None:
        self._codec.encode(task)

    async def _insert(self, tasks: list[Task], now: datetime | None) -> list[Inserted]:
        payloads = [self._codec.encode(task) for task in tasks]
        calls = [(tasks[start:end], payloads[start:end]) for start, end in cut(payloads)]
        return [item for call in calls for item in await self._run_insert(now, *call)]

    async def _run_insert(
        self,
        now: datetime | None,
        tasks: list[Task],
        payloads: list[bytes],
        events: tuple[Any, ...] = (),
    ) -> list[Inserted]:
        """Store tasks, and perhaps their events, by a write with a name of its own."""
        batch = packed([records.item_of(task) for task in tasks])
        insert = (micros_or_empty(now), self._server.nonce(), batch, *joined(payloads), *events)
        doubts: list[Exception] = []
        answer = await self._server.run(_INSERT, *insert, again=True, lasting=True, doubts=doubts)
        inserted = _inserted(answer)
        return await self._recognised(tasks, payloads, inserted) if doubts else inserted

    async def _recognised(
        self, tasks: list[Task], payloads: list[bytes], inserted: list[Inserted]
    ) -> list[Inserted]:
        """Return what an insert did whose first answer got lost.

        A task that was changed since bears the name of that write, not of ours. Its payload never
        changes: a task found stored with the very same one is ours.
        """
        known = {item.task_id for item in inserted if item.stored}
        places = {
            task.id: place
            for place, task in reversed(list(enumerate(tasks)))
            if inserted[place].task_id == task.id and task.id not in known
        }
        _, stored = await self._server.run(_GET, *places, again=True)
        for (task_id, place), payload in zip(places.items(), stored, strict=True):
            inserted[place] = Inserted(task_id, payload == payloads[place])
        return inserted

    async def _claim(
        self,
        queues: list[str],
        worker_id: str,
        lease_token: str,
        limit: int,
        lease_seconds: float,
        now: datetime | None,
    ) -> list[Task]:
        at, lease = micros_or_empty(now), round(lease_seconds * 1e6)
        answer = await self._server.run(_CLAIM, at, lease, worker_id, lease_token, limit, *queues)
        return records.read_tasks(self._codec, answer[1:])

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        swap = self._swapping(changes, now)
        return _applied(await self._server.run(_SWAP, *swap, again=True, lasting=True))

    def _swapping(self, changes: Sequence[Change], now: datetime | None) -> tuple[Any, ...]:
        """Return the arguments of a swap, with a name of its own."""
        batch = packed([field for change in changes for field in _item(change)])
        return micros_or_empty(now), self._server.nonce(), batch

    def _joint_finish(self, results: BaseResultStorage) -> JointFinish | None:
        if isinstance(results, RedisResultStorage) and results.is_kept_on(self._server):
            return partial(self._set_and_swap, results)
        return None

    async def _set_and_swap(
        self,
        storage: RedisResultStorage,
        changes: Sequence[Change],
        results: list[TaskResult],
        now: datetime | None,
    ) -> list[bool] | None:
        """Store results, then swap, by one script."""
        parts = storage.setting(results)
        if len(parts) != 1:
            return None
        arguments = (*self._swapping(changes, now), *parts[0])
        return _applied(await self._server.run(_SWAP, *arguments, again=True, lasting=True))

    async def _extend(
        self, leases: list[Lease], lease_seconds: float, now: datetime | None
    ) -> list[Task]:
        batch = packed(leases)
        arguments = (micros_or_empty(now), round(lease_seconds * 1e6), batch)
        return records.read_tasks(
            self._codec, await self._server.run(_EXTEND, *arguments, again=True)
        )

    async def _get(self, task_ids: list[str]) -> list[Task | None]:
        found: list[Task | None] = []
        for start in range(0, len(task_ids), TASKS_PER_READ):
            ids = task_ids[start : start + TASKS_PER_READ]
            stored, payloads = await self._server.run(_GET, *ids, again=True)
            found += [
                record and records.read_task(self._codec, name.encode(), record, payload)
                for name, record, payload in zip(ids, stored, payloads, strict=True)
            ]
        return found

    async def _find(self, where: TaskFilter, after: str | None, limit: int) -> list[Task]:
        wanted = packed(_filter(where))
        found: list[Task] = []
        cursor = after or ""
        while True:
            rest = min(limit - len(found), TASKS_PER_READ)
            answer = await self._server.run(_FIND, cursor, rest, LOOKS_PER_CALL, wanted, again=True)
            found += records.read_tasks(self._codec, answer[1:])
            cursor = answer[0].decode()
            if not cursor or len(found) >= limit:
                return found

    async def _counts(self) -> Counts:
        fields = await self._server.call("HGETALL", self._server.key("counts"), again=True)
        counts: Counts = {}
        for field, number in fields.items():
            queue, _, status = field.decode().partition(":")
            counts.setdefault(queue, {})[TaskStatus(status)] = int(number)
        return counts

    async def _purge(self, finished_before: datetime, limit: int) -> int:
        return int(await self._server.run(_PURGE, to_micros(finished_before), limit))

    async def _set_paused(self, queue_name: str, paused: bool) -> None:
        await self._server.run(_PAUSE, queue_name, "1" if paused else "", again=True, lasting=True)

    async def _paused(self) -> set[str]:
        names = await self._server.call("SMEMBERS", self._server.key("paused"), again=True)
        return {name.decode() for name in names}

    async def _next_due(self, queues: list[str]) -> datetime | None:
        _, _, first = await self._server.run(_PEEK, "", *queues, again=True)
        return from_micros(int(first)) if first else None

    async def _wait(self, queues: list[str], timeout: float) -> None:
        now, ready, first = await self._server.run(_PEEK, "1", *queues, again=True)
        pause = min(timeout, LONGEST_BLOCK_SECONDS)
        if first:
            pause = min(pause, max(0, int(first) - int(now)) / 1e6)
        if not ready and pause > 0:
            await self._wakes.get().wait(queues, pause)

    async def _wait_final(self, task_ids: list[str], timeout: float) -> None:
        if task_ids and timeout > 0:
            await self._inboxes.get().wait(task_ids, timeout)


def _applied(answer: bytes) -> list[bool]:
    return [mark == _APPLIED for mark in answer]


def _inserted(answer: list[bytes]) -> list[Inserted]:
    pairs = zip(answer[::2], answer[1::2], strict=True)
    return [Inserted(holder.decode(), stored == b"1") for holder, stored in pairs]


def _item(change: Change) -> tuple[Any, ...]:
    before, after = change
    fence = (before.id, before.claim_count, before.lease_token or "", before.status.value)
    return fence + records.state_of(after)


def _filter(where: TaskFilter) -> tuple[Any, ...]:
    sets: list[Any] = [
        dict.fromkeys(map(str, wanted), True) or False
        for wanted in (where.statuses, where.queues, where.funcs)
    ]
    return (*sets, where.schedule_id or "", where.worker_id or "")


_APPLIED = ord("1")
_GET = script("task_get")
_INSERT = script("task_insert", "tasks", "events", "event_put")
_SWAP = script("task_swap", "tasks", "results", "result_put")
_CLAIM, _EXTEND, _FIND, _PURGE, _PAUSE, _PEEK = (
    script(f"task_{name}", "tasks")
    for name in ("claim", "extend", "find", "purge", "pause", "peek")
)
AsyncRedisQueue = RedisQueue
