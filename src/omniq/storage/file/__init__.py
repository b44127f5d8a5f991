"""All four components in files, on a local disk or an object store."""

from omniq.storage.file.events import AsyncFileEventStorage, FileEventStorage
from omniq.storage.file.queue import AsyncFileQueue, FileQueue
from omniq.storage.file.results import AsyncFileResultStorage, FileResultStorage
from omniq.storage.file.schedules import AsyncFileScheduleStorage, FileScheduleStorage

__all__ = [
    "AsyncFileEventStorage",
    "AsyncFileQueue",
    "AsyncFileResultStorage",
    "AsyncFileScheduleStorage",
    "FileEventStorage",
    "FileQueue",
    "FileResultStorage",
    "FileScheduleStorage",
]
