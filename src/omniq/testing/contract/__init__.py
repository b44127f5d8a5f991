"""The conformance suite: what every backend must do, as tests.

Give pytest a fixture `backend` (an open `BaseBackend` on a new, empty store) and, for stores that
several processes share, `second_backend` (another object on the same store), then subclass::

    class TestQueue(QueueContract): ...

One that has no whole backend overrides the fixture `queue` (`results`, `events`, `schedules`) in
its subclass. No test sleeps: moments are passed in, around the present of the machine.
"""

from omniq.testing.contract.backend import BackendContract
from omniq.testing.contract.events import EventContract
from omniq.testing.contract.queue import QueueContract
from omniq.testing.contract.results import ResultContract
from omniq.testing.contract.schedules import ScheduleContract

__all__ = [
    "BackendContract",
    "EventContract",
    "QueueContract",
    "ResultContract",
    "ScheduleContract",
]
