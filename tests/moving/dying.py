"""Processes that die at one of their writes, acted out within one process; and what is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from omniq.models import TaskStatus
from omniq.storage.base import BaseQueue


async def status_of(queue: BaseQueue, task_id: str) -> TaskStatus | None:
    """Return where a task stands in a store."""
    task = await queue.get_task(task_id)
    return None if task is None else task.status


class DiedError(BaseException):
    """The process is gone."""


def die_at(step: int, writes: Sequence[str], *stores: object, after: bool) -> Callable[[], bool]:
    """Let the process die before or after the n-th write; return what tells whether it did."""
    left = [step]

    def dying(write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def last(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0 or (left[0] == 0 and not after):
                raise DiedError
            done = await write(*arguments)
            if left[0] == 0:
                raise DiedError
            return done

        return last

    for store in stores:
        for name in writes:
            setattr(store, name, dying(getattr(store, name)))
    return lambda: left[0] <= 0


def live_again(writes: Sequence[str], *stores: object) -> None:
    """Let the stores be as before, for whoever comes next."""
    for store in stores:
        for name in writes:
            delattr(store, name)
