"""Batches that are sent to a server in several calls, as each takes only so much."""

from __future__ import annotations

import sys
from collections.abc import Sequence

BYTES_PER_CALL = 16 << 20
"""The data of one call. Servers refuse one of half a gigabyte (an argument of Redis) or of one (a
message to PostgreSQL), hold it more than once, and must answer in time."""


def are_several(encoded: Sequence[bytes]) -> bool:
    """Whether a batch is too large for one call."""
    return sum(map(len, encoded)) > BYTES_PER_CALL


def cut(encoded: Sequence[bytes], most: int = sys.maxsize) -> list[tuple[int, int]]:
    """Return where the parts of a batch start and end: of a bounded size, and of `most` items."""
    found: list[tuple[int, int]] = []
    start = size = 0
    for position, data in enumerate(encoded):
        full = position - start >= most or size + len(data) > BYTES_PER_CALL
        if full and position > start:
            found.append((start, position))
            start, size = position, 0
        size += len(data)
    return [*found, (start, len(encoded))]
