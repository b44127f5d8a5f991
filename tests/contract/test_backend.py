from omniq.testing.contract import BackendContract


class TestBackend(BackendContract):
    """The contract of a backend, on every backend."""
