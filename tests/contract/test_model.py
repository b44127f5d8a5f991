from __future__ import annotations

import pytest

from omniq.storage.base import BaseQueue, BaseResultStorage
from omniq.storage.memory import MemoryResultStorage
from omniq.testing.contract import QueueContract
from omniq.testing.model import ModelQueue


class TestModel(QueueContract):
    """The model keeps the contract itself, so that agreeing with it means something."""

    @pytest.fixture
    def queue(self) -> BaseQueue:
        return ModelQueue()

    @pytest.fixture
    def result_storage(self) -> BaseResultStorage:
        return MemoryResultStorage()

    @pytest.fixture
    def second(self) -> BaseQueue:
        pytest.skip("a model is shared with nobody")
