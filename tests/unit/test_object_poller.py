"""How often a process that waits asks the store for news, by a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from omniq.storage.objectstore.poller import FIRST_SECONDS, LONGEST_SECONDS, Poller
from tests.unit.object_doubles import DictStore, once, unanswered
from tests.unit.object_logs import count, driver_of, new_log


class Time:
    """A clock that goes on when told to, from one sleeper to the next."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.seconds + seconds, woken))
        await woken

    def now(self) -> float:
        return self.seconds

    async def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        ends_at = self.seconds + seconds
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            self.sleepers = sorted(one for one in self.sleepers if not one[1].done())
            if not self.sleepers or self.sleepers[0][0] > ends_at:
                break
            self.seconds, woken = self.sleepers.pop(0)
            woken.set_result(None)
        self.seconds = ends_at


async def test_an_idle_process_asks_seldom_and_lists_nothing() -> None:
    """An hour costs some 720 requests, none of them a listing: cents a month."""
    time, store = Time(), DictStore()
    log = new_log(store)
    await log.look()
    driver_of(log).requests.clear()
    poller = Poller(log.look, sleep=time.sleep, now=time.now)

    with poller.waiting():
        await time.advance(3600)

    assert set(driver_of(log).requests) == {"get"}
    expected = 3600 / LONGEST_SECONDS
    assert 0.8 * expected < driver_of(log).requests["get"] < expected + 20


async def test_news_is_looked_for_often_after_news() -> None:
    """Where one task came, more may follow."""
    time, looks = Time(), list[float]()

    async def look() -> None:
        looks.append(time.seconds)

    poller = Poller(look, sleep=time.sleep, now=time.now)
    with poller.waiting():
        await time.advance(100)
        poller.notice()
        await time.advance(2)

    assert len([moment for moment in looks if moment < 2]) >= 3
    assert len([moment for moment in looks if 80 < moment < 100]) <= 5
    assert len([moment for moment in looks if moment > 100]) >= 3


async def test_a_look_of_somebody_else_counts() -> None:
    """A claim just proved that nothing newer is there."""
    time, looks = Time(), list[float]()

    async def look() -> None:
        looks.append(time.seconds)

    poller = Poller(look, sleep=time.sleep, now=time.now)
    with poller.waiting():
        await time.advance(60)
        looks.clear()
        for _ in range(60):
            poller.looked()
            await time.advance(LONGEST_SECONDS - 0.01)

    assert looks == []


async def test_who_does_not_wait_asks_nothing() -> None:
    """And the last to wait ends it."""
    time, looks = Time(), list[float]()

    async def look() -> None:
        looks.append(time.seconds)

    poller = Poller(look, sleep=time.sleep, now=time.now)
    with poller.waiting(), poller.waiting():
        await time.advance(1)
    seen = len(looks)
    await time.advance(60)

    assert seen
    assert len(looks) == seen


async def test_a_store_that_is_away_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """Waiting goes on; what is wrong is logged."""
    time, store = Time(), DictStore()
    log = new_log(store)
    await log.run(count)
    driver_of(log).before = once(unanswered, what="get")
    driver_of(log).requests.clear()
    poller = Poller(log.look, sleep=time.sleep, now=time.now)

    with poller.waiting():
        await time.advance(10 * FIRST_SECONDS)

    assert driver_of(log).requests["get"] > 1
    assert "trying again" in caplog.text
