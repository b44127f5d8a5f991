"""Loops in processes of their own, talking through a server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from omniq.datastore import DataStore
from omniq.exceptions import StorageUnavailableError
from omniq.flow import FlowEngine
from omniq.testing.waiting import wait_until
from tests.docs.pages import ROOT
from tests.flow import crash_process
from tests.flow.collecting import Collector
from tests.flow.documents import flow
from tests.flow.loop_process import three_loops
from tests.flow.samples import types
from tests.servers.process import free_port
from tests.servers.redis import namespace, redis_url, running_redis

COUNT = 10_000


async def _run(*arguments: str) -> int:
    """Run a loop in a new process; return how many items it had."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.flow.loop_process", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0
    return int(output)


async def test_three_loops_in_three_processes_pass_ten_thousand_items() -> None:
    """In order, each once; the failed ones are dead letters; no key stays behind."""
    url, prefix = redis_url(), f"{namespace()}:"

    counts = await asyncio.gather(
        *(_run(url, prefix, loop, str(COUNT)) for loop in ("p", "r1", "r2"))
    )

    assert counts == [COUNT, COUNT, COUNT - COUNT // 100]
    async with DataStore(url=url, prefix=prefix) as store:
        passed = [await store.queue.pop_nowait("out") for _ in range(counts[2])]
        assert [item["n"] for item in passed] == [n for n in range(COUNT) if n % 100]
        engine = FlowEngine(three_loops(COUNT), types, store)
        letters = await engine.take_dead_letters(limit=COUNT)
        assert [letter.item["n"] for letter in letters] == list(range(0, COUNT, 100))
    driver: Any = Redis
    async with driver.from_url(url) as raw:
        assert await raw.keys(f"{prefix}*") == []


async def test_stop_from_a_fourth_process_ends_three_loops() -> None:
    """The signal reaches the endless producer, and travels on behind what it made."""
    url, prefix = redis_url(), f"{namespace()}:"
    async with DataStore(url=url, prefix=prefix) as store:
        loops = [asyncio.create_task(_run(url, prefix, loop, "0")) for loop in ("p", "r1", "r2")]

        async def flows() -> bool:
            return await store.queue.length("out") > 200

        await wait_until(flows, description="items flow", timeout=60)
        await FlowEngine(three_loops(0), types, store).stop()
        made, _, passed = await asyncio.gather(*loops)

        failed = (made - 1) // 100 + 1
        assert passed == made - failed == await store.queue.clear("out")
        assert await store.queue.clear("dead_letters") == failed
    driver: Any = Redis
    async with driver.from_url(url) as raw:
        assert await raw.keys(f"{prefix}*") == []


async def test_killed_loop_is_taken_over_without_a_loss(tmp_path: Path) -> None:
    """The item it was at comes back after its lease; nothing before it comes twice."""
    url, prefix, mark = redis_url(), f"{namespace()}:", tmp_path / "mark"
    async with DataStore(url=url, prefix=prefix) as store:
        engine = crash_process.engine(store, None)
        await engine.run_loop("p")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.flow.crash_process", url, prefix, str(mark), cwd=ROOT
        )
        await wait_until(mark.exists, description="the loop is at the item that hangs")
        process.kill()
        await process.wait()

        await engine.run_loop("r")

        passed = [item["n"] for item in [await store.queue.pop_nowait("out") for _ in range(30)]]
        assert sorted(passed) == list(range(30))
        assert await store.queue.pop_nowait("out") is None


async def test_store_that_cannot_be_opened_is_an_error_at_once() -> None:
    """A wrong port should not look like a server that is away for a moment."""
    store = DataStore(port=free_port())

    with pytest.raises(StorageUnavailableError):
        await FlowEngine(three_loops(1), types, store).run()
    await store.close()


async def test_loops_wait_for_a_server_that_was_away(tmp_path: Path) -> None:
    """Blocked pops go on after its return, and items pass as before."""
    collector = Collector()
    nodes = {"r": ("QueueReader", {"queue_name": "orders"}), "k": "keep"}
    with running_redis(tmp_path) as server:
        async with DataStore(url=server.url) as store:
            engine = FlowEngine(flow(nodes, "r -> k"), collector.types, store)
            running = asyncio.create_task(engine.run())
            await store.queue.push("orders", {"n": 1})
            await wait_until(lambda: collector.numbers() == [1], description="the first arrived")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await store.queue.push("orders", {"n": 2})
            await wait_until(lambda: collector.numbers() == [1, 2], description="the second, too")
            await engine.stop()
            await running
