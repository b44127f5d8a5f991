"""Work that must be finished although whoever started it is being cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any


async def insist(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` to its end, however often the caller is cancelled meanwhile.

    A closing loop cancels all tasks, `work` as well; then it is begun again, so it has to bear
    that, and to be short. Its errors are raised here; the cancellations are swallowed, so the
    caller has to raise its own again.
    """
    task = asyncio.create_task(work())
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
        if task.cancelled():
            task = asyncio.create_task(work())
        elif task.done():
            task.result()
            return
