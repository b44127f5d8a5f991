"""Trees of tasks over a store in a dict, and what lies in them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from omniq import lifecycle
from omniq.models.task import Task
from omniq.storage.base import Change
from omniq.storage.file.codec import FileCodec
from omniq.storage.objectstore.leaves import TaskLeaves
from omniq.storage.objectstore.log import ObjectLog
from omniq.storage.objectstore.taskstate import TaskLogState
from omniq.storage.objectstore.tree import Tree
from omniq.testing.contract.samples import NOW
from tests.unit.object_doubles import DictDriver, DictStore

LEAVES = TaskLeaves(FileCodec(Task, ("args", "kwargs", "metadata")))
MARK = "tasks/.tree"


class Party:
    """A process: a log of tasks, and the tree it may publish."""

    def __init__(self, store: DictStore) -> None:
        self.store = store
        self.driver = DictDriver(store)
        state = TaskLogState(lambda queue, due: None, lambda task_id: None)
        self.log: ObjectLog[TaskLogState] = ObjectLog(
            self.driver, "tasks", state, clock=store.clock
        )
        self.tree = Tree(self.driver, "tasks", self.log, LEAVES, clock=store.clock)

    async def insert(self, *names: str) -> None:
        tasks = [Task(func="f", id=name, created_at=NOW) for name in names]
        await self.log.run(lambda state: [state.insert(task, None, NOW) for task in tasks])

    async def claim(self, limit: int = 1) -> None:
        run = partial(
            lifecycle.claim,
            worker_id="w",
            lease_token="k",
            lease_ends_at=NOW + timedelta(days=1),
            now=NOW,
        )
        await self.log.run(lambda state: state.claim(["default"], limit, run, NOW) and None)

    async def finish(self, name: str) -> None:
        """Complete a task that runs, or let one that has ended run again."""

        def job(state: TaskLogState) -> None:
            record = state.get(name)
            if record is not None and record.task.is_final:
                state.swap(Change(record.task, lifecycle.requeue(record.task, NOW)), NOW)
            elif record is not None and record.task.lease_token:
                after = lifecycle.settle(record.task, lifecycle.Completed(), NOW)
                state.swap(Change(record.task, after), NOW)

        await self.log.run(job)

    async def purge(self) -> None:
        await self.log.run(lambda state: state.purge(NOW + timedelta(days=1), 1000))

    def expected(self) -> dict[str, bytes]:
        """Return what the tree is to be, by key below the folder."""
        state = self.log.state
        rows = [state.committed(task_id) for task_id in state.committed_ids()]
        return {LEAVES.place(row): LEAVES.text(row) for row in rows if row is not None}


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def party(store: DictStore) -> Party:
    return Party(store)


def cost(party: Party) -> dict[str, int]:
    """Return the requests since last asked."""
    spent = dict(party.driver.requests)
    party.driver.requests.clear()
    return spent


def shown(store: DictStore) -> dict[str, bytes]:
    """Return what lies in the tree, by key below the folder."""
    return {
        key.removeprefix("tasks/"): stored.data
        for key, (stored, _) in store.objects.items()
        if not key.startswith("tasks/.")
    }


def folders(store: DictStore) -> list[str]:
    """Return where tasks are shown, as status and id."""
    names = (key.split("/") for key in shown(store))
    return sorted(f"{status} {name[26:].removesuffix('.json')}" for _, status, name in names)
