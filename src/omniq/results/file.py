"""The specified home of `FileResultStorage`."""

from omniq.storage.file import AsyncFileResultStorage, FileResultStorage

__all__ = ["AsyncFileResultStorage", "FileResultStorage"]
