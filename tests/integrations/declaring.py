"""Tasks of either kind, made of one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omniq import OmniQ


def declare(q: OmniQ, work: Callable[[], Any], *, is_async: bool = True, **options: Any) -> Any:
    """Make a task called `work` of a plain function, or of a coroutine function that calls it."""

    async def coroutine() -> Any:
        return work()

    return q.task(name="work", **options)(coroutine if is_async else work)
