"""What every driver must do, on every store."""

from __future__ import annotations

import asyncio

import pytest

from omniq.exceptions import ConfigError
from omniq.storage.file.location import Location
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.driver import ABSENT, ObjectDriver


async def keys(driver: ObjectDriver, prefix: str = "", **options: object) -> list[str]:
    return [entry.key for entry in await driver.list(prefix, **options)]  # type: ignore[arg-type]


async def test_what_was_put_is_there(driver: ObjectDriver) -> None:
    """The bytes, whatever they are, and one version for reader and writer."""
    data = bytes(range(256)) * 5

    version = await driver.put("a/b.json", data)
    found = await driver.get("a/b.json")

    assert found is not None
    assert (found.data, found.version) == (data, version)
    assert await driver.get("a/c.json") is None
    assert await driver.get("a") is None


async def test_an_empty_object_is_one(driver: ObjectDriver) -> None:
    """It is not absent."""
    await driver.put("a", b"", expected=ABSENT)

    found = await driver.get("a")

    assert found is not None
    assert found.data == b""
    assert await driver.put("a", b"x", expected=ABSENT) is None


async def test_of_sixteen_creates_one_wins(driver: ObjectDriver) -> None:
    """The lock, the commit and the order of everything built on this."""
    for turn in range(3):
        made = await asyncio.gather(
            *(driver.put(f"k{turn}", b"%d" % n, expected=ABSENT) for n in range(16))
        )

        (winner,) = (n for n, version in enumerate(made) if version is not None)
        found = await driver.get(f"k{turn}")
        assert found is not None
        assert (found.data, found.version) == (b"%d" % winner, made[winner])


async def test_of_sixteen_replacements_one_wins(driver: ObjectDriver) -> None:
    """Compare and swap, from one version."""
    version = await driver.put("k", b"first")

    made = await asyncio.gather(*(driver.put("k", b"%d" % n, expected=version) for n in range(16)))

    (winner,) = (n for n, one in enumerate(made) if one is not None)
    found = await driver.get("k")
    assert found is not None
    assert (found.data, found.version) == (b"%d" % winner, made[winner])


async def test_a_stale_replacement_is_refused(driver: ObjectDriver) -> None:
    """Also where the object is gone, or was never there."""
    first = await driver.put("k", b"1")
    second = await driver.put("k", b"2", expected=first)

    assert first is not None
    assert second not in (None, first)
    assert await driver.put("k", b"3", expected=first) is None
    await driver.delete(["k"])
    assert await driver.put("k", b"4", expected=second) is None
    assert await driver.get("k") is None


async def test_a_plain_put_replaces(driver: ObjectDriver) -> None:
    """Whatever is there."""
    await driver.put("k", b"1")
    version = await driver.put("k", b"2")

    assert await driver.put("k", b"3", expected=version)


async def test_delete_is_idempotent(driver: ObjectDriver) -> None:
    """Many at once, also twice the same, and those that are not there."""
    for n in range(3):
        await driver.put(f"d/{n}", b"x")

    await driver.delete(["d/0", "d/1", "d/0", "ghost", "no/such/ghost"])
    await driver.delete(["d/0"])
    await driver.delete([])

    assert await keys(driver, "d/") == ["d/2"]


async def test_remove_takes_away_only_what_was_seen(driver: ObjectDriver) -> None:
    """What somebody wrote since stays; fake-gcs-server alone has no conditions for deleting."""
    first = await driver.put("k", b"1")
    second = await driver.put("k", b"2", expected=first)
    assert first is not None
    assert second is not None

    if driver.location.protocol != "gs":
        assert not await driver.remove("k", first)
        assert await driver.get("k") == (b"2", second)
    assert await driver.remove("k", second)
    assert not await driver.remove("k", second)
    assert await driver.get("k") is None


async def test_listing_is_by_key_and_to_the_letter(driver: ObjectDriver) -> None:
    """A prefix is text: it need not end where a part does."""
    for key in ("b/2", "b/10", "b/1", "a", "b/1x/y", "bb", "c%2E"):
        await driver.put(key, b"123")

    assert await keys(driver) == ["a", "b/1", "b/10", "b/1x/y", "b/2", "bb", "c%2E"]
    assert await keys(driver, "b/1") == ["b/1", "b/10", "b/1x/y"]
    assert await keys(driver, "b/") == ["b/1", "b/10", "b/1x/y", "b/2"]
    assert await keys(driver, "nothing/") == []
    assert [entry.size for entry in await driver.list("a")] == [3]


async def test_listing_goes_on_after_a_key(driver: ObjectDriver) -> None:
    """Pages neither overlap nor leave anything out, and `after` need not exist."""
    for n in range(7):
        await driver.put(f"p/{n}", b"x")

    first = await keys(driver, "p/", limit=3)
    second = await keys(driver, "p/", after=first[-1], limit=3)
    third = await keys(driver, "p/", after=second[-1], limit=3)

    assert (first, second, third) == (
        ["p/0", "p/1", "p/2"],
        ["p/3", "p/4", "p/5"],
        ["p/6"],
    )
    assert await keys(driver, "p/", after="p/2x") == ["p/3", "p/4", "p/5", "p/6"]
    assert await keys(driver, "p/", after="p/6") == []
    assert await keys(driver, "p/", after="q") == []


async def test_requests_are_counted(driver: ObjectDriver) -> None:
    """What a call costs is what the documentation says and a bill shows."""
    await driver.put("k", b"1")
    await driver.get("k")
    await driver.get("ghost")
    await driver.list("")
    await driver.delete(["k"])

    assert driver.requests == {"put": 1, "get": 2, "list": 1, "delete": 1}


@pytest.mark.parametrize(
    "key", ["", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/./b", "a\0b", "a\nb", "x" * 801]
)
async def test_a_key_stays_below_the_location(driver: ObjectDriver, key: str) -> None:
    """Nothing outside the base is ever touched."""
    with pytest.raises(ConfigError):
        await driver.put(key, b"x")
    with pytest.raises(ConfigError):
        await driver.get(key)
    with pytest.raises(ConfigError):
        await driver.delete([key])

    assert await keys(driver) == []


def test_a_driver_serves_any_loop(location: Location) -> None:
    """One object, used from one event loop after another."""
    driver = driver_of(location)

    async def add(key: str) -> list[str]:
        await driver.put(key, b"x")
        return await keys(driver, "l/")

    asyncio.run(add("l/1"))
    assert asyncio.run(add("l/2")) == ["l/1", "l/2"]
    asyncio.run(driver.close())
    assert asyncio.run(add("l/3")) == ["l/1", "l/2", "l/3"]
    asyncio.run(driver.close())


async def test_the_last_user_closes(location: Location) -> None:
    """The components of a backend share one driver."""
    driver = driver_of(location)
    await driver.open("one")
    await driver.open("two")

    await driver.close("one")
    await driver.put("k", b"x")
    await driver.close("two")
    await driver.close("two")

    assert await driver.get("k"), "every request opens by itself"
    await driver.close()
