"""What the four components in memory share."""

from __future__ import annotations

from omniq.storage.component import Capabilities


class MemoryComponent:
    """Lives as long as the object, and in its process only."""

    capabilities = Capabilities(durable=False, shared=False, wakes=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def store_name(self) -> str:
        """See `Component.store_name`."""
        return "memory"
