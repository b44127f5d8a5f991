"""Plain data is judged without a copy, and never misjudged: what is stored depends on it."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq.exceptions import SerializationError
from omniq.plain import MAX_DEPTH, MAX_ITEMS, is_plain, weight
from omniq.serialization import to_plain
from tests.unit.stored_values import Stranger, same, values

HEAVY = 1 << 20
numbers = st.floats() | st.integers(-(2**70), 2**70)
anything = values | st.lists(numbers) | st.builds(Stranger, st.integers()) | st.text()


@given(anything)
def test_plain_is_what_needs_no_other_form(value: Any) -> None:
    """A value judged plain is stored unseen, so it must be what a closer look would store."""
    try:
        stored = to_plain(value)
    except SerializationError:
        assert not is_plain(value)
    else:
        assert is_plain(value) == same(stored, value)


@given(st.lists(anything, max_size=4))
def test_nothing_weighs_less_than_it_takes(given: list[Any]) -> None:
    """Of what is plain; anything else counts as heavy."""
    heaviness = weight(given)

    if heaviness < HEAVY:
        assert heaviness >= len(msgspec.json.encode(to_plain(given))) - len("[]")


@pytest.mark.parametrize("value", [1, -1.5, None, True, "text", [1, "a"], {"a": [1, {"b": 2.0}]}])
def test_usual_arguments_are_plain_and_light(value: object) -> None:
    """Otherwise the quick look would be in vain."""
    assert is_plain(value)
    assert weight([value]) < 500


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 1 << 63, "\ud800", b"", (1,), {1: 2}, {"$set": []}, object()]
)
def test_what_may_be_refused_or_change_its_form_is_not_light(value: object) -> None:
    """A dict of other keys, or one that looks like a tag, is encoded; both weigh what they take."""
    assert weight([value]) == HEAVY or isinstance(value, dict)


def test_what_is_nested_or_filled_beyond_the_limits_is_not_plain() -> None:
    """The closer look says where."""
    deep: list[Any] = []
    for _ in range(MAX_DEPTH):
        deep = [deep]

    assert not is_plain(deep)
    assert not is_plain([0] * (MAX_ITEMS + 1))
    assert not is_plain([dict.fromkeys(map(str, range(MAX_ITEMS + 1)))])
    assert weight([deep]) == HEAVY
