"""The specified home of `FileEventStorage`."""

from omniq.storage.file import AsyncFileEventStorage, FileEventStorage

__all__ = ["AsyncFileEventStorage", "FileEventStorage"]
