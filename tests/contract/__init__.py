"""The conformance suite on every backend."""

import pytest

pytest.register_assert_rewrite("omniq.testing")
