"""What a store of any kind has to be able to do: lists and strings of text under names.

The stores above it (`QueueStore`, `CacheStore`) check and serialise; what is below only keeps text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from omniq.blocking import blocking
from omniq.exceptions import StorageUnavailableError
from omniq.storage.component import Component

Text = str | bytes
"""A kept text, as the store gives it back."""


class Lists(ABC):
    """Lists of texts. Whatever ends a call early, no text is lost or given out twice."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def key(self, name: str) -> str:
        """Return what the list of that name is called in the store."""
        return f"{self._prefix}queue:{name}"

    @abstractmethod
    async def push(self, name: str, texts: Sequence[str]) -> None:
        """Append all texts in order, in one atomic step."""

    @abstractmethod
    async def take(self, names: Sequence[str], seconds: float | None) -> tuple[str, Text] | None:
        """Remove and return the oldest text of the first list that has one, and its list's name.

        Waits for one for so many seconds: None for ever, 0 not at all. A cancelled call puts back
        what it had already taken, before it ends.
        """

    @abstractmethod
    async def length(self, name: str) -> int:
        """Return how many texts wait."""

    @abstractmethod
    async def clear(self, name: str) -> int:
        """Remove all, leased ones too; return how many were waiting."""

    @abstractmethod
    async def lease(
        self, name: str, receipt: str, lease_seconds: float, seconds: float | None
    ) -> Text | None:
        """Set the oldest text apart under a receipt and return it, waiting as `take` does.

        Texts whose lease ended go back to the front of their list before.
        """

    @abstractmethod
    async def settle(self, name: str, receipt: str, *, put_back: bool) -> bool:
        """End a lease: forget its text, or put it back to the front. False: it had ended."""

    @abstractmethod
    async def extend(self, name: str, receipt: str, lease_seconds: float) -> bool:
        """Let a lease end so many seconds from now. False: it had ended."""


class Strings(ABC):
    """Texts by key, each with an optional end."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def key(self, name: str) -> str:
        """Return what the text of that name is called in the store."""
        return f"{self._prefix}cache:{name}"

    @abstractmethod
    async def set(self, texts: Mapping[str, str], ttl_seconds: float | None) -> None:
        """Keep all of them in one atomic step, for so many seconds or for good."""

    @abstractmethod
    async def get(self, names: Sequence[str]) -> list[Text | None]:
        """Return them in order; None for what is absent or expired."""

    @abstractmethod
    async def delete(self, name: str) -> bool:
        """Forget a text; whether there was one."""

    @abstractmethod
    async def exists(self, name: str) -> bool:
        """Whether there is a text."""


class BaseConnection(Component, ABC):
    """The way to a store: opened by the first use, closed by `close`, then opened by the next."""

    closings = 0

    async def ensure_connection(self) -> Any:
        """Open the store if it is not open, and return what it is reached through.

        Safe to be called by many at once. The connection itself, where there is nothing behind it.

        Raises:
            StorageError: the store refuses, or cannot be reached.
        """
        if not self._is_open:
            await self.connect()
        return self

    ensure_connection_sync = blocking(ensure_connection)

    async def disconnect(self) -> None:
        """Close. Idempotent; a later use opens it again. Calls that wait end with an error."""
        self.closings += 1
        await super().disconnect()

    def check_not_closed(self, closings: int) -> None:
        """Let a call end that began to wait after so many closings.

        Raises:
            StorageUnavailableError: the connection was closed since.
        """
        if self.closings != closings:
            raise StorageUnavailableError(f"{self!r} was closed while a call waited for an item")

    @abstractmethod
    def lists(self, prefix: str) -> Lists:
        """Return the lists under a prefix."""

    @abstractmethod
    def strings(self, prefix: str) -> Strings:
        """Return the strings under a prefix."""
