"""File systems without conditional writes: one process alone."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar
from uuid import uuid4

import pytest

from omniq.exceptions import ConfigError
from omniq.storage.file.location import locate
from omniq.storage.objectstore.anyfs import AnyFileSystem
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.driver import ABSENT


async def test_it_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """In a warning, and in what it promises."""
    place = f"memory://single-{uuid4().hex}"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            driver = driver_of(locate(place))
            await driver.open()
            assert not driver.is_conditional
            assert not driver.capabilities.shared
            assert not driver.capabilities.durable
            await driver.close()

    assert [record.message for record in caplog.records if place in record.message] == [
        f"{place} has no conditional writes: only one process may use it at a time, and nothing "
        "keeps a second one out"
    ]


class Careless(AnyFileSystem):
    """A store that says it knows conditions, and pays no attention to them."""

    has_conditions: ClassVar[bool] = True


async def test_a_store_that_ignores_conditions_is_found_out() -> None:
    """By trying, when it is opened; from then on it is for one process alone."""
    driver = Careless(locate(f"memory://careless-{uuid4().hex}"))
    await driver.open()

    made = await asyncio.gather(*(driver.put("k", b"%d" % n, expected=ABSENT) for n in range(8)))

    assert not driver.capabilities.shared
    assert sum(version is not None for version in made) == 1
    assert [entry.key for entry in await driver.list("")] == ["k"], "the trial leaves nothing"


async def test_drivers_of_one_process_exclude_each_other() -> None:
    """The lock belongs to the place, not to the driver."""
    place = locate(f"memory://single-{uuid4().hex}")
    drivers = [driver_of(place) for _ in range(8)]

    made = await asyncio.gather(
        *(driver.put("k", b"%d" % n, expected=ABSENT) for n, driver in enumerate(drivers))
    )

    assert sum(version is not None for version in made) == 1


async def test_an_unknown_file_system_is_refused() -> None:
    """By name, before anything is stored."""
    with pytest.raises(ConfigError, match="nosuchfs"):
        await driver_of(locate("nosuchfs://x")).open()
