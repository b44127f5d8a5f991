"""`ScheduleContract`: all that a schedule storage must do."""

from __future__ import annotations

import pytest

from omniq.backend.base import BaseBackend
from omniq.storage.base import BaseScheduleStorage
from omniq.testing.contract.schedules_firing import FiringContract, PausingContract
from omniq.testing.contract.schedules_saving import SavingContract


@pytest.mark.asyncio
class ScheduleContract(SavingContract, FiringContract, PausingContract):
    """Subclass this. `schedules` is new and empty; `second` is another object on that store."""

    @pytest.fixture
    def schedules(self, backend: BaseBackend) -> BaseScheduleStorage:
        """Return the schedule storage under test."""
        return backend.get_schedule_storage()

    @pytest.fixture
    def second(self, second_backend: BaseBackend) -> BaseScheduleStorage:
        """Return another object on the same store, or skip where stores are not shared."""
        return second_backend.get_schedule_storage()
