"""What can be kept: plain JSON, and nothing that only looks like it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq.datastore import deserialize, serialize
from omniq.exceptions import SerializationError

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_FINITE = _SCALARS.filter(lambda one: not isinstance(one, float) or abs(one) != float("inf"))
_JSON = st.recursive(
    _FINITE, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(_JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    """Basic types are preserved, and any JSON reader understands the text."""
    text = serialize(value)

    assert deserialize(text) == value
    assert deserialize(text.encode()) == value
    assert json.loads(text) == value


_loop: list[Any] = []
_loop.append(_loop)
_deep: list[Any] = []
for _ in range(100_000):
    _deep = [_deep]


_NOT_JSON: dict[str, object] = {
    "moment": datetime(2026, 1, 1, tzinfo=UTC),
    "bytes": b"bytes",
    "set": {"a": {1, 2}},
    "object": object(),
    "nan": float("nan"),
    "infinity": [float("inf")],
    "number as key": {1: "a"},
    "key deep inside": [{"a": ({None: 1},)}],
    "holds itself": _loop,
    "too deep": _deep,
}


@pytest.mark.parametrize("value", _NOT_JSON.values(), ids=_NOT_JSON)
def test_what_is_not_json_is_refused(value: object) -> None:
    """Custom objects must be converted to dicts by their owner; nothing is bent silently."""
    with pytest.raises(SerializationError, match="not JSON"):
        serialize(value)


@pytest.mark.parametrize("text", ["", "{", b"\xff", "nope", "[1] 2"])
def test_what_is_not_json_cannot_be_read(text: str | bytes) -> None:
    """Another program may write to the same keys."""
    with pytest.raises(SerializationError, match="not JSON"):
        deserialize(text)
