"""Reading by pages in the order of ids, which a stream does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omniq.storage.nats.jetstream import Stream


class Listing:
    """All ids are listed for the first page. Going on from there costs only what is new since."""

    def __init__(self, stream: Stream, pattern: str, id_of: Callable[[str], str]) -> None:
        self._stream = stream
        self._pattern = pattern
        self._id_of = id_of
        self._last: str | None = None
        self._ids: list[str] = []
        self._seen = 0

    async def ids_after(self, after: str | None, patterns: Sequence[str]) -> list[str]:
        """Return the ids greater than `after`, sorted: all on `patterns`, perhaps some more."""
        last, ids, seen = self._last, self._ids, self._seen
        self._last = None
        if after is None or after != last:
            seen, ids = await self._stream.last_sequence(), list[str]()
            for pattern in patterns:
                ids += map(self._id_of, await self._stream.subjects(pattern))
        else:
            async for page in self._stream.pages(self._pattern, start=seen + 1):
                ids += [self._id_of(stored.subject) for stored in page]
                seen = page[-1].sequence
        self._seen = seen
        return sorted({one for one in ids if after is None or one > after})

    def go_on_after(self, last: str, ids: Sequence[str]) -> None:
        """Remember where a page ended, and the ids it was taken from."""
        self._last, self._ids = last, [one for one in ids if one > last]
