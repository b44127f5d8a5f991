"""Plain data: None, bool, int, float, str, and lists and dicts of such. Judged without a copy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

MAX_DEPTH = 64
MAX_ITEMS = 100_000
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
TAG = "$"
"""What the only key of a dict begins with that stands for a value which is not plain."""

_SCALAR_BYTES = 32
_CHARACTER_BYTES = 6
"""What a number, and a character of ASCII, take at most once encoded."""
_WEIGHED_LEVELS = 4
_HEAVY = 1 << 20


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is stored as it is: nothing in it needs a tag, or is refused."""
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType] - of Any
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return not (value < INT_MIN or value > INT_MAX)
    if kind is float:
        return math.isfinite(value)
    if depth >= MAX_DEPTH or kind not in (list, dict) or len(value) > MAX_ITEMS:
        return False
    if kind is dict:
        if looks_tagged(value) or not all(type(key) is str for key in value):
            return False
        value = value.values()
    for item in value:  # noqa: SIM110 - a generator costs more than the rest
        if not is_plain(item, depth + 1):
            return False
    return True


def looks_tagged(value: dict[Any, Any]) -> bool:
    """Whether a dict, stored as it is, would be taken for the tag of something else."""
    if len(value) != 1:
        return False
    key = next(iter(value))
    return type(key) is str and key.startswith(TAG)


def weight(values: Iterable[Any], levels: int = _WEIGHED_LEVELS) -> int:
    """Return how many bytes these take at most once encoded, or a million where that is not plain.

    It is plain of bools, numbers, texts in ASCII, and lists and dicts of such.
    """
    total = 0
    for value in values:
        kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType] - of Any
        total += _SCALAR_BYTES
        if kind is str:
            total += _CHARACTER_BYTES * len(value) if value.isascii() else _HEAVY
        elif kind is int:
            total += 0 if INT_MIN <= value <= INT_MAX else _HEAVY
        elif kind is float:
            total += 0 if math.isfinite(value) else _HEAVY
        elif kind is dict and levels:
            total += weight((*value, *value.values()), levels - 1) if value else 0
        elif kind is list and levels:
            total += weight(value, levels - 1)
        elif value is not None and kind is not bool:
            total += _HEAVY
        if total >= _HEAVY:
            return _HEAVY
    return total
