"""Waiting for several things at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(item) for item in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


async def all_or_first(
    pending: set[asyncio.Task[Any]], forced: asyncio.Task[Any], seconds: float
) -> None:
    """Wait until all of `pending` are done, `forced` is, or time is up."""
    ends_at = time.monotonic() + seconds
    while pending and not forced.done():
        left = ends_at - time.monotonic()
        if left <= 0:
            return
        _, pending = await asyncio.wait(
            {*pending, forced}, timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        pending.discard(forced)
