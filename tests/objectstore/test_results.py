"""Results in object stores, beside the contract: crashes in between, damage, and costs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from omniq.clock import utcnow
from omniq.models.result import ErrorInfo, ResultStatus, TaskResult
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.results import ObjectResultStorage

FAILED: dict[str, Any] = {"status": ResultStatus.FAILED, "error": ErrorInfo("E", "no")}


@pytest.fixture
def results(driver: ObjectDriver) -> ObjectResultStorage:
    return ObjectResultStorage(driver)


async def keys(driver: ObjectDriver) -> list[str]:
    return [entry.key for entry in await driver.list("results/")]


async def test_each_lies_in_the_folder_of_its_kind(
    results: ObjectResultStorage, driver: ObjectDriver
) -> None:
    """As the specification draws it; a result of the other kind takes the place of the older."""
    await results.set(TaskResult(task_id="a", result=1, claim_count=1))
    await results.set(TaskResult(task_id="b", claim_count=1, **FAILED))
    assert await keys(driver) == ["results/failed/b", "results/success/a"]

    await results.set(TaskResult(task_id="a", claim_count=2, **FAILED))
    await results.set(TaskResult(task_id="b", result=2, claim_count=1))

    assert await keys(driver) == ["results/failed/a", "results/success/b"]


async def test_what_cannot_be_read_stops_no_purge(
    results: ObjectResultStorage, driver: ObjectDriver
) -> None:
    """Half a list of expiries is set aside for the doctor; what is none of ours stays."""
    await results.set(TaskResult(task_id="a", expires_at=utcnow()))
    damaged = "results/.expiry/00000000000000001-half"
    await driver.put(damaged, b'[[1,"results/succ')
    await driver.put("results/.expiry/README.txt", b"mine")

    assert await results.purge(now=utcnow() + timedelta(seconds=5)) == 1

    assert await keys(driver) == [
        "results/.damaged/.expiry~00000000000000001-half",
        "results/.expiry/README.txt",
    ]
    assert any("damaged" in finding.text for finding in await results.findings())


async def test_of_both_kinds_the_later_claim_counts(
    results: ObjectResultStorage, driver: ObjectDriver
) -> None:
    """What a writer leaves that dies between writing one and deleting the other."""
    older = TaskResult(task_id="a", result="old", claim_count=1)
    newer = TaskResult(task_id="a", claim_count=2, **FAILED)
    await results.set(newer)
    codec = results._codec  # pyright: ignore[reportPrivateUsage] - to write as the dead one did
    await driver.put("results/success/a", codec.encode(older))

    assert await results.get("a") == newer
    assert await results.list_results() == [newer]
    assert not await results.set(older), "and so it may not come back"
    assert await keys(driver) == ["results/failed/a"]


@pytest.mark.parametrize("count", [1, 20])
async def test_writers_of_both_kinds_at_once_leave_one(
    results: ObjectResultStorage, driver: ObjectDriver, count: int
) -> None:
    """That of the later claim, whoever comes first; alone and in large batches."""
    names = [f"t{n}" for n in range(count)]
    for _ in range(3):
        early = [TaskResult(task_id=name, result=1, claim_count=1) for name in names]
        late = [TaskResult(task_id=name, claim_count=2, **FAILED) for name in names]

        answers = await asyncio.gather(results.set_many(early), results.set_many(late))

        assert answers[1] == [True] * count
        assert await results.get_many(names) == late
        assert sorted(await keys(driver)) == sorted(f"results/failed/{name}" for name in names)
        await results.delete_many(names)


async def test_writers_of_both_kinds_of_one_claim_leave_one(
    results: ObjectResultStorage, driver: ObjectDriver
) -> None:
    """Each takes the other's for older; neither may be left without any."""
    names = [f"t{n}" for n in range(6)]
    for _ in range(2):
        good = [TaskResult(task_id=name, result=1) for name in names]
        bad = [TaskResult(task_id=name, **FAILED) for name in names]

        answers = await asyncio.gather(results.set_many(good), results.set_many(bad))

        assert answers == [[True] * 6] * 2
        assert all(await results.get_many(names))
        assert sorted(key.rpartition("/")[2] for key in await keys(driver)) == sorted(names)
        await results.delete_many(names)


