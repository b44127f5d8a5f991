"""`ResultContract`: all that a result storage must do."""

from __future__ import annotations

import pytest

from omniq.backend.base import BaseBackend
from omniq.storage.base import BaseResultStorage
from omniq.testing.contract.results_get import ExpiryContract, ReadingContract
from omniq.testing.contract.results_set import StandingContract, StoringContract


@pytest.mark.asyncio
class ResultContract(StoringContract, StandingContract, ExpiryContract, ReadingContract):
    """Subclass this. `results` is new and empty; `second` is another object on the same store."""

    @pytest.fixture
    def results(self, backend: BaseBackend) -> BaseResultStorage:
        """Return the result storage under test."""
        return backend.get_result_storage()

    @pytest.fixture
    def second(self, second_backend: BaseBackend) -> BaseResultStorage:
        """Return another object on the same store, or skip where stores are not shared."""
        return second_backend.get_result_storage()
