from omniq.testing.contract import ResultContract


class TestResult(ResultContract):
    """The contract of a result, on every backend."""
