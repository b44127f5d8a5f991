"""`QueueStore`: first in, first out, between loops, processes and machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from secrets import token_hex
from typing import Any

from omniq.blocking import blocking
from omniq.clock import check_seconds
from omniq.datastore.connection import BaseConnection
from omniq.datastore.delivery import Delivery, check_lease
from omniq.datastore.names import DEFAULT_PREFIX, check_name, check_prefix
from omniq.datastore.values import deserialize, serialize
from omniq.exceptions import ValidationError

LEASE_SECONDS = 60.0


class QueueStore:
    """Queues by name. In Redis a list each, ``{prefix}queue:{name}``.

    Args:
        connection: the way to the store.
        prefix: what all keys begin with.
    """

    def __init__(self, connection: BaseConnection, prefix: str = DEFAULT_PREFIX) -> None:
        self.prefix = check_prefix(prefix)
        self._lists = connection.lists(self.prefix)

    async def push(self, queue_name: str, data: object) -> None:
        """Append an item.

        Raises:
            ValidationError: a bad name.
            SerializationError: the item is not JSON.
            StorageError: the store refuses, or cannot be reached.
        """
        await self._lists.push(check_name("queue_name", queue_name), (serialize(data),))

    async def push_many(self, queue_name: str, items: Iterable[object]) -> None:
        """Append many items in order: all or, on an error, none of them. See `push`."""
        name = check_name("queue_name", queue_name)
        if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ValidationError("items", f"expected several items, got {items!r:.80}")
        texts = [serialize(item) for item in items]
        if texts:
            await self._lists.push(name, texts)

    async def pop(self, queue_name: str, timeout: float | timedelta | None = None) -> Any:
        """Remove and return the oldest item; None if none came in time.

        A pop that waits uses a connection of its own, goes on after the store was away, and when
        it is cancelled, puts back what it had already taken.

        Args:
            queue_name: where from.
            timeout: seconds or timedelta to wait; None and 0 wait for ever.

        Raises:
            ValidationError: a bad name, or a negative timeout.
            SerializationError: the item, pushed by somebody else, is not JSON; it is removed.
            StorageError: the store refuses, or cannot be reached.
        """
        found = await self._take((check_name("queue_name", queue_name),), _wait(timeout))
        return None if found is None else found[1]

    async def pop_any(
        self, queue_names: Sequence[str], timeout: float | timedelta | None = None
    ) -> tuple[str, Any] | None:
        """Remove the oldest item of the first queue that has one; return the queue's name and it.

        See `pop`.
        """
        if isinstance(queue_names, str) or not queue_names:
            raise ValidationError("queue_names", "expected a list of at least one name")
        names = [check_name("queue_names", name) for name in queue_names]
        return await self._take(names, _wait(timeout))

    async def pop_nowait(self, queue_name: str) -> Any:
        """Remove and return the oldest item; None if there is none. See `pop`."""
        found = await self._take((check_name("queue_name", queue_name),), 0.0)
        return None if found is None else found[1]

    async def receive(
        self,
        queue_name: str,
        timeout: float | timedelta | None = None,
        *,
        lease_seconds: float | timedelta = LEASE_SECONDS,
    ) -> Delivery | None:
        """Return the oldest item on approval; None if none came in time.

        The item is out of the queue, but not gone before it is acknowledged. If that does not
        happen before its lease ends, because the consumer crashed, the next `receive` finds it at
        the front of the queue.

        Raises:
            ValidationError: a bad name, a negative timeout, or a lease that is not above 0.
            SerializationError: the item, pushed by somebody else, is not JSON; it is removed.
            StorageError: the store refuses, or cannot be reached.
        """
        name, seconds = check_name("queue_name", queue_name), _wait(timeout)
        lease, receipt = check_lease(lease_seconds), token_hex(16)
        text = await self._lists.lease(name, receipt, lease, seconds)
        if text is None:
            return None
        delivery = Delivery(name, receipt, self._lists)
        try:
            delivery.data = deserialize(text)
        except ValidationError:
            await delivery.acknowledge()
            raise
        return delivery

    async def length(self, queue_name: str) -> int:
        """Return how many items wait."""
        return await self._lists.length(check_name("queue_name", queue_name))

    async def clear(self, queue_name: str) -> int:
        """Remove all items, received ones too; return how many were waiting."""
        return await self._lists.clear(check_name("queue_name", queue_name))

    push_sync = blocking(push)
    push_many_sync = blocking(push_many)
    pop_sync = blocking(pop)
    pop_any_sync = blocking(pop_any)
    pop_nowait_sync = blocking(pop_nowait)
    receive_sync = blocking(receive)
    length_sync = blocking(length)
    clear_sync = blocking(clear)

    async def _take(self, names: Sequence[str], seconds: float | None) -> tuple[str, Any] | None:
        found = await self._lists.take(names, seconds)
        return None if found is None else (found[0], deserialize(found[1]))


def _wait(timeout: float | timedelta | None) -> float | None:
    """Return the seconds to wait; None for ever."""
    return None if timeout is None else check_seconds("timeout", timeout) or None
