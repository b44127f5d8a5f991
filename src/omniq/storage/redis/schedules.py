"""Schedules in Redis or Valkey."""

from __future__ import annotations

from datetime import datetime
from typing import Unpack

from omniq.clock import from_micros, to_micros
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.redis.address import RedisOptions
from omniq.storage.redis.component import RedisComponent, micros_or_empty, server_of
from omniq.storage.redis.scripts import script
from omniq.storage.redis.server import RedisServer
from omniq.storage.schedules import BaseScheduleStorage


class RedisScheduleStorage(RedisComponent, BaseScheduleStorage):
    """Schedules on a Redis or Valkey server. Arguments as those of `RedisResultStorage`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        server: RedisServer | None = None,
        **options: Unpack[RedisOptions],
    ) -> None:
        super().__init__()
        self._server = server_of(url, server, options)
        self._codec = RecordCodec(
            Schedule, ("args", "kwargs", "metadata"), format=serialization_format
        )
        self._key = self._server.key("schedules")

    async def _save(self, schedule: Schedule) -> None:
        await self._write(schedule, "", again=True)

    async def _add(self, schedule: Schedule) -> bool:
        return await self._write(schedule, _NONE, again=False)

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        return await self._write(after, _state(before), again=False)

    async def _write(self, schedule: Schedule, expected: str, *, again: bool) -> bool:
        active = schedule.status is ScheduleStatus.ACTIVE
        due = micros_or_empty(schedule.next_run_at if active else None)
        arguments = (schedule.id, expected, _state(schedule), due, self._codec.encode(schedule))
        return bool(await self._server.run(_WRITE, *arguments, again=again, lasting=True))

    async def _get(self, schedule_id: str) -> Schedule | None:
        value = await self._server.call("HGET", self._key, schedule_id, again=True)
        return None if value is None else self._read(value)

    async def _list(self) -> list[Schedule]:
        values = await self._server.call("HVALS", self._key, again=True)
        return sorted(map(self._read, values), key=lambda schedule: schedule.id)

    async def _delete(self, schedule_id: str) -> bool:
        return bool(await self._server.run(_WRITE, schedule_id, "", "", "", ""))

    async def _ready(self, now: datetime) -> list[Schedule]:
        values = await self._server.run(_READY, to_micros(now), again=True)
        return [self._read(value) for value in values]

    async def _next_due(self) -> datetime | None:
        key = self._server.key("schedules", "due")
        first = await self._server.call("ZRANGE", key, 0, 0, "WITHSCORES", again=True)
        return from_micros(int(float(first[-1]))) if first else None

    def _read(self, value: bytes) -> Schedule:
        schedule: Schedule = self._codec.decode(value.partition(b"\n")[2])
        return schedule


def _state(schedule: Schedule) -> str:
    """Return what a compare-and-swap compares."""
    state = f"{schedule.status}|{micros_or_empty(schedule.next_run_at)}|{schedule.run_count}"
    return f"{state}|{schedule.revision}" if schedule.revision else state


_NONE = "none"
_WRITE = script("schedule_write")
_READY = script("schedule_ready")
AsyncRedisScheduleStorage = RedisScheduleStorage
