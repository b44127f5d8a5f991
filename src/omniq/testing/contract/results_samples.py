"""Results the contract is tested with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from omniq.models.result import ErrorInfo, TaskResult
from omniq.storage.base import BaseResultStorage
from omniq.testing.contract.samples import NOW, at

FAILURE = ErrorInfo("builtins.ValueError", "no 'é'", "Traceback …\n  line")


def make_result(task_id: str, value: Any = None, **fields: Any) -> TaskResult:
    """Return a result stored at `NOW` unless `fields` say otherwise."""
    known: dict[str, Any] = {"stored_at": NOW}
    return TaskResult(task_id=task_id, result=value, **(known | fields))


def hence(seconds: float) -> datetime:
    """Return the moment an hour and so many seconds after `NOW`: not yet, by any clock."""
    return at(3600 + seconds)


async def names(results: BaseResultStorage) -> list[str]:
    """Return the task ids of all results."""
    return [result.task_id for result in await results.list_results()]
