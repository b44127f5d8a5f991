"""`Delivery`: an item a consumer has on approval."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from omniq.blocking import blocking
from omniq.clock import check_seconds
from omniq.datastore.connection import Lists
from omniq.exceptions import ValidationError


class Delivery:
    """An item out of its queue until it is acknowledged, released, or its lease ends.

    As a context manager it is acknowledged at the end of the block, and released if the block
    raises.

    Attributes:
        data: the item.
        queue_name: where it came from.
    """

    data: Any = None

    def __init__(self, queue_name: str, receipt: str, lists: Lists) -> None:
        self.queue_name = queue_name
        self._receipt = receipt
        self._lists = lists

    def __repr__(self) -> str:
        return f"Delivery({self.queue_name!r}, {self._receipt!r})"

    async def acknowledge(self) -> bool:
        """Forget the item: it is dealt with. False: the lease had ended, others may have it."""
        return await self._lists.settle(self.queue_name, self._receipt, put_back=False)

    async def release(self) -> bool:
        """Put the item back to the front of its queue. False: the lease had ended."""
        return await self._lists.settle(self.queue_name, self._receipt, put_back=True)

    async def extend(self, lease_seconds: float | timedelta) -> bool:
        """Let the lease end so long from now. False: it had ended."""
        return await self._lists.extend(self.queue_name, self._receipt, check_lease(lease_seconds))

    acknowledge_sync = blocking(acknowledge)
    release_sync = blocking(release)
    extend_sync = blocking(extend)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await (self.acknowledge() if error is None else self.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.acknowledge_sync()
        else:
            self.release_sync()


def check_lease(lease_seconds: float | timedelta) -> float:
    """Return the seconds of a lease.

    Raises:
        ValidationError: not above 0.
    """
    seconds = check_seconds("lease_seconds", lease_seconds)
    if seconds <= 0:
        raise ValidationError("lease_seconds", "must be more than 0")
    return seconds
