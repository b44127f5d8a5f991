"""Two listings as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


Fetch = Callable[[str | None], Awaitable[tuple[dict[str, T], str | None]]]
"""Takes the key to go on after; returns items by key, and the last key looked at (None: all)."""


async def merged(here: Fetch[T], there: Fetch[T], after: str | None, limit: int) -> list[T]:
    """Return a page of both by key; of two items with one key, that of `there`."""
    found: list[T] = []
    while True:
        own, own_last = await here(after)
        others, others_last = await there(after)
        last = min((key for key in (own_last, others_last) if key is not None), default=None)
        both = own | others
        found += [both[key] for key in sorted(both) if last is None or key <= last]
        if last is None or len(found) >= limit:
            return found[:limit]
        after = last
