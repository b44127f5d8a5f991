# ruff: noqa: S101 - tests assert; a lease token is no password
"""What writing a result promises."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from omniq.clock import LATEST_YEAR
from omniq.exceptions import (
    PayloadTooLargeError,
    SerializationError,
    ValidationError,
)
from omniq.models.result import ErrorInfo, ResultStatus
from omniq.serialization import MAX_RESULT_BYTES
from omniq.storage.base import BaseResultStorage
from omniq.testing.contract.results_samples import FAILURE, hence, make_result, names
from omniq.testing.contract.samples import (
    HOSTILE_NAMES,
    NAMES,
    UNSTORABLE,
    VALUES,
    Call,
    at,
)


class StoringContract:
    """Writing and reading results."""

    async def test_every_field_comes_back(self, results: BaseResultStorage) -> None:
        """For a success and a failure."""
        success = make_result(
            "a",
            {"x": [1]},
            claim_count=3,
            attempt=2,
            stored_at=at(0.000001),
            expires_at=at(3600),
            worker_id="w",
        )
        failure = make_result("b", status=ResultStatus.FAILED, error=FAILURE, claim_count=1)

        assert await results.set_many([success, failure]) == [True, True]

        assert await results.get("a") == success
        assert await results.get("b") == failure

    async def test_absent_is_none(self, results: BaseResultStorage) -> None:
        """Not an error."""
        assert await results.get("ghost") is None
        assert await results.get_result("ghost") is None
        assert await results.get_many([]) == []
        assert await results.set_many([]) == []

    async def test_get_many_answers_in_order(self, results: BaseResultStorage) -> None:
        """With None where there is none, for any number of ids."""
        await results.set_many([make_result(one, one) for one in "ab"])
        ghosts = [f"ghost{n}" for n in range(1500)]

        found = await results.get_many(["b", *ghosts, "a", "b"])

        assert [item.result for item in found if item] == ["b", "a", "b"]
        assert len(found) == 1503

    @pytest.mark.parametrize("kind", VALUES)
    async def test_values_of_every_type_come_back_the_same(
        self, results: BaseResultStorage, kind: str
    ) -> None:
        """Bare and nested."""
        await results.store_result("a", VALUES[kind])
        await results.store_result("b", [VALUES[kind]])

        found, (nested,) = await results.get_result("a"), await results.get_result("b")

        assert (found, type(found)) == (VALUES[kind], type(VALUES[kind]))
        assert (nested, type(nested)) == (VALUES[kind], type(VALUES[kind]))

    @pytest.mark.parametrize("kind", UNSTORABLE)
    async def test_a_value_that_cannot_be_stored_stops_the_whole_call(
        self, results: BaseResultStorage, kind: str
    ) -> None:
        """Nothing of the batch is stored."""
        with pytest.raises(SerializationError):
            await results.set_many([make_result("a", 1), make_result("b", UNSTORABLE[kind])])

        assert await names(results) == []

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("claim_count", "one"),
            ("attempt", 2**31),
            ("worker_id", 7),
            ("status", "half"),
            ("error", "a text"),
            ("error", ErrorInfo("E", cast("str", 5))),
        ],
    )
    async def test_a_result_nobody_could_read_stops_the_whole_call(
        self, results: BaseResultStorage, name: str, value: Any
    ) -> None:
        """Stored, it would stand in the way of all others."""
        with pytest.raises(ValidationError, match=name):
            await results.set_many([make_result("a", 1), make_result("b", **{name: value})])

        assert await names(results) == []

    async def test_a_value_over_the_limit_stops_the_whole_call(
        self, results: BaseResultStorage
    ) -> None:
        """A result is no place for large files."""
        with pytest.raises(PayloadTooLargeError):
            await results.set_many([make_result("a"), make_result("b", "x" * MAX_RESULT_BYTES)])

        assert await names(results) == []

    async def test_a_bad_result_does_not_harm_results_set_at_the_same_time(
        self, results: BaseResultStorage
    ) -> None:
        """Concurrent calls share a batch, but not their errors."""
        calls = [results.set(make_result("a", 1)), results.set(make_result("b", object()))]

        answers = await asyncio.gather(*calls, return_exceptions=True)

        assert answers[0] is True
        assert isinstance(answers[1], SerializationError)
        assert await names(results) == ["a"]

    async def test_many_concurrent_sets_are_all_stored(self, results: BaseResultStorage) -> None:
        """Coalescing loses nothing."""
        items = [make_result(f"r{n:03}", n) for n in range(150)]

        assert all(await asyncio.gather(*(results.set(item) for item in items)))

        assert await results.list_results() == items

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    async def test_hostile_ids_are_refused_everywhere(
        self, results: BaseResultStorage, name: str
    ) -> None:
        """No id ever reaches a path, a key or a statement of the store."""
        bad: Any = HOSTILE_NAMES[name]
        calls: list[Call] = [
            lambda: results.set_many([make_result("a"), make_result(bad)]),
            lambda: results.set(make_result(bad)),
            lambda: results.store_result(bad, 1),
            lambda: results.get(bad),
            lambda: results.get_result(bad),
            lambda: results.get_many(["a", bad]),
            lambda: results.delete(bad),
            lambda: results.wait(bad, 0),
        ]

        for call in calls:
            with pytest.raises(ValidationError):
                await call()

        assert await names(results) == []

    async def test_every_allowed_id_works(self, results: BaseResultStorage) -> None:
        """Also those that differ by case only."""
        allowed = [*NAMES, "A", "con.txt"]
        await results.set_many([make_result(name, name) for name in allowed])

        assert await names(results) == sorted(allowed)
        assert await results.get_result("A") == "A"

    async def test_changing_a_value_changes_nothing_stored(
        self, results: BaseResultStorage
    ) -> None:
        """Neither the one given nor one got."""
        value = {"k": [1]}
        item = make_result("a", value)
        await results.set(item)

        value["k"].append(2)
        item.claim_count = 9
        (await results.get_result("a"))["k"].append(3)

        assert await results.get("a") == make_result("a", {"k": [1]})


class StandingContract:
    """Which of several results of a task stands."""

    async def test_a_later_claim_overwrites_an_earlier(self, results: BaseResultStorage) -> None:
        """The accepted run is the latest."""
        assert await results.set(make_result("a", "first", claim_count=1))
        assert await results.set(make_result("a", "second", claim_count=2))

        assert await results.get_result("a") == "second"

    async def test_an_earlier_claim_never_overwrites_a_later(
        self, results: BaseResultStorage
    ) -> None:
        """A zombie's result is refused, and it is told so."""
        await results.set(make_result("a", "second", claim_count=2, expires_at=hence(0)))

        assert not await results.set(make_result("a", "first", claim_count=1))
        assert await results.set_many(
            [make_result("a", "hand"), make_result("b", claim_count=1)]
        ) == [False, True]

        assert await results.get_result("a") == "second"

    async def test_the_same_claim_may_write_again(self, results: BaseResultStorage) -> None:
        """A repeated call after a lost reply; the last value stands."""
        for value in ("one", "two"):
            assert await results.set(make_result("a", value, claim_count=1))

        assert await results.get_result("a") == "two"

    async def test_the_rule_holds_within_one_call(self, results: BaseResultStorage) -> None:
        """The latest claim of a batch stands, wherever in it."""
        items = [make_result("a", count, claim_count=count) for count in (2, 3, 1)]

        answers = await results.set_many(items)

        assert answers[1:] == [True, False]
        assert await results.get_result("a") == 3

    async def test_a_result_may_live_for_centuries(self, results: BaseResultStorage) -> None:
        """Some write the end of time for never."""
        far = make_result("a", expires_at=datetime(LATEST_YEAR, 12, 31, tzinfo=UTC))

        assert await results.set_many([far]) == [True]
        assert await results.get(far.task_id) == far
        assert await results.purge() == 0

    async def test_overwriting_replaces_the_expiry(self, results: BaseResultStorage) -> None:
        """An old deadline does not delete a new result."""
        await results.set(make_result("a", 1, expires_at=hence(10)))
        await results.set(make_result("a", 2, expires_at=None))

        assert await results.purge(now=hence(60)) == 0
        assert await results.get_result("a") == 2
