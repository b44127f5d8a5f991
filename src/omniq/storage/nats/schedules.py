"""`NATSScheduleStorage`: schedules in a key-value bucket of JetStream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from omniq.exceptions import StaleTaskError
from omniq.models.schedule import Schedule
from omniq.serialization import RecordCodec, SerializationFormat
from omniq.storage.nats.address import NATSOptions
from omniq.storage.nats.answers import Stored
from omniq.storage.nats.component import (
    BUCKET_REQUIRED,
    NATSComponent,
    bucket_config,
    server_of,
    token,
)
from omniq.storage.nats.frames import Frame, lines
from omniq.storage.nats.jetstream import EXPECTED, Stream
from omniq.storage.nats.link import NATSServer
from omniq.storage.schedules import BaseScheduleStorage, fence

ATTEMPTS = 100


class NATSScheduleStorage(NATSComponent, BaseScheduleStorage):
    """Schedules in the bucket ``<namespace>_schedules``, changed by revision.

    Args:
        servers: one URL or several, see `omniq.storage.nats.address`.
        serialization_format: how new records are encoded.
        server: share this handle instead of making one.
        options: see `NATSOptions`.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        server: NATSServer | None = None,
        **options: Unpack[NATSOptions],
    ) -> None:
        super().__init__()
        self._server = server_of(servers, server, options)
        bucket = f"{self._server.prefix}_schedules"
        self._prefix = f"$KV.{bucket}."
        wake = f"{self._server.prefix}.wake.schedules"
        self.stream = Stream(
            self._server, f"KV_{bucket}", bucket_config(bucket, wake), BUCKET_REQUIRED
        )
        self._codec = RecordCodec(
            Schedule, ("args", "kwargs", "metadata"), format=serialization_format
        )

    async def _save(self, schedule: Schedule) -> None:
        await self.stream.publish([self._frame(schedule, b"")])

    async def _add(self, schedule: Schedule) -> bool:
        found = await self.stream.last([self._prefix + token(schedule.id)])
        if found and found[0].data:
            return False
        expected = lines({EXPECTED: found[0].sequence if found else 0})
        return bool((await self.stream.publish([self._frame(schedule, expected)]))[0])

    async def _get(self, schedule_id: str) -> Schedule | None:
        found = await self._last(schedule_id)
        return None if found is None else self._codec.decode(found.data)

    async def _list(self) -> list[Schedule]:
        stored = await self.stream.all(f"{self._prefix}>")
        found = [self._codec.decode(one.data) for one in stored if one.data]
        return sorted(found, key=lambda schedule: schedule.id)

    async def _delete(self, schedule_id: str) -> bool:
        return await self.stream.purge(self._prefix + token(schedule_id)) > 0

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        for _ in range(ATTEMPTS):
            found = await self._last(before.id)
            if found is None or fence(self._codec.decode(found.data)) != fence(before):
                return False
            expected = lines({EXPECTED: found.sequence})
            if (await self.stream.publish([self._frame(after, expected)]))[0]:
                return True
        raise StaleTaskError(f"schedule {before.id} kept changing; try again")

    async def _last(self, schedule_id: str) -> Stored | None:
        found = await self.stream.last([self._prefix + token(schedule_id)])
        return found[0] if found and found[0].data else None

    def _frame(self, schedule: Schedule, headers: bytes) -> Frame:
        return Frame(self._prefix + token(schedule.id), self._codec.encode(schedule), headers)


AsyncNATSScheduleStorage = NATSScheduleStorage
NatsScheduleStorage = NATSScheduleStorage
AsyncNatsScheduleStorage = NATSScheduleStorage
