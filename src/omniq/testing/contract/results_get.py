# ruff: noqa: S101 - tests assert; a lease token is no password
"""What reading, expiring and deleting results promise."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from omniq.clock import utcnow
from omniq.exceptions import (
    SyncInAsyncError,
    TaskFailedError,
    ValidationError,
)
from omniq.models.result import ResultStatus, TaskResult
from omniq.storage.base import BaseResultStorage
from omniq.testing.contract.results_samples import FAILURE, hence, make_result, names
from omniq.testing.contract.samples import (
    MICROSECOND,
    TIMEOUT_SECONDS,
    at,
    missing_twins,
)


class ExpiryContract:
    """Expired is absent, at once, whether or not it was deleted yet."""

    async def test_a_result_expires_exactly_at_its_moment(self, results: BaseResultStorage) -> None:
        """To the microsecond, in every way of reading."""
        item = make_result("a", 1, expires_at=hence(10))
        await results.set(item)

        assert await results.get("a", now=hence(10 - MICROSECOND)) == item
        assert await results.get("a", now=hence(10)) is None
        assert await results.get_many(["a"], now=hence(11)) == [None]
        assert await results.find(now=hence(10)) == []
        assert await results.list_results(now=hence(10)) == []

    async def test_an_expired_result_counts_as_absent_for_writes(
        self, results: BaseResultStorage
    ) -> None:
        """It neither stands in the way of another nor can be deleted."""
        await results.set(make_result("a", "old", claim_count=9, expires_at=at(-60)))
        await results.set(make_result("b", "old", expires_at=at(-60)))

        assert await results.set(make_result("a", "new", claim_count=1))
        assert not await results.delete("b")

        assert await results.get_result("a") == "new"

    async def test_purge_deletes_what_expired(self, results: BaseResultStorage) -> None:
        """And leaves the rest."""
        await results.set_many(
            [
                make_result("a", expires_at=hence(5)),
                make_result("b", expires_at=hence(5 + MICROSECOND)),
                make_result("c"),
            ]
        )

        assert await results.purge(now=hence(5)) == 1
        assert await names(results) == ["b", "c"]
        assert await results.purge(now=hence(5)) == 0

    async def test_purge_is_bounded(self, results: BaseResultStorage) -> None:
        """It says how many; a full batch means to call again."""
        await results.set_many([make_result(f"r{n}", expires_at=hence(0)) for n in range(25)])

        assert [await results.purge(now=hence(0), limit=10) for _ in range(4)] == [10, 10, 5, 0]

    async def test_cleanup_deletes_all_that_expired(self, results: BaseResultStorage) -> None:
        """In bounded batches."""
        await results.set_many([make_result(f"r{n}", expires_at=hence(1)) for n in range(1001)])

        assert await results.cleanup_expired_results(now=hence(2)) == 1001

    async def test_store_result_takes_a_time_to_live(self, results: BaseResultStorage) -> None:
        """In seconds or as a timedelta; None keeps it; bad ones are refused."""
        await results.store_result("a", 1, 60)
        await results.store_result("b", 2, timedelta(minutes=1))
        await results.store_result("c", 3)
        later = utcnow() + timedelta(seconds=61)

        assert await results.get_result("a") == 1
        assert [one.task_id for one in await results.list_results(now=later)] == ["c"]
        with pytest.raises(ValidationError):
            await results.store_result("d", 4, -1)

    async def test_no_time_to_live_is_gone_at_once(self, results: BaseResultStorage) -> None:
        """Zero seconds."""
        await results.store_result("a", 1, 0)

        assert await results.get_result("a") is None


class ReadingContract:
    """Paging, deleting, waiting, and the two faces."""

    async def test_find_pages_by_task_id(self, results: BaseResultStorage) -> None:
        """Expired ones do not use up a page."""
        await results.set_many(
            [
                make_result(f"r{n:02}", expires_at=hence(0) if n % 3 == 0 else None)
                for n in range(20)
            ]
        )
        first = await results.find(limit=5, now=hence(0))
        second = await results.find(after=first[-1].task_id, limit=5, now=hence(0))

        assert [item.task_id for item in first] == ["r01", "r02", "r04", "r05", "r07"]
        assert [item.task_id for item in second] == ["r08", "r10", "r11", "r13", "r14"]
        assert await results.find(after="r19") == []

    async def test_list_results_goes_through_all_pages(self, results: BaseResultStorage) -> None:
        """By status; at most so many."""
        await results.set_many([make_result(f"r{n:04}") for n in range(1001)])
        await results.set(make_result("x", status=ResultStatus.FAILED, error=FAILURE))

        assert len(await results.list_results()) == 1002
        assert len(await results.list_results(limit=600)) == 600
        assert [one.task_id for one in await results.list_results(status="failed")] == ["x"]

    @pytest.mark.parametrize("limit", [0, -1, 10_001])
    async def test_a_bad_page_size_is_refused(self, results: BaseResultStorage, limit: int) -> None:
        """A page is bounded."""
        with pytest.raises(ValidationError):
            await results.find(limit=limit)

    async def test_delete_says_whether_there_was_one(self, results: BaseResultStorage) -> None:
        """Deleting twice is no error."""
        await results.set_many([make_result(one) for one in "abc"])

        assert await results.delete("a")
        assert not await results.delete("a")
        assert await results.delete_many(["b", "ghost", "b"]) == 1
        await results.delete_result("ghost")

        assert await names(results) == ["c"]

    async def test_after_delete_any_claim_may_write(self, results: BaseResultStorage) -> None:
        """Nothing of the old result remains."""
        await results.set(make_result("a", claim_count=5, expires_at=hence(5)))
        await results.delete("a")

        assert await results.set(make_result("a", "new", claim_count=1))
        assert await results.purge(now=hence(9)) == 0
        assert await results.get_result("a") == "new"

    async def test_get_result_raises_for_a_failure(self, results: BaseResultStorage) -> None:
        """With the error of the task."""
        await results.set(make_result("a", status=ResultStatus.FAILED, error=FAILURE))

        with pytest.raises(TaskFailedError, match="no 'é'") as caught:
            await results.get_result("a")

        assert caught.value.error == FAILURE

    async def test_wait_returns_the_result_when_it_comes(self, results: BaseResultStorage) -> None:
        """Whatever came for other tasks before."""
        waiter = asyncio.ensure_future(results.wait("a"))
        await asyncio.sleep(0)

        await results.set(make_result("b"))
        await results.set(make_result("a", 1))

        async with asyncio.timeout(TIMEOUT_SECONDS):
            found = await waiter
        assert found == make_result("a", 1)

    async def test_wait_gives_up_at_its_timeout(self, results: BaseResultStorage) -> None:
        """With None; what is there already is returned at once."""
        await results.set(make_result("b"))

        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await results.wait("a", 0.01) is None
            assert await results.wait("b", 0) is not None

    async def test_every_coroutine_has_a_twin(self, results: BaseResultStorage) -> None:
        """By one rule of names; a twin never blocks a loop."""
        assert missing_twins(results) == []
        with pytest.raises(SyncInAsyncError, match=r"await .*get_result"):
            results.get_result_sync("a")

    async def test_the_twins_do_the_same(self, results: BaseResultStorage) -> None:
        """From a thread without a loop, on the same store."""

        def work() -> list[TaskResult]:
            results.store_result_sync("a", (1,))
            assert results.get_result_sync("a") == (1,)
            assert results.set_sync(make_result("b", 2, claim_count=1))
            assert results.wait_sync("b", 1) == make_result("b", 2, claim_count=1)
            assert results.delete_sync("a")
            return results.list_results_sync()

        assert await asyncio.to_thread(work) == await results.list_results()

    async def test_closing_twice_and_using_again_is_fine(self, results: BaseResultStorage) -> None:
        """Every method opens the store on first use."""
        await results.connect()
        await results.set(make_result("a", 1))
        await results.disconnect()
        await results.disconnect()

        assert await results.get_result("a") == 1

    async def test_the_other_object_sees_every_result(
        self, results: BaseResultStorage, second: BaseResultStorage
    ) -> None:
        """As of now, and after the first is closed."""
        await results.set(make_result("a", (1,), claim_count=2))

        assert await second.get("a") == make_result("a", (1,), claim_count=2)
        assert not await second.set(make_result("a", "late", claim_count=1))
        await results.disconnect()
        assert await second.get_result("a") == (1,)
