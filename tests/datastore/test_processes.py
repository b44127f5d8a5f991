"""Several processes on one queue: each item once, in order per producer; crashes of consumers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from omniq.datastore import DataStore
from tests.datastore.mover import QUEUE
from tests.servers.redis import namespace

ROOT = Path(__file__).parents[2]
PROCESSES = 4


@pytest.fixture(params=["redis", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """Memory is one process's own."""
    return str(request.param)


def _start(url: str, prefix: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.datastore.mover", url, prefix, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def _ended(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Return what each printed."""
    printed = [(await asyncio.to_thread(process.communicate))[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


async def _move(url: str, per_producer: int) -> None:
    async with DataStore(url=url, prefix=f"{namespace()}:") as store:
        prefix = store.queue.prefix
        popping = [_start(url, prefix, "pop") for _ in range(PROCESSES)]
        await _ended([_start(url, prefix, "push", n, per_producer) for n in range(PROCESSES)])
        await store.queue.push_many(QUEUE, ["stop"] * PROCESSES)
        consumed = [json.loads(text) for text in await _ended(popping)]
        assert await store.queue.length(QUEUE) == 0
    _check(consumed, per_producer)


def _check(consumed: list[list[list[int]]], per_producer: int) -> None:
    everything = sorted((producer, number) for found in consumed for producer, number in found)
    assert everything == [(p, n) for p in range(PROCESSES) for n in range(per_producer)]
    for found in consumed:
        order: dict[int, list[int]] = defaultdict(list)
        for producer, number in found:
            order[producer].append(number)
        assert all(numbers == sorted(numbers) for numbers in order.values())


async def test_four_push_and_four_pop(url: str) -> None:
    """Each item exactly once; each consumer sees each producer's items in their order."""
    await _move(url, 250)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_four_push_and_four_pop_fifty_thousand(url: str) -> None:
    """The same, long enough for rare interleavings."""
    await _move(url, 12_500)


async def test_an_item_survives_the_crash_of_its_consumer(url: str) -> None:
    """Killed with the item in its hands, in acknowledged mode."""
    async with DataStore(url=url, prefix=f"{namespace()}:") as store:
        await store.queue.push_many(QUEUE, ["precious", "next"])
        consumer = _start(url, store.queue.prefix, "receive")
        assert consumer.stdout is not None
        assert json.loads(await asyncio.to_thread(consumer.stdout.readline)) == "precious"

        consumer.kill()
        consumer.wait()
        consumer.stdout.close()

        assert await store.queue.pop(QUEUE, timeout=5) == "next"
        async with await store.queue.receive(QUEUE, timeout=20) or pytest.fail("lost") as delivery:
            assert delivery.data == "precious"
