"""`ObjectDriver`: the four requests everything in an object store is made of.

Requests run on the event loop of fsspec, in a thread of its own: a driver may be used from any
event loop, and from code without one.

Every write may carry a condition. A write whose reply was lost is found out about by reading the
object back: if it holds exactly the bytes that were sent, the write was ours. So **whoever writes
with a condition puts something unique into the bytes** (a nonce).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, TypeVar
from uuid import uuid4

from fsspec.asyn import get_loop

from omniq.exceptions import ConfigError, StorageError, StorageUnavailableError
from omniq.storage.component import Capabilities
from omniq.storage.file.location import Location
from omniq.storage.objectstore.alone import lock_of, warn_once
from omniq.storage.objectstore.deadlines import (
    CALL_SECONDS,
    CONNECT_SECONDS,
    REQUEST_SECONDS,
    allowed,
)
from omniq.storage.objectstore.errors import doubtful, unanswered
from omniq.storage.objectstore.keys import check_key
from omniq.storage.objectstore.together import together

T = TypeVar("T")

ABSENT: Final = ""
"""The version of an object that is not there."""
PAGE = 1000
PARALLEL = 32
TRIES = 5
PROBE = ".omniq-probe"
_PAUSE_SECONDS = (0.1, 3.0)


class Stored(NamedTuple):
    """An object. Its version is opaque: an etag, a generation."""

    data: bytes
    version: str


class Entry(NamedTuple):
    """An object in a listing; not every store tells its version there."""

    key: str
    size: int
    modified_at: datetime | None
    version: str = ABSENT


Keys = list[str]
Entries = list[Entry]


class Page(NamedTuple):
    """A part of a listing; `token` asks for what follows, empty: nothing does."""

    entries: list[Entry]
    token: str = ""


class ObjectDriver(ABC):
    """Reads and writes objects below a location; keys are relative to it.

    A store provides `_connect`, `_shut` and the requests `_get`, `_put`, `_remove`, `_delete` and
    `_list`. Counting, deadlines, repeating what may be repeated and finding out about lost replies
    are written once, here.

    Args:
        location: bucket and path, with the options of its file system.
        request_seconds: how long one request may take, beside the time its bytes need.
        call_seconds: how long a request and its repetitions may take altogether, likewise.
        parallel: requests under way at once.
    """

    has_conditions: ClassVar[bool] = True
    """Whether the store promises to honour conditions; `open` finds out whether it does."""
    most_deleted: ClassVar[int] = 1
    """How many objects one request deletes at most."""

    def __init__(
        self,
        location: Location,
        *,
        request_seconds: float = REQUEST_SECONDS,
        call_seconds: float = CALL_SECONDS,
        parallel: int = PARALLEL,
    ) -> None:
        self.location = location
        self.is_conditional = self.has_conditions
        self.requests: Counter[str] = Counter()
        self._request_seconds = request_seconds
        self._call_seconds = call_seconds
        self._parallel = parallel
        self._users: set[object] = set()
        self._forget()

    def __str__(self) -> str:
        return repr(self.location)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What components on this store promise; final once it is open."""
        return Capabilities(durable=self.location.protocol != "memory", shared=self.is_conditional)

    async def open(self, user: object = None) -> None:
        """Connect, find out what the store promises, and count `user` among those who need it.

        Every request opens by itself, too.

        Raises:
            ConfigError: an option makes no sense, or the package of this store is not installed.
            StorageError: the store cannot be reached, or refuses.
        """
        await self._on_loop(self._opened())
        self._users.add(user)

    async def close(self, user: object = None) -> None:
        """Let `user` go; the last one closes the connections. Idempotent."""
        self._users.discard(user)
        if not self._users and self._pid == os.getpid():
            await self._on_loop(self._closed())

    async def get(self, key: str, *, size: int = 0) -> Stored | None:
        """Return an object, or None where there is none.

        Args:
            key: where.
            size: how large it is, where that is known: a large one takes its time.
        """
        check_key(key)
        return await self._on_loop(self._repeated("get", key, partial(self._get, key), size))

    async def put(self, key: str, data: bytes, *, expected: str | None = None) -> str | None:
        """Write an object; return its new version, or None if it was not as expected.

        Args:
            key: where.
            data: with a condition, something nobody else ever writes.
            expected: None: whatever is there is replaced; `ABSENT`: only if there is none; a
                version: only if it is that still.

        Raises:
            StorageUnavailableError: no answer; the object may or may not have been written.
        """
        check_key(key)
        work = partial(self._put, key, data, None)
        if expected is None:
            return await self._on_loop(self._repeated("put", key, work, len(data)))
        return await self._on_loop(self._put_expecting(key, data, expected))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error."""
        for key in keys:
            check_key(key)
        if keys:
            await self._on_loop(self._delete_all(list(dict.fromkeys(keys))))

    async def remove(self, key: str, version: str) -> bool:
        """Delete an object if it is of that version still; return whether it was.

        False as well where the reply to the request that deleted it was lost. A store that knows
        conditions only for writing deletes whatever is there.
        """
        check_key(key)
        return await self._on_loop(self._remove_expecting(key, version))

    async def list(self, prefix: str, *, after: str = "", limit: int = PAGE) -> Entries:
        """Return the objects whose keys begin with `prefix`, by key; one request a thousand.

        Args:
            prefix: of the keys, to the letter.
            after: only keys greater than this one.
            limit: the first so many; fewer come back only if there are no more.
        """
        return await self._on_loop(self._list_all(prefix, after, limit))

    @abstractmethod
    async def _connect(self) -> None:
        """Make what the requests need; nothing of it is used after `_shut`."""

    @abstractmethod
    async def _shut(self) -> None:
        """Give back what `_connect` took."""

    @abstractmethod
    async def _get(self, key: str) -> Stored | None: ...

    @abstractmethod
    async def _put(self, key: str, data: bytes, expected: str | None) -> str | None:
        """As `put`, for one request; None also where the store could not decide."""

    @abstractmethod
    async def _remove(self, key: str, version: str) -> bool: ...

    @abstractmethod
    async def _delete(self, keys: Keys) -> None: ...

    @abstractmethod
    async def _list(self, prefix: str, after: str, limit: int, token: str) -> Page: ...

    @abstractmethod
    def _translated(self, error: Exception, what: str) -> StorageError | ConfigError:
        """Return our error for one of the library's."""

    @property
    def _identity(self) -> bytes:
        """A hash of all that leads to the store; it gives no option away."""
        protocol, path, options = self.location
        parts = (protocol, path, sorted(options.items(), key=lambda item: item[0]))
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, get_loop()))

    def _forget(self) -> None:
        """Begin anew: in a forked process nothing of the connections of its parent is usable."""
        self._pid = os.getpid()
        self._is_open = False
        self._gate = asyncio.Lock()
        self._slots = asyncio.Semaphore(self._parallel)

    async def _opened(self) -> None:
        if self._pid != os.getpid():
            self._forget()
        if self._is_open:
            return
        async with self._gate:
            if self._is_open:
                return
            try:
                await self._answered("connecting", self._connect, CONNECT_SECONDS)
                self.is_conditional = self.has_conditions and await self._is_honest()
            except BaseException:
                await self._shut()
                raise
            self._is_open = True
        if not self.is_conditional:
            warn_once(str(self))

    async def _closed(self) -> None:
        async with self._gate:
            if self._is_open:
                self._is_open = False
                await self._shut()

    async def _is_honest(self) -> bool:
        """Whether the store honours conditions; found out once a process for each bucket."""
        if self._identity not in _honest:
            if not await self._is_proven():
                return False
            _honest.add(self._identity)
        await self._repeat("get", PROBE, partial(self._get, PROBE))
        return True

    async def _is_proven(self) -> bool:
        """Whether a second create and a stale replacement are refused."""
        for _ in range(TRIES):
            key = f"{PROBE}-{uuid4().hex}"
            put = partial(self._repeat, "put", key)
            first = await put(partial(self._put, key, b"1", ABSENT))
            second = await put(partial(self._put, key, b"2", ABSENT))
            third = first and await put(partial(self._put, key, b"3", first))
            fourth = first and await put(partial(self._put, key, b"4", first))
            await self._repeat("delete", key, partial(self._delete, [key]))
            if second or fourth:
                return False
            if first and third:
                return True
        return False

    async def _put_expecting(self, key: str, data: bytes, expected: str) -> str | None:
        await self._opened()
        if not self.is_conditional:
            return await self._put_alone(key, data, expected)
        for attempt in range(TRIES):
            size = len(data)
            version = await self._repeat("put", key, partial(self._put, key, data, expected), size)
            if version is not None:
                return version
            standing = await self._repeat("get", key, partial(self._get, key), size)
            if standing is not None and standing.data == data:
                return standing.version
            if _version(standing) != expected:
                return None
            await asyncio.sleep(_pause(attempt))
        raise StorageUnavailableError(
            f"{self}: put {key} failed: refused {TRIES} times although nobody changed it"
        )

    async def _put_alone(self, key: str, data: bytes, expected: str) -> str | None:
        """As `put`, where this process alone writes: nobody else comes between."""
        async with lock_of(self.location):
            standing = await self._repeat("get", key, partial(self._get, key))
            if _version(standing) != expected:
                return None
            return await self._repeat("put", key, partial(self._put, key, data, None), len(data))

    async def _remove_expecting(self, key: str, version: str) -> bool:
        await self._opened()
        if self.is_conditional:
            return await self._repeat("delete", key, partial(self._remove, key, version))
        async with lock_of(self.location):
            standing = await self._repeat("get", key, partial(self._get, key))
            if standing is None or standing.version != version:
                return False
            await self._repeat("delete", key, partial(self._delete, [key]))
            return True

    async def _delete_all(self, keys: Keys) -> None:
        step = self.most_deleted
        parts = [keys[n : n + step] for n in range(0, len(keys), step)]
        await together(
            self._repeated("delete", part[0], partial(self._delete, part)) for part in parts
        )

    async def _list_all(self, prefix: str, after: str, limit: int) -> Entries:
        found: Entries = []
        token = ""
        while len(found) < limit:
            most = min(PAGE, limit - len(found))
            page = await self._repeated(
                "list", prefix, partial(self._list, prefix, after, most, token)
            )
            found += page.entries
            token = page.token
            if not token:
                break
        return found[:limit]

    async def _repeated(
        self, what: str, key: str, work: Callable[[], Awaitable[T]], size: int = 0
    ) -> T:
        await self._opened()
        return await self._repeat(what, key, work, size)

    async def _repeat(
        self, what: str, key: str, work: Callable[[], Awaitable[T]], size: int = 0
    ) -> T:
        """Send a request, again and again while it may still succeed and there is time."""
        ends_at = time.monotonic() + allowed(self._call_seconds, size)
        attempt = 0
        while True:
            try:
                async with self._slots:
                    self.requests[what] += 1
                    seconds = allowed(self._request_seconds, size)
                    seconds *= 2 if attempt and what == "get" else 1  # larger than anybody knew?
                    return await self._answered(f"{what} {key}", work, seconds)
            except StorageUnavailableError as error:
                attempt += 1
                pause = _pause(attempt)
                if attempt >= TRIES or time.monotonic() + pause > ends_at:
                    raise doubtful(error, what) from error.__cause__
            await asyncio.sleep(pause)

    async def _answered(self, what: str, work: Callable[[], Awaitable[T]], seconds: float) -> T:
        """Wait for an answer no longer than it may take. The only place that calls a library."""
        try:
            async with asyncio.timeout(seconds):
                return await work()
        except (StorageError, ConfigError):
            raise
        except TimeoutError as error:
            raise unanswered(str(self), what, seconds) from error
        except Exception as error:
            raise self._translated(error, what) from error


def _version(stored: Stored | None) -> str:
    return ABSENT if stored is None else stored.version


def _pause(attempt: int) -> float:
    first, longest = _PAUSE_SECONDS
    return min(longest, first * 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


_honest: set[bytes] = set()
