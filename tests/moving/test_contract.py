"""While it moves, a store keeps the whole contract."""

from __future__ import annotations

from omniq.testing.contract import (
    EventContract,
    QueueContract,
    ResultContract,
    ScheduleContract,
)


class TestMovingQueue(QueueContract):
    """Tasks over two stores."""


class TestMovingResults(ResultContract):
    """Results over two stores."""


class TestMovingEvents(EventContract):
    """Events over two stores."""


class TestMovingSchedules(ScheduleContract):
    """Schedules over two stores."""
