"""`MemoryScheduleStorage`: schedules in memory."""

from __future__ import annotations

import threading

from omniq.models.schedule import Schedule
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.memory.component import MemoryComponent
from omniq.storage.schedules import BaseScheduleStorage, fence


class MemoryScheduleStorage(MemoryComponent, BaseScheduleStorage):
    """Schedules in the memory of this process. Safe to use from any thread and event loop.

    Args:
        serialization_format: how arguments are encoded; ``pickle`` takes any picklable value.
    """

    def __init__(self, *, serialization_format: SerializationFormat = "json") -> None:
        super().__init__()
        self._codec = RecordCodec(
            Schedule, ("args", "kwargs", "metadata"), format=serialization_format
        )
        self._lock = threading.Lock()
        self._encoded: dict[str, bytes] = {}

    async def _save(self, schedule: Schedule) -> None:
        data = self._codec.encode(schedule)
        with self._lock:
            self._encoded[schedule.id] = data

    async def _get(self, schedule_id: str) -> Schedule | None:
        with self._lock:
            return self._stored(schedule_id)

    async def _list(self) -> list[Schedule]:
        with self._lock:
            encoded = sorted(self._encoded.items())
        return [self._codec.decode(data) for _, data in encoded]

    async def _delete(self, schedule_id: str) -> bool:
        with self._lock:
            return self._encoded.pop(schedule_id, None) is not None

    async def _add(self, schedule: Schedule) -> bool:
        data = self._codec.encode(schedule)
        with self._lock:
            return self._encoded.setdefault(schedule.id, data) is data

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        data = self._codec.encode(after)
        with self._lock:
            stored = self._stored(before.id)
            if stored is None or fence(stored) != fence(before):
                return False
            self._encoded[before.id] = data
            return True

    def _stored(self, schedule_id: str) -> Schedule | None:
        data = self._encoded.get(schedule_id)
        return None if data is None else self._codec.decode(data)
