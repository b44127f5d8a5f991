"""The threads that plain functions run in."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from omniq import Task
from omniq.worker.runs import Run, RunInterrupted
from omniq.worker.threads import ThreadPool


class Late(ThreadPool):
    """Threads that begin when told."""

    def __init__(self) -> None:
        super().__init__()
        self.begin = threading.Event()

    def _perform(self, *call: Any, **named: Any) -> None:
        self.begin.wait(10)
        super()._perform(*call, **named)


async def test_a_function_that_is_interrupted_before_it_begins_never_does() -> None:
    """A timeout or a stop in that moment would otherwise not reach it at all."""
    pool, called = Late(), list[int]()
    running = asyncio.create_task(pool.run(Run(Task(func="f"), 0.0), lambda: called.append(1)))
    await asyncio.sleep(0)  # it has handed the call to a thread
    running.cancel()
    await asyncio.sleep(0)
    pool.begin.set()

    with pytest.raises(RunInterrupted):
        await running
    assert called == []
