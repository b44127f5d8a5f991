"""What the memory store promises beyond the contract: bounded upkeep, independence, isolation."""

from __future__ import annotations

from heapq import heappush

from hypothesis import given
from hypothesis import strategies as st

from omniq import lifecycle
from omniq.backend.memory import MemoryBackend
from omniq.models.task import Task
from omniq.storage.base import Change, Lease
from omniq.storage.memory import MemoryQueue
from omniq.storage.memory.heap import LazyHeap
from omniq.testing.contract.samples import NOW, at, claim, insert, make_task, make_tasks


@given(st.lists(st.one_of(st.integers(0, 99), st.none()), max_size=300), st.integers(1, 10))
def test_a_lazy_heap_gives_the_living_in_order(pushed: list[int | None], modulus: int) -> None:
    """Whatever died where, and however often it swept."""
    heap: LazyHeap[tuple[int, int]] = LazyHeap(lambda entry: entry[1] % modulus == 0)
    living: list[tuple[int, int]] = []

    for n, number in enumerate(pushed):
        if number is not None:
            heap.push((number, n))
            if n % modulus == 0:
                heappush(living, (number, n))
        elif (first := heap.first()) is not None:
            heap.pop()
            assert first == min(living)
            living.remove(first)

    assert heap.first() == min(living, default=None)


def test_the_dead_do_not_pile_up() -> None:
    """Ten thousand heartbeats of one task leave no ten thousand entries."""
    last = (0, 0)
    heap: LazyHeap[tuple[int, int]] = LazyHeap(lambda entry: entry is last)

    for n in range(10_000):
        last = (n, n)
        heap.push(last)

    assert len(heap) < 200
    assert heap.first() is last


async def test_heartbeats_leave_no_trace() -> None:
    """A task that runs for weeks costs no more memory than one that runs for seconds."""
    queue = MemoryQueue()
    await insert(queue, make_task("a"))
    (task,) = await claim(queue)
    lease = Lease(task.id, task.claim_count, task.lease_token or "")

    for n in range(2000):
        await queue.extend([lease], now=at(n))

    timers = queue._table.lane("default")._timers  # pyright: ignore[reportPrivateUsage] - its upkeep
    assert len(timers) < 200


async def test_two_backends_share_nothing() -> None:
    """Nor do components made alone."""
    one, other = MemoryBackend(), MemoryBackend()
    await one.get_task_queue().enqueue(make_task("a"))

    assert await other.get_task_queue().get_task("a") is None
    assert await MemoryQueue().get_task("a") is None


async def test_a_backend_keeps_its_data_when_closed() -> None:
    """As long as the object lives."""
    backend = MemoryBackend()
    async with backend:
        await backend.get_task_queue().enqueue(make_task("a"))

    assert await backend.get_task_queue().get_queue_size() == 1


async def test_pickle_takes_what_json_refuses() -> None:
    """Where the operator chose it."""
    backend = MemoryBackend(serialization_format="pickle")
    queue, results = backend.get_task_queue(), backend.get_result_storage()
    await queue.enqueue(make_task("a", args=(len, 2**100)))
    await results.store_result("a", Task)

    task = await queue.dequeue()

    assert task is not None
    assert task.args == (len, 2**100)
    assert await results.get_result("a") is Task


async def test_waiters_leave_nothing_behind() -> None:
    """Woken, timed out or cancelled."""
    queue = MemoryQueue()
    await queue.wait(["a", "b"], 0.001)
    await queue.wait_final(["ghost"], 0.001)
    await queue.dequeue(["a", "b"], timeout=0.002)

    assert queue._arrivals._by_name == {}  # pyright: ignore[reportPrivateUsage] - its upkeep
    assert queue._ends._by_name == {}  # pyright: ignore[reportPrivateUsage] - its upkeep


async def test_a_purged_store_is_empty() -> None:
    """Nothing of a task stays behind but the lane of its queue."""
    queue = MemoryQueue()
    await insert(queue, *make_tasks(50, unique_key=None), make_task("k", unique_key="k"))
    await insert(queue, make_task("c", depends_on=("k",)))
    changes = [
        Change(task, lifecycle.settle(task, lifecycle.Completed(), NOW))
        for task in await claim(queue)
    ]
    await queue.swap(changes, now=NOW)
    await queue.cancel("c", now=NOW)

    assert await queue.purge(at(1)) == 52

    table = queue._table  # pyright: ignore[reportPrivateUsage] - its upkeep
    assert (table._records, table._keys, table._children) == ({}, {}, {})  # pyright: ignore[reportPrivateUsage] - as above
