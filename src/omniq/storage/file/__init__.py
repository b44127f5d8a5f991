"""All four components in files, on a local disk or an object store."""

from omniq.storage.file.events import AsyncFileEventStorage, FileEventStorage

__all__ = ["AsyncFileEventStorage", "FileEventStorage"]
