"""`BaseResultStorage`: what finished tasks left behind."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from omniq.blocking import blocking
from omniq.clock import check_seconds, utcnow
from omniq.coalesce import Coalescer
from omniq.exceptions import TaskFailedError
from omniq.ids import check_name
from omniq.models.checks import check_limit, checked_result, moment_or_none, read_choice
from omniq.models.result import ResultStatus, TaskResult
from omniq.storage.component import Component

PAGE = 500
_POLL_SECONDS = (0.005, 0.25)


class BaseResultStorage(Component, ABC):
    """Results by task id. A backend provides the underscored primitives.

    An expired result is absent at once, whether or not it was deleted yet. A result of a lower
    `claim_count` never overwrites one of a higher.
    """

    def __init__(self) -> None:
        self._writes: Coalescer[TaskResult, bool] = Coalescer(self.set_many)

    async def set(self, result: TaskResult) -> bool:
        """Store a result; False when one of a later claim stands already. Coalesced."""
        return await self._writes.submit(result)

    async def set_many(self, results: Sequence[TaskResult]) -> list[bool]:
        """Store results in one batch; for each, whether it now stands.

        Raises:
            ValidationError: a field is bad; nothing of the call is stored.
            PayloadTooLargeError: a value is over the limit; nothing of the call is stored.
        """
        checked = [checked_result(result) for result in results]
        store = await self._serving()
        return await store._set(checked) if checked else []

    async def get(self, task_id: str, *, now: datetime | None = None) -> TaskResult | None:
        """Return the result of a task, or None if absent or expired."""
        return (await self.get_many([task_id], now=now))[0]

    async def get_many(
        self, task_ids: Sequence[str], *, now: datetime | None = None
    ) -> list[TaskResult | None]:
        """Return the results of these tasks, in order; None where absent or expired."""
        ids = [check_name("task_id", task_id) for task_id in task_ids]
        store = await self._serving()
        return await store._get(ids, moment_or_none("now", now)) if ids else []

    async def delete(self, task_id: str) -> bool:
        """Delete a result; return whether there was one."""
        return await self.delete_many([task_id]) == 1

    async def delete_many(self, task_ids: Sequence[str]) -> int:
        """Delete these results; return how many there were."""
        ids = [check_name("task_id", task_id) for task_id in task_ids]
        store = await self._serving()
        return await store._delete(ids) if ids else 0

    async def find(
        self, *, after: str | None = None, limit: int = 100, now: datetime | None = None
    ) -> list[TaskResult]:
        """Return a page of the results by task id: those whose id is greater than `after`."""
        check_limit("limit", limit)
        if after is not None:
            check_name("after", after)
        store = await self._serving()
        return await store._find(after, limit, moment_or_none("now", now))

    async def list_results(
        self,
        *,
        status: ResultStatus | str | None = None,
        limit: int | None = None,
        now: datetime | None = None,
    ) -> list[TaskResult]:
        """Return all results that are not expired, by task id; at most `limit` if given."""
        wanted = read_choice("status", ResultStatus, status) if status else None
        found: list[TaskResult] = []
        after: str | None = None
        while True:
            page = await self.find(after=after, limit=PAGE, now=now)
            found += [item for item in page if wanted is None or item.status is wanted]
            if len(page) < PAGE or (limit is not None and len(found) >= limit):
                return found[:limit]
            after = page[-1].task_id

    async def purge(self, *, now: datetime | None = None, limit: int = 1000) -> int:
        """Delete up to `limit` expired results; return how many."""
        check_limit("limit", limit)
        store = await self._serving()
        return await store._purge(moment_or_none("now", now), limit)

    async def cleanup_expired_results(self, *, now: datetime | None = None) -> int:
        """Delete all expired results in bounded batches; return how many."""
        deleted = 0
        while True:
            count = await self.purge(now=now, limit=1000)
            deleted += count
            if count < 1000:
                return deleted

    async def store_result(
        self, task_id: str, result: Any, ttl: float | timedelta | None = None
    ) -> None:
        """Store a value as the successful result of a task, for `ttl` seconds (None: for ever)."""
        expires_at = None
        if ttl is not None:
            expires_at = utcnow() + timedelta(seconds=check_seconds("ttl", ttl))
        await self.set(TaskResult(task_id=task_id, result=result, expires_at=expires_at))

    async def get_result(self, task_id: str) -> Any:
        """Return the bare value of a task's result; None if absent or expired.

        Raises:
            TaskFailedError: the result is a failure.
        """
        stored = await self.get(task_id)
        if stored is None:
            return None
        if stored.status is ResultStatus.FAILED:
            raise TaskFailedError(task_id, f"task {task_id} failed: {stored.error}", stored.error)
        return stored.result

    async def delete_result(self, task_id: str) -> None:
        """Delete the result of a task, if there is one."""
        await self.delete(task_id)

    async def wait(self, task_id: str, timeout: float | None = None) -> TaskResult | None:
        """Return the result as soon as there is one; None after `timeout` seconds (None: never)."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        pause, longest = _POLL_SECONDS
        while True:
            found = await self.get(task_id)
            left = longest if ends_at is None else ends_at - time.monotonic()
            if found is not None or left <= 0:
                return found
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    set_sync = blocking(set)  # noqa: A003 - the specified name
    set_many_sync = blocking(set_many)
    get_sync = blocking(get)
    get_many_sync = blocking(get_many)
    delete_sync = blocking(delete)
    delete_many_sync = blocking(delete_many)
    find_sync = blocking(find)
    list_results_sync = blocking(list_results)
    purge_sync = blocking(purge)
    cleanup_expired_results_sync = blocking(cleanup_expired_results)
    store_result_sync = blocking(store_result)
    get_result_sync = blocking(get_result)
    delete_result_sync = blocking(delete_result)
    wait_sync = blocking(wait)

    @abstractmethod
    async def _set(self, results: list[TaskResult]) -> list[bool]: ...

    @abstractmethod
    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]: ...

    @abstractmethod
    async def _delete(self, task_ids: list[str]) -> int: ...

    @abstractmethod
    async def _find(
        self, after: str | None, limit: int, now: datetime | None
    ) -> list[TaskResult]: ...

    @abstractmethod
    async def _purge(self, now: datetime | None, limit: int) -> int: ...
