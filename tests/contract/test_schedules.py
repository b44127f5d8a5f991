from omniq.testing.contract import ScheduleContract


class TestSchedule(ScheduleContract):
    """The contract of a schedule, on every backend."""
