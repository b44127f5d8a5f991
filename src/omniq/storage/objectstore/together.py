"""Many requests at once, and what they have in common."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from itertools import takewhile
from typing import Any, TypeVar

T = TypeVar("T")


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results, in order; when one fails, end the others and raise its error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def rounds(names: Sequence[str]) -> list[list[int]]:
    """Return the places of a batch in rounds, in each of which no name occurs twice."""
    found: list[list[int]] = []
    turns: Counter[str] = Counter()
    for place, name in enumerate(names):
        if turns[name] == len(found):
            found.append([])
        found[turns[name]].append(place)
        turns[name] += 1
    return found


def commonprefix(texts: Sequence[str]) -> str:
    """Return how all of these begin."""
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
