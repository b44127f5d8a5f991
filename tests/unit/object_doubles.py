"""An object store in a dict, with faults and a clock of its own, to try a log on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from omniq.exceptions import StorageUnavailableError
from omniq.storage.file.location import Location
from omniq.storage.objectstore.driver import ABSENT, PAGE, Entry, ObjectDriver, Page, Stored
from omniq.storage.objectstore.trust import Reading, TrustClock

START = datetime(2025, 3, 1, tzinfo=UTC)
Fault = Callable[[str, str], Awaitable[None]]
"""Called with the request and its key; what it raises is what the caller gets."""


async def nothing(what: str, key: str) -> None:
    """No fault."""


class FakeClock(TrustClock):
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> Reading:
        return Reading(self.seconds, self.seconds)

    def seconds_since(self, reading: Reading) -> float:
        return self.seconds - reading.boot


class DictStore:
    """What is stored; shared by the drivers of all processes."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[Stored, datetime]] = {}
        self.clock = FakeClock()
        self.written: Counter[str] = Counter()
        self.versions = 0

    def keys(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        return sorted(key[len(folder) + 1 :] for key in self.objects if key.startswith(folder))

    def write(self, key: str, data: bytes) -> str:
        self.versions += 1
        self.written[key] += 1
        moment = START + timedelta(seconds=self.clock.seconds)
        self.objects[key] = Stored(data, str(self.versions)), moment
        return str(self.versions)


class DictDriver(ObjectDriver):
    """A driver of a `DictStore`. `before` and `after` are called around each request."""

    def __init__(self, store: DictStore, *, is_conditional: bool = True) -> None:
        super().__init__(Location("dict", "store", {}))
        self.store = store
        self.is_conditional = is_conditional
        self.before: Fault = nothing
        self.after: Fault = nothing

    async def open(self, user: object = None) -> None: ...

    async def close(self, user: object = None) -> None: ...

    async def get(self, key: str, *, size: int = 0) -> Stored | None:
        await self._at("get", key)
        found = self.store.objects.get(key)
        await self.after("get", key)
        return None if found is None else found[0]

    async def put(self, key: str, data: bytes, *, expected: str | None = None) -> str | None:
        await self._at("put", key)
        there = self.store.objects.get(key)
        version = ABSENT if there is None else there[0].version
        wins = expected is None or expected == version
        written = self.store.write(key, data) if wins else None
        await self.after("put", key)
        return written

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._at("delete", key)
            self.store.objects.pop(key, None)

    async def list(self, prefix: str, *, after: str = "", limit: int = PAGE) -> list[Entry]:
        await self._at("list", prefix)
        keys = [key for key in sorted(self.store.objects) if key.startswith(prefix) and key > after]
        found = [(key, *self.store.objects[key]) for key in keys[:limit]]
        await self.after("list", prefix)
        return [Entry(key, len(stored.data), moment) for key, stored, moment in found]

    async def _at(self, what: str, key: str) -> None:
        self.requests[what] += 1
        await self.before(what, key)

    async def _connect(self) -> None: ...

    async def _shut(self) -> None: ...

    async def _get(self, key: str) -> Stored | None:
        raise NotImplementedError

    async def _put(self, key: str, data: bytes, expected: str | None) -> str | None:
        raise NotImplementedError

    async def _remove(self, key: str, version: str) -> bool:
        raise NotImplementedError

    async def _delete(self, keys: list[str]) -> None:
        raise NotImplementedError

    async def _list(self, prefix: str, after: str, limit: int, token: str) -> Page:
        raise NotImplementedError

    def _translated(self, error: Exception, what: str) -> StorageUnavailableError:
        raise NotImplementedError


def once(fault: Fault, *, what: str = "put") -> Fault:
    """Return a fault that strikes the first request of this kind only."""
    struck = False

    async def strike(request: str, key: str) -> None:
        nonlocal struck
        if request == what and not struck:
            struck = True
            await fault(request, key)

    return strike


async def unanswered(what: str, key: str) -> None:
    """Fail as a driver does when no answer comes."""
    raise StorageUnavailableError(f"{what} {key}: no answer")
