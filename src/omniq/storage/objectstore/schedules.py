"""`ObjectScheduleStorage`: schedules in the objects of a store."""

from __future__ import annotations

import logging

from omniq.exceptions import SerializationError
from omniq.models.schedule import Schedule
from omniq.serialization import SerializationFormat
from omniq.storage.file.codec import Compression
from omniq.storage.file.location import check_folder_name
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.leaves import ScheduleLeaves
from omniq.storage.objectstore.logged import LoggedComponent, codec_of, frugal
from omniq.storage.objectstore.schedulestate import ScheduleLogState
from omniq.storage.objectstore.service import LogService
from omniq.storage.schedules import BaseScheduleStorage, fence

logger = logging.getLogger("omniq.storage.objectstore")


class ObjectScheduleStorage(LoggedComponent, BaseScheduleStorage):
    """Schedules in an object store, shared by any number of processes and machines.

    The truth is a log of objects, ``<base_dir>/schedules/.log/``. Arguments as those of
    `ObjectQueue`.
    """

    _two_at_once = "two processes would overwrite each other's schedules"

    def __init__(
        self,
        driver: ObjectDriver,
        *,
        schedules_dir: str = "schedules",
        serialization_format: SerializationFormat = "json",
        compression: Compression = "none",
        tree: bool = True,
    ) -> None:
        super().__init__()
        self.capabilities = frugal(driver)
        self._codec = codec_of(Schedule, serialization_format, compression)
        folder = check_folder_name("schedules_dir", schedules_dir)
        leaves = ScheduleLeaves(self._codec) if tree else None
        self._log = LogService(driver, folder, ScheduleLogState, leaves=leaves)

    async def _save(self, schedule: Schedule) -> None:
        text = self._codec.encode(schedule)
        await self._log.run(lambda state: state.put(schedule.id, text))

    async def _add(self, schedule: Schedule) -> bool:
        text = self._codec.encode(schedule)

        def job(state: ScheduleLogState) -> bool:
            if state.get(schedule.id) is not None:
                return False
            state.put(schedule.id, text)
            return True

        return await self._log.run(job)

    async def _get(self, schedule_id: str) -> Schedule | None:
        text = await self._log.run(lambda state: state.get(schedule_id))
        return None if text is None else self._codec.decode(text)

    async def _list(self) -> list[Schedule]:
        schedules: list[Schedule] = []
        for schedule_id, text in await self._log.run(ScheduleLogState.items):
            try:
                schedules.append(self._codec.decode(text))
            except SerializationError as error:
                logger.warning("skipped schedule %s in %r: %s", schedule_id, self._log, error)
        return schedules

    async def _delete(self, schedule_id: str) -> bool:
        def job(state: ScheduleLogState) -> bool:
            there = state.get(schedule_id) is not None
            state.put(schedule_id, None)
            return there

        return await self._log.run(job)

    async def _replace(self, before: Schedule, after: Schedule) -> bool:
        text = self._codec.encode(after)

        def job(state: ScheduleLogState) -> bool:
            standing = state.get(before.id)
            if standing is None or fence(self._codec.decode(standing)) != fence(before):
                return False
            state.put(before.id, text)
            return True

        return await self._log.run(job)
