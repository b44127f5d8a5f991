"""Dependants on NATS, when whoever ended their parent died before it could tell them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from omniq.clock import utcnow
from omniq.models import Task, TaskStatus
from omniq.storage.nats import NATSQueue
from omniq.storage.nats.dependants import Dependants
from tests.moving.dying import DiedError, status_of
from tests.servers.nats import namespace, nats_url


def task(task_id: str, *parents: str, **fields: Any) -> Task:
    return Task(func="f", id=task_id, depends_on=parents, **fields)


@pytest.fixture
def space() -> str:
    return namespace()


@pytest.fixture
async def dying(space: str) -> AsyncIterator[NATSQueue]:
    """The queue of a worker that will be killed."""
    async with NATSQueue(nats_url(), namespace=space) as queue:
        yield queue


@pytest.fixture
async def living(space: str) -> AsyncIterator[NATSQueue]:
    """The queue of another worker."""
    async with NATSQueue(nats_url(), namespace=space) as queue:
        yield queue


async def claim(queue: NATSQueue, *, later: bool = False, limit: int = 1) -> list[str]:
    """Claim tasks, perhaps when all leases have ended; return their ids."""
    now = utcnow().replace(year=utcnow().year + 1) if later else None
    claimed = await queue.claim(
        ["default"], worker_id="w", lease_token="t", limit=limit, lease_seconds=60, now=now
    )
    return [one.id for one in claimed]


async def die_having_ended(
    queue: NATSQueue, task_id: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End a task that the queue holds, and die between that write and the telling."""

    async def die(*arguments: object) -> None:
        raise DiedError

    held, now = await queue.get_task(task_id), utcnow()
    assert held is not None
    with monkeypatch.context() as patch:
        patch.setattr(Dependants, "settle", die)
        good, bad = queue.complete, partial(queue.fail, error="no")
        with pytest.raises(DiedError):
            await (good if outcome == "completed" else bad)(held, now=now)
    assert await status_of(queue, task_id) == TaskStatus(outcome)


@pytest.mark.parametrize(("outcome", "found"), [("completed", ["child"]), ("failed", [])])
async def test_whoever_starts_to_claim_tells_of_an_end_that_was_cut_off(
    outcome: str,
    found: list[str],
    dying: NATSQueue,
    living: NATSQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that was killed is most often started again at once."""
    await dying.enqueue_many([task("a.b"), task("child", "a.b"), task("grandchild", "child")])
    assert await claim(dying) == ["a.b"]
    await die_having_ended(dying, "a.b", outcome, monkeypatch)

    assert await claim(living, limit=3) == found

    after = TaskStatus.WAITING if found else TaskStatus.CANCELLED
    assert await status_of(living, "grandchild") == after


async def test_whoever_finds_a_lost_lease_tells_of_an_end_that_was_cut_off(
    dying: NATSQueue, living: NATSQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead held other tasks as well, and those come due with their leases."""
    monkeypatch.setattr("omniq.storage.nats.claims.CATCH_UP_SECONDS", 0.0)
    assert await claim(living) == []
    await dying.enqueue_many([task("a", priority=1), task("b"), task("child", "a")])
    assert await claim(dying, limit=2) == ["a", "b"]
    await die_having_ended(dying, "a", "completed", monkeypatch)
    assert await claim(living) == []

    assert await claim(living, later=True) == ["b"]
    assert await claim(living) == ["child"]


async def test_those_who_wait_for_the_living_go_on_waiting(
    dying: NATSQueue, living: NATSQueue
) -> None:
    """Looking changes nothing but what the dead left undone."""
    await dying.enqueue_many([task("a"), task("child", "a")])
    assert await claim(dying) == ["a"]

    assert await claim(living, limit=3) == []

    assert await status_of(living, "child") is TaskStatus.WAITING
    held = await dying.get_task("a")
    assert held is not None
    await dying.complete(held)
    assert await claim(living) == ["child"]
