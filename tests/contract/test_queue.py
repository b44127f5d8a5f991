from omniq.testing.contract import QueueContract


class TestQueue(QueueContract):
    """The contract of a queue, on every backend."""
