"""A worker over four engines that dies at one step: `python mixed_app.py CONFIG STEP`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from omniq import OmniQ
from omniq.storage.base import Component

DIED = 17
STEPS = {
    "after the claim": ("task_queue", "_claim", True),
    "before the result": ("result_storage", "_set", False),
    "after the result": ("result_storage", "_set", True),
    "after the swap": ("task_queue", "_swap", True),
    "after the events": ("event_storage", "_append", True),
}
"""Which primitive of which component the process dies at, and whether it does its work first."""
FIRING = {
    "before the tasks are made": ("task_queue", "_insert", False),
    "after the tasks are made": ("task_queue", "_insert", True),
    "before the schedule moves on": ("schedule_storage", "_replace", False),
    "after the schedule moved on": ("schedule_storage", "_replace", True),
    "before the events": ("event_storage", "_append", False),
    "after the events": ("event_storage", "_append", True),
}
"""The same for the firing of a schedule."""


def double(n: int) -> int:
    return 2 * n


def dying(component: Component, name: str, *, after: bool) -> None:
    """Make a primitive the last thing this process does."""
    primitive: Callable[..., Awaitable[Any]] = getattr(component, name)

    async def last(*arguments: Any) -> Any:
        if after:
            done = await primitive(*arguments)
            if name == "_claim" and not done:
                return done
        os._exit(DIED)

    setattr(component, name, last)


def application(config: str) -> OmniQ:
    q = OmniQ(config=config)
    q.task(name="double")(double)
    return q


def main(config: str, step: str) -> None:
    q = application(config)
    component, name, after = (STEPS | FIRING)[step]
    dying(getattr(q, component), name, after=after)
    asyncio.run(q.worker(lease_seconds=0.5).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
