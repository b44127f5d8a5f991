"""Results and events by themselves, in a file system without conditional writes.

`tests/contract` runs whole backends on the other stores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from omniq.events import FileEventStorage
from omniq.results import FileResultStorage
from omniq.storage.base import BaseEventStorage, BaseResultStorage
from omniq.storage.file.location import Location
from omniq.testing.contract import EventContract, ResultContract
from tests.objectstore.conftest import STORES


@pytest.fixture
def location() -> Location:
    return STORES["memory"]()


class TestResults(ResultContract):
    """Made by the class a user knows, from a URL."""

    @pytest.fixture
    async def results(self, location: Location) -> AsyncIterator[BaseResultStorage]:
        async with results_at(location) as opened:
            yield opened

    @pytest.fixture
    async def second(
        self, results: BaseResultStorage, location: Location
    ) -> AsyncIterator[BaseResultStorage]:
        async with results_at(location) as opened:
            yield opened


class TestEvents(EventContract):
    """Likewise."""

    @pytest.fixture
    async def events(self, location: Location) -> AsyncIterator[BaseEventStorage]:
        async with events_at(location) as opened:
            yield opened

    @pytest.fixture
    async def second(
        self, events: BaseEventStorage, location: Location
    ) -> AsyncIterator[BaseEventStorage]:
        async with events_at(location) as opened:
            yield opened


def results_at(location: Location) -> BaseResultStorage:
    return FileResultStorage(repr(location), fs_kwargs=location.options)


def events_at(location: Location) -> BaseEventStorage:
    return FileEventStorage(repr(location), fs_kwargs=location.options)
