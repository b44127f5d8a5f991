"""What stands behind the sockets that wake the waiters of a local store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniq.storage.local import wake
from omniq.storage.local.wake import FINAL, READY, WakeHub
from omniq.testing.waiting import wait_until


class Changed:
    """A probe of a store that was changed once, before anybody looked at it."""

    looks = 0

    def version(self) -> int:
        self.looks += 1
        return 1

    def close(self) -> None:
        """Hold nothing."""


@pytest.fixture
def probe() -> Changed:
    return Changed()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: Changed) -> Iterator[WakeHub]:
    monkeypatch.setattr(wake, "POLL_SECONDS", 0.01)
    hub = WakeHub(tmp_path, lambda: probe)
    yield hub
    hub.close()


@pytest.mark.parametrize("topic", [READY, FINAL])
async def test_a_change_before_the_first_look_is_not_missed(hub: WakeHub, topic: str) -> None:
    """The thread that looks starts with the first who waits, and may be late."""
    with hub.register(topic, ["a"]) as waiting:
        await asyncio.wait_for(waiting.wait(60), 10)


async def test_a_store_that_does_not_change_wakes_nobody(hub: WakeHub, probe: Changed) -> None:
    """Only the first look wakes without knowing."""
    with hub.register(READY, ["a"]) as first:
        await first.wait(60)
    with hub.register(READY, ["a"]) as second:
        waiting = asyncio.create_task(second.wait(60))
        seen = probe.looks
        await wait_until(lambda: probe.looks > seen + 2, description="the thread looks again")
        assert not waiting.done()
        waiting.cancel()
