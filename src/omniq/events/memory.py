"""The specified home of `MemoryEventStorage`."""

from omniq.storage.memory import AsyncMemoryEventStorage, MemoryEventStorage

__all__ = ["AsyncMemoryEventStorage", "MemoryEventStorage"]
