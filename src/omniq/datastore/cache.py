"""`CacheStore`: values by key, kept for a time or for good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from omniq.blocking import blocking
from omniq.clock import check_seconds
from omniq.datastore.connection import BaseConnection
from omniq.datastore.names import DEFAULT_PREFIX, check_name, check_prefix
from omniq.datastore.values import deserialize, serialize
from omniq.exceptions import ValidationError


class CacheStore:
    """Values by key. In Redis a string each, ``{prefix}cache:{key}``.

    Args:
        connection: the way to the store.
        prefix: what all keys begin with.
    """

    def __init__(self, connection: BaseConnection, prefix: str = DEFAULT_PREFIX) -> None:
        self.prefix = check_prefix(prefix)
        self._strings = connection.strings(self.prefix)

    async def set(self, key: str, value: object, ttl: float | timedelta | None = None) -> None:
        """Keep a value under a key, in place of the one before.

        Args:
            key: any text but the empty one.
            value: plain JSON.
            ttl: seconds or timedelta after which it is gone; None keeps it.

        Raises:
            ValidationError: a bad key, or a ttl that is not above 0.
            SerializationError: the value is not JSON.
            StorageError: the store refuses, or cannot be reached.
        """
        await self._strings.set({check_name("key", key): serialize(value)}, _ttl_seconds(ttl))

    async def get(self, key: str) -> Any:
        """Return the value of a key; None if there is none, or its time has passed.

        Raises:
            SerializationError: somebody else stored what is not JSON.
            StorageError: the store refuses, or cannot be reached.
        """
        (text,) = await self._strings.get((check_name("key", key),))
        return None if text is None else deserialize(text)

    async def delete(self, key: str) -> bool:
        """Forget the value of a key; whether there was one."""
        return await self._strings.delete(check_name("key", key))

    async def exists(self, key: str) -> bool:
        """Whether a key has a value now."""
        return await self._strings.exists(check_name("key", key))

    async def set_many(
        self, values: Mapping[str, object], ttl: float | timedelta | None = None
    ) -> None:
        """Keep many values, all or, on an error, none of them. See `set`."""
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ValidationError("values", f"expected a dict, got {type(values).__name__}")
        texts = {check_name("key", key): serialize(value) for key, value in values.items()}
        ttl_seconds = _ttl_seconds(ttl)
        if texts:
            await self._strings.set(texts, ttl_seconds)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of those keys that have one. See `get`."""
        if isinstance(keys, str):
            raise ValidationError("keys", "expected several keys, got one string")
        names = [check_name("key", key) for key in keys]
        texts = await self._strings.get(names) if names else []
        found = zip(names, texts, strict=True)
        return {name: deserialize(text) for name, text in found if text is not None}

    set_sync = blocking(set)  # noqa: A003 - `set` is the method above
    get_sync = blocking(get)
    delete_sync = blocking(delete)
    exists_sync = blocking(exists)
    set_many_sync = blocking(set_many)
    get_many_sync = blocking(get_many)


def _ttl_seconds(ttl: float | timedelta | None) -> float | None:
    if ttl is None:
        return None
    seconds = check_seconds("ttl", ttl)
    if seconds <= 0:
        raise ValidationError("ttl", "must be more than 0 seconds; None keeps a value for good")
    return max(seconds, _SHORTEST_TTL_SECONDS)


_SHORTEST_TTL_SECONDS = 0.001
