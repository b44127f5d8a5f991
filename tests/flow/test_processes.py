"""Loops in processes of their own, talking through a server."""

from __future__ import annotations

import asyncio
import sys

from redis.asyncio import Redis

from omniq.datastore import DataStore
from omniq.flow import FlowEngine
from tests.docs.pages import ROOT
from tests.flow.loop_process import three_loops
from tests.flow.samples import types
from tests.servers.redis import namespace, redis_url

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
    async with Redis.from_url(url) as raw:
        assert await raw.keys(f"{prefix}*") == []
