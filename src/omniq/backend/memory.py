"""`MemoryBackend`: tasks, results, events and schedules in the memory of one process."""

from __future__ import annotations

from omniq.backend.base import BaseBackend
from omniq.serialization import SerializationFormat
from omniq.storage.memory import (
    MemoryEventStorage,
    MemoryQueue,
    MemoryResultStorage,
    MemoryScheduleStorage,
)


class MemoryBackend(BaseBackend):
    """The four components in memory. Two backends share nothing; closing one keeps its data.

    Args:
        serialization_format: how arguments and results are encoded; ``pickle`` takes any
            picklable value.
    """

    capabilities = MemoryQueue.capabilities

    def __init__(self, *, serialization_format: SerializationFormat = "json") -> None:
        super().__init__()
        self._format: SerializationFormat = serialization_format

    def _make_queue(self) -> MemoryQueue:
        return MemoryQueue(serialization_format=self._format)

    def _make_results(self) -> MemoryResultStorage:
        return MemoryResultStorage(serialization_format=self._format)

    def _make_events(self) -> MemoryEventStorage:
        return MemoryEventStorage(serialization_format=self._format)

    def _make_schedules(self) -> MemoryScheduleStorage:
        return MemoryScheduleStorage(serialization_format=self._format)


AsyncMemoryBackend = MemoryBackend
