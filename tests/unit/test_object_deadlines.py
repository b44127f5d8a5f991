"""How long a request to an object store may take: longer, the more it carries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from omniq.exceptions import StorageUnavailableError
from omniq.storage.file.location import locate
from omniq.storage.objectstore.anyfs import AnyFileSystem
from omniq.storage.objectstore.deadlines import LEAST_RATE, REQUEST_SECONDS, allowed
from omniq.storage.objectstore.driver import ABSENT, Stored
from omniq.storage.objectstore.frames import Header, pack
from omniq.storage.objectstore.snapshots import Snapshots

MEGABYTE = 1 << 20


class Told(AnyFileSystem):
    """Tells how long each request was given; the first reads may find nobody there."""

    def __init__(self) -> None:
        super().__init__(locate(f"memory://deadlines-{uuid4().hex}"))
        self.given: list[tuple[str, float]] = []
        self.failures_left = 0

    async def _answered(self, what: str, work: Callable[[], Awaitable[Any]], seconds: float) -> Any:
        self.given.append((what, seconds))
        return await super()._answered(what, work, seconds)

    async def _get(self, key: str) -> Stored | None:
        if self.failures_left:
            self.failures_left -= 1
            raise StorageUnavailableError("nobody there")
        return await super()._get(key)


@pytest.fixture
async def driver() -> AsyncIterator[Told]:
    """Open, with nothing told yet."""
    made = Told()
    await made.open()
    made.given.clear()
    yield made
    await made.close()


def test_a_slow_link_carries_a_large_object_in_time() -> None:
    """A hundred megabytes at two megabits a second: seven minutes; an empty one: as before."""
    assert allowed(REQUEST_SECONDS, 0) == REQUEST_SECONDS
    assert allowed(REQUEST_SECONDS, 100 * MEGABYTE) == REQUEST_SECONDS + 100 * MEGABYTE / LEAST_RATE


async def test_a_write_has_time_for_its_bytes(driver: Told) -> None:
    """So has the read that finds out what became of it."""
    data = b"x" * MEGABYTE
    seconds = allowed(REQUEST_SECONDS, MEGABYTE)

    await driver.put("k", data)
    assert driver.given == [("put k", seconds)]

    driver.given.clear()
    assert await driver.put("new", data, expected=ABSENT) is not None
    assert ("put new", seconds) in driver.given


async def test_a_read_has_time_for_the_size_that_is_known(driver: Told) -> None:
    """Without one, for something small."""
    await driver.get("k", size=MEGABYTE)
    await driver.get("k")

    assert driver.given == [("get k", allowed(REQUEST_SECONDS, MEGABYTE)), ("get k", 15.0)]


async def test_a_read_that_is_repeated_has_twice_the_time(driver: Told) -> None:
    """What is behind that key may be larger than anybody knew."""
    driver.failures_left = 2

    await driver.get("k")

    assert [seconds for _, seconds in driver.given] == [15.0, 30.0, 30.0]


async def test_a_snapshot_is_read_in_the_time_its_size_needs(driver: Told) -> None:
    """It holds the whole state: the largest object there is."""
    snapshots = Snapshots(
        driver, segments="t/.log", folder="t/.snapshots", trim_age=timedelta(hours=1)
    )
    data = pack(Header(1, "n"), [b"x" * MEGABYTE])
    await snapshots.save(7, data)
    driver.given.clear()

    assert await snapshots.numbers() == [7]
    await snapshots.read(7)

    assert driver.given[-1] == (f"get {snapshots.key(7)}", allowed(REQUEST_SECONDS, len(data)))
