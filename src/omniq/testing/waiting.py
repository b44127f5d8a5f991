"""Waiting in tests for what happens elsewhere, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

STEP_SECONDS = 0.01


async def wait_until(
    condition: Callable[[], bool | Awaitable[bool]], *, description: str, timeout: float = 20.0
) -> None:
    """Return as soon as `condition` (a function or coroutine function) holds.

    Raises:
        AssertionError: it did not within `timeout` seconds; the message says what was waited for.
    """
    ends_at = time.monotonic() + timeout
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        if time.monotonic() > ends_at:
            raise AssertionError(f"waited {timeout:g} s in vain until {description}")
        await asyncio.sleep(STEP_SECONDS)
