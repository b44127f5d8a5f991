"""The specified home of `MemoryResultStorage`."""

from omniq.storage.memory import AsyncMemoryResultStorage, MemoryResultStorage

__all__ = ["AsyncMemoryResultStorage", "MemoryResultStorage"]
