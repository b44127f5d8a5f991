"""The data store beside redis-py sending the same commands, in one run.

    python -m bench.datastore [--url redis://127.0.0.1:6379/0] [--rounds 15] [--check]

Both sides do the same work on one server, JSON included, in short blocks that take turns, so that a
busy machine slows both. Printed is the median time of a call and the ratio of the medians: how fast
the data store is, where redis-py is 1. Without ``--url``, OMNIQ_TEST_REDIS_URL names the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from omniq.datastore import DataStore

VALUE = {"id": "node_5", "value": 42, "ratio": 0.5, "tags": ["a", "b"], "is_ready": True}
ONE_BY_ONE, AT_ONCE = 200, 500
SINGLE_FLOOR, MANY_FLOOR = 0.8, 0.6

Call = Callable[[], Awaitable[Any]]


class Case(NamedTuple):
    """One comparison: a call of ours, the same of the driver's, and the ratio promised."""

    name: str
    ours: Call
    raw: Call
    calls: int
    floor: float


def cases(store: DataStore, raw: Any) -> list[Case]:
    """Return all comparisons; each pop has a push before it."""
    queue, cache = store.queue, store.cache
    items = [{**VALUE, "number": number} for number in range(AT_ONCE)]
    values = {f"many-{number}": item for number, item in enumerate(items)}

    async def raw_pop() -> Any:
        found = await raw.brpop(["bench:raw"], 5)
        return json.loads(found[1])

    async def raw_get() -> Any:
        return json.loads(await raw.get("bench:value"))

    async def raw_push_many() -> None:
        pipeline = raw.pipeline(transaction=False)
        for item in items:
            pipeline.lpush("bench:raw-many", json.dumps(item))
        await pipeline.execute()

    async def raw_set_many() -> None:
        pipeline = raw.pipeline(transaction=False)
        for name, value in values.items():
            pipeline.set(f"bench:{name}", json.dumps(value))
        await pipeline.execute()

    async def raw_get_many() -> Any:
        pipeline = raw.pipeline(transaction=False)
        for name in values:
            pipeline.get(f"bench:{name}")
        return [json.loads(text) for text in await pipeline.execute()]

    one, many = (ONE_BY_ONE, SINGLE_FLOOR), (1, MANY_FLOOR)
    return [
        Case(
            "push",
            lambda: queue.push("one", VALUE),
            lambda: raw.lpush("bench:raw", json.dumps(VALUE)),
            *one,
        ),
        Case("pop", lambda: queue.pop("one", timeout=5), raw_pop, *one),
        Case(
            "set",
            lambda: cache.set("value", VALUE),
            lambda: raw.set("bench:value", json.dumps(VALUE)),
            *one,
        ),
        Case("get", lambda: cache.get("value"), raw_get, *one),
        Case("push_many", lambda: queue.push_many("many", items), raw_push_many, *many),
        Case("set_many", lambda: cache.set_many(values), raw_set_many, *many),
        Case("get_many", lambda: cache.get_many(values), raw_get_many, *many),
    ]


async def measure(url: str, rounds: int) -> list[tuple[Case, float, float]]:
    """Return each case with the median seconds of a call of ours and of the driver's."""
    import redis.asyncio

    raw = redis.asyncio.Redis.from_url(url)
    async with DataStore(url=url, prefix="bench:") as store:
        compared = cases(store, raw)
        times: dict[tuple[str, bool], list[float]] = {}
        for number in range(rounds):
            for case in compared:
                for is_ours in (True, False) if number % 2 else (False, True):
                    seconds = await _timed(case.ours if is_ours else case.raw, case.calls)
                    times.setdefault((case.name, is_ours), []).append(seconds)
        await _clean(raw)
    await raw.aclose()
    median = {key: statistics.median(found) for key, found in times.items()}
    return [(case, median[case.name, True], median[case.name, False]) for case in compared]


async def _timed(call: Call, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - began) / calls


async def _clean(raw: Any) -> None:
    keys = [key async for key in raw.scan_iter("bench:*")]
    if keys:
        await raw.delete(*keys)


def main() -> int:
    """Measure, print, and with ``--check`` return 1 if a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=os.environ.get("OMNIQ_TEST_REDIS_URL"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.url is None:
        parser.error("name a server: --url redis://127.0.0.1:6379/0")
    print(f"{'':<10} {'ours µs':>9} {'redis-py µs':>12} {'ratio':>6} {'floor':>6}")
    is_kept = True
    for case, ours, raw in asyncio.run(measure(arguments.url, arguments.rounds)):
        ratio = raw / ours
        is_kept &= ratio >= case.floor
        print(f"{case.name:<10} {ours * 1e6:9.0f} {raw * 1e6:12.0f} {ratio:6.2f} {case.floor:6.1f}")
    return 1 if arguments.check and not is_kept else 0


if __name__ == "__main__":
    sys.exit(main())
