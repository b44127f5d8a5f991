"""Everything in the memory of one process: no server, no file, and nothing left at its end."""

from omniq.storage.memory.events import MemoryEventStorage
from omniq.storage.memory.queue import MemoryQueue
from omniq.storage.memory.results import MemoryResultStorage
from omniq.storage.memory.schedules import MemoryScheduleStorage

AsyncMemoryQueue = MemoryQueue
AsyncMemoryResultStorage = MemoryResultStorage
AsyncMemoryEventStorage = MemoryEventStorage
AsyncMemoryScheduleStorage = MemoryScheduleStorage

__all__ = [
    "AsyncMemoryEventStorage",
    "AsyncMemoryQueue",
    "AsyncMemoryResultStorage",
    "AsyncMemoryScheduleStorage",
    "MemoryEventStorage",
    "MemoryQueue",
    "MemoryResultStorage",
    "MemoryScheduleStorage",
]
