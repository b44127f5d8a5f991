from omniq.testing.contract import EventContract


class TestEvent(EventContract):
    """The contract of a event, on every backend."""