async def test_a_damaged_result_hides_no_other(
    results: ObjectResultStorage, driver: ObjectDriver
) -> None:
    """It is left out of lists, and may be replaced."""
    await results.set_many([TaskResult(task_id=name, result=name) for name in "abc"])
    await driver.put("results/success/b", b'{"torn')

    assert [one.task_id for one in await results.list_results()] == ["a", "c"]
    assert await results.set(TaskResult(task_id="b", result="again"))
    assert await results.get_result("b") == "again"


async def test_a_result_that_was_replaced_outlives_its_first_expiry(
    results: ObjectResultStorage,
) -> None:
    """An announced expiry is a hint; what decides is inside the result."""
    now = utcnow()
    await results.set(TaskResult(task_id="a", result=1, expires_at=now + timedelta(seconds=1)))
    await results.set(TaskResult(task_id="a", result=2, expires_at=now + timedelta(seconds=9)))

    assert await results.purge(now=now + timedelta(seconds=5)) == 0
    assert await results.get_result("a") == 2
    assert await results.purge(now=now + timedelta(seconds=9)) == 1
    assert await results.list_results() == []


async def test_purging_leaves_nothing_behind(
    results: ObjectResultStorage, driver: ObjectDriver
) -> None:
    """Neither results nor their announced expiries; what is not due stays announced."""
    now = utcnow()
    await results.set_many(
        [
            TaskResult(task_id=f"t{n}", result=n, expires_at=now + timedelta(seconds=n))
            for n in range(1, 6)
        ]
    )

    assert await results.purge(now=now + timedelta(seconds=2)) == 2
    assert len(await driver.list("results/.expiry/")) == 1
    assert await results.purge(now=now + timedelta(seconds=9), limit=2) == 2
    assert await results.purge(now=now + timedelta(seconds=9), limit=2) == 1
    assert await keys(driver) == []


async def test_a_listing_asks_again_only_for_what_changed(
    results: ObjectResultStorage, driver: ObjectDriver
) -> None:
    """And sees every change, whoever made it."""
    other = ObjectResultStorage(driver)
    await results.set_many([TaskResult(task_id=f"t{n}", result=n) for n in range(5)])
    await results.list_results()
    await other.set(TaskResult(task_id="t3", result="new"))

    driver.requests.clear()
    found = await results.list_results()

    assert [one.result for one in found] == [0, 1, 2, "new", 4]
    if driver.is_conditional:
        assert driver.requests == {"list": 2, "get": 1}


async def test_what_a_call_costs(results: ObjectResultStorage, driver: ObjectDriver) -> None:
    """The table of the documentation, for stores with conditional writes."""
    if not driver.is_conditional:
        pytest.skip("emulated conditions cost more")
    later = utcnow() + timedelta(hours=1)
    one, other = (TaskResult(task_id="a", result=n) for n in range(2))
    many = [TaskResult(task_id=f"t{n}", result=n, expires_at=later) for n in range(50)]
    costs = {
        "set": (lambda: results.set(one), {"put": 1, "get": 1}),
        "set_many with expiry": (lambda: results.set_many(many), {"put": 51, "list": 1}),
        "set again": (lambda: results.set(other), {"put": 2, "get": 3}),
        "get": (lambda: results.get("a"), {"get": 2}),
        "list_results": (results.list_results, {"list": 2}),
        "delete": (lambda: results.delete("a"), {"get": 2, "delete": 1}),
        "purge, nothing due": (results.purge, {"list": 1}),
        "purge": (
            lambda: results.purge(now=later),
            {"list": 2, "get": 51, "delete": 51},
        ),
    }

    for name, (call, expected) in costs.items():
        driver.requests.clear()
        await call()
        assert driver.requests == expected, name
