"""Opening and closing, whatever the order."""

from __future__ import annotations

import asyncio

from omniq.backend.memory import MemoryBackend
from omniq.models.task import Task
from omniq.storage.component import Component


class Counting(Component):
    """Counts how often it is opened and closed."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.go_on = asyncio.Event()

    async def _open(self) -> None:
        self.opened += 1
        await self.go_on.wait()

    async def _close(self) -> None:
        self.closed += 1


async def test_two_at_once_open_once() -> None:
    """Stores that count their users would otherwise stay open for ever."""
    component = Counting()
    calls = [asyncio.create_task(component.connect()) for _ in range(3)]
    await asyncio.sleep(0)
    component.go_on.set()
    await asyncio.gather(*calls)
    await component.disconnect()
    await component.disconnect()

    assert (component.opened, component.closed) == (1, 1)


async def test_a_backend_closes_what_opened_by_itself() -> None:
    """Components open on first use; the backend they came from closes them all the same."""
    backend = MemoryBackend()
    queue = backend.get_task_queue()
    await queue.enqueue(Task(func="job"))
    assert queue._is_open  # pyright: ignore[reportPrivateUsage] - what is tested

    await backend.disconnect()

    assert not queue._is_open  # pyright: ignore[reportPrivateUsage] - what is tested
