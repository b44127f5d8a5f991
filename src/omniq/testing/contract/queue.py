"""`QueueContract`: all that a task queue must do, from one file a topic."""

from __future__ import annotations

import pytest

from omniq.backend.base import BaseBackend
from omniq.storage.base import BaseQueue, BaseResultStorage
from omniq.testing.contract.queue_claim import ClaimContract, OrderContract, PauseContract
from omniq.testing.contract.queue_enqueue import EnqueueContract, MigrationContract
from omniq.testing.contract.queue_insert import InsertContract
from omniq.testing.contract.queue_lease import ExtendContract, SwapContract
from omniq.testing.contract.queue_lookup import LookupContract, PurgeContract
from omniq.testing.contract.queue_methods import ControlContract, DequeueContract
from omniq.testing.contract.queue_parents import AdmissionContract, DependencyContract
from omniq.testing.contract.queue_settle import FinishContract, SettleContract
from omniq.testing.contract.queue_unique import UniqueKeyContract
from omniq.testing.contract.queue_waiting import SharedContract, TwinContract, WaitContract


@pytest.mark.asyncio
class QueueContract(
    InsertContract,
    MigrationContract,
    EnqueueContract,
    ClaimContract,
    OrderContract,
    PauseContract,
    ExtendContract,
    SwapContract,
    UniqueKeyContract,
    AdmissionContract,
    DependencyContract,
    LookupContract,
    PurgeContract,
    SettleContract,
    FinishContract,
    ControlContract,
    DequeueContract,
    WaitContract,
    TwinContract,
    SharedContract,
):
    """Subclass this. `queue` is new and empty; `second` is another object on the same store."""

    @pytest.fixture
    def queue(self, backend: BaseBackend) -> BaseQueue:
        """Return the queue under test."""
        return backend.get_task_queue()

    @pytest.fixture
    def result_storage(self, backend: BaseBackend) -> BaseResultStorage:
        """Return a result storage, that of the same store if there is one."""
        return backend.get_result_storage()

    @pytest.fixture
    def second(self, second_backend: BaseBackend) -> BaseQueue:
        """Return another queue object on the same store, or skip where stores are not shared."""
        return second_backend.get_task_queue()
