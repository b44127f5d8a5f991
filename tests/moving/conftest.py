"""A backend that moves from one store to another, for the conformance suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omniq import OmniQ
from omniq.backend.base import BaseBackend
from omniq.backend.memory import MemoryBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.moving import times
from omniq.moving.queue import MovingQueue
from omniq.moving.stores import MovingEvents, MovingResults, MovingSchedules
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
)


class MovingBackend(BaseBackend):
    """The four components, each over both stores."""

    def __init__(self, source: BaseBackend, target: BaseBackend) -> None:
        super().__init__()
        self.source = source
        self.target = target
        self.capabilities = self.get_task_queue().capabilities

    async def disconnect(self) -> None:
        await super().disconnect()
        await self.source.disconnect()
        await self.target.disconnect()

    def _make_queue(self) -> BaseQueue:
        return MovingQueue(self.source.get_task_queue(), self.target.get_task_queue())

    def _make_results(self) -> BaseResultStorage:
        return MovingResults(self.source.get_result_storage(), self.target.get_result_storage())

    def _make_events(self) -> BaseEventStorage:
        return MovingEvents(self.source.get_event_storage(), self.target.get_event_storage())

    def _make_schedules(self) -> BaseScheduleStorage:
        return MovingSchedules(
            self.source.get_schedule_storage(), self.target.get_schedule_storage()
        )


def moving(folder: Path) -> MovingBackend:
    """Return a backend that moves from one SQLite file to another."""
    source, target = (SQLiteBackend(folder / name, durability="fast") for name in ("a.db", "b.db"))
    return MovingBackend(source, target)


@pytest.fixture
def here() -> BaseQueue:
    """A source in memory."""
    return MemoryBackend().get_task_queue()


@pytest.fixture
def there() -> BaseQueue:
    """Its target."""
    return MemoryBackend().get_task_queue()


@pytest.fixture
def both(here: BaseQueue, there: BaseQueue) -> MovingQueue:
    """The two as one."""
    return MovingQueue(here, there)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let everybody know of a move within moments, in a folder of the test's own."""
    monkeypatch.setattr(times, "VALID_SECONDS", 0.05)
    monkeypatch.setattr(times, "SETTLE_SECONDS", 0.2)
    monkeypatch.setattr(times, "LEASE_SECONDS", 1.0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def q(hurry: None) -> AsyncIterator[OmniQ]:
    """An application that uses old.db."""
    async with OmniQ("sqlite:///old.db?durability=fast") as app:
        yield app


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MovingBackend]:
    in_memory = request.param == "memory"
    made = MovingBackend(MemoryBackend(), MemoryBackend()) if in_memory else moving(tmp_path)
    async with made as opened:
        yield opened


@pytest.fixture
async def second_backend(backend: MovingBackend, tmp_path: Path) -> AsyncIterator[BaseBackend]:
    if not backend.capabilities.shared:
        pytest.skip("its stores are not shared between objects")
    async with moving(tmp_path) as opened:
        yield opened
