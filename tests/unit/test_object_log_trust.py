"""What a log believes, and for how long; what it deletes, and when."""

from __future__ import annotations

import pytest

from omniq.exceptions import StorageUnavailableError
from omniq.storage.objectstore.log import TRIM_AGE, TRUST_SECONDS
from tests.unit.object_doubles import DictStore, once
from tests.unit.object_logs import count, counted, driver_of, new_log, number, often

HOUR = TRIM_AGE.total_seconds()
__all__ = ["often"]


@pytest.mark.usefixtures("often")
async def test_a_process_alone_needs_not_wait_to_delete() -> None:
    """Where the store has no conditions, nobody else can be behind."""
    store = DictStore()
    log = new_log(store, is_conditional=False)
    for _ in range(9):
        await log.run(count)
        await log.close()

    assert store.keys("tasks/.snapshots") == [f"{8:012d}"]
    assert store.keys("tasks/.log") == [f"{9:012d}"]


@pytest.mark.usefixtures("often")
async def test_a_process_that_slept_trusts_nothing_it_knew() -> None:
    """Its next number was deleted meanwhile: it must neither create it nor believe it absent."""
    store = DictStore()
    sleeper, other = new_log(store), new_log(store)
    for _ in range(2):
        await sleeper.run(count)
    for _ in range(3):
        for _ in range(4):
            await other.run(count)
            await other.close()
        store.clock.seconds += HOUR + 1
    assert f"{3:012d}" not in store.keys("tasks/.log")

    assert await sleeper.run(number) == 14
    assert await sleeper.run(count) == 15
    assert set(store.written.values()) == {1}


@pytest.mark.usefixtures("often")
async def test_a_commit_that_slept_on_its_way_says_that_it_does_not_know() -> None:
    """Stopped for hours between look and write: the create succeeds, and is not believed."""
    store = DictStore()
    zombie, other = new_log(store), new_log(store)
    await zombie.run(count)

    async def sleep(what: str, key: str) -> None:
        for _ in range(3):
            for _ in range(4):
                await other.run(count)
                await other.close()
            store.clock.seconds += HOUR + 1

    driver_of(zombie).before = once(sleep)
    with pytest.raises(StorageUnavailableError, match="may or may not"):
        await zombie.run(count)

    assert store.written[f"tasks/.log/{2:012d}"] == 2
    assert await zombie.run(number) == 13
    assert await counted(store) == 13


@pytest.mark.usefixtures("often")
async def test_an_absence_that_took_too_long_is_not_believed() -> None:
    """The same for a read: stopped between request and reply, it looks anew."""
    store = DictStore()
    zombie, other = new_log(store), new_log(store)
    await zombie.run(count)

    async def sleep(what: str, key: str) -> None:
        for _ in range(3):
            for _ in range(4):
                await other.run(count)
                await other.close()
            store.clock.seconds += HOUR + 1

    driver_of(zombie).before = once(sleep, what="get")

    assert await zombie.run(number) == 13


async def test_an_idle_process_lists_again_only_when_its_trust_has_run_out() -> None:
    """Each look renews it: who looks now and then never lists."""
    store = DictStore()
    log = new_log(store)
    for _ in range(100):
        store.clock.seconds += TRUST_SECONDS * 0.9
        await log.look()
    assert driver_of(log).requests["list"] == 1

    store.clock.seconds += TRUST_SECONDS + 1
    await log.look()
    assert driver_of(log).requests["list"] == 2
