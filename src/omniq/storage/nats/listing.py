"""Reading by pages in the order of ids, which a stream does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from omniq.storage.nats.jetstream import Stream


class Listed(NamedTuple):
    """The ids on some patterns, perhaps some more, as of a sequence of the stream."""

    ids: list[str]
    patterns: tuple[str, ...]
    seen: int


class Listing:
    """All ids are listed for the first page. Going on from there costs only what is new since.

    Only the last page is remembered, whoever asked for it: another caller's, or one of other
    patterns, is listed anew.
    """

    def __init__(self, stream: Stream, pattern: str, id_of: Callable[[str], str]) -> None:
        self._stream = stream
        self._pattern = pattern
        self._id_of = id_of
        self._last: str | None = None
        self._rest = Listed([], (), 0)

    async def ids_after(self, after: str | None, patterns: Sequence[str]) -> Listed:
        """Return the ids greater than `after`, sorted."""
        wanted, rest, is_next = tuple(patterns), self._rest, after == self._last
        self._last = None
        if after is None or not is_next or rest.patterns != wanted:
            ids, seen = list[str](), await self._stream.last_sequence()
            for pattern in patterns:
                ids += map(self._id_of, await self._stream.subjects(pattern))
        else:
            ids, seen = list(rest.ids), rest.seen
            async for page in self._stream.pages(self._pattern, start=seen + 1):
                ids += [self._id_of(stored.subject) for stored in page]
                seen = page[-1].sequence
        return Listed(sorted({one for one in ids if after is None or one > after}), wanted, seen)

    def go_on_after(self, last: str, listed: Listed) -> None:
        """Remember where a page ended, and what it was taken from."""
        ids = [one for one in listed.ids if one > last]
        self._last, self._rest = last, listed._replace(ids=ids)
