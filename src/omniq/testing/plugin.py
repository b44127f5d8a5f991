"""The pytest plugin: a queue in memory for tests of applications, readable failures for backends.

It is loaded in every test run of a project that has OmniQ installed, so it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from omniq.backend.memory import MemoryBackend

pytest.register_assert_rewrite("omniq.testing.contract", "omniq.testing.machine")


@pytest.fixture
def omniq_memory() -> Iterator[MemoryBackend]:
    """Give the test a new, empty `MemoryBackend`, closed afterwards."""
    from omniq.backend.memory import MemoryBackend

    backend = MemoryBackend()
    yield backend
    backend.close_sync()
