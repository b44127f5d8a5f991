"""Functions run where their type says: in the loop, in threads, in processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from omniq.datastore import DataStore
from omniq.exceptions import ConfigError
from omniq.flow import FlowEngine, NodeTypes
from omniq.testing.waiting import wait_until
from tests.flow.collecting import Collector
from tests.flow.documents import flow


async def test_items_pass_through_all_pools() -> None:
    """From a process through a thread and a process to the event loop."""
    collector = Collector()
    nodes = {
        "p": ("listed", {"count": 3}),
        "t": "thread_of",
        "q": "process_of",
        "x": "stop_iteration",
        "k": "keep",
    }
    edges = ["p -> t", "t -> q", "q -> k", "t -> x"]
    store = DataStore(url="memory://")
    engine = FlowEngine(flow(nodes, *edges), collector.types, store, processes=1)

    reports = await engine.run()

    items = collector.got["end"]
    assert [item["n"] for item in items] == [0, 1, 2]
    assert all(item["thread"].startswith("omniq-node") for item in items)
    assert {item["made_by"] for item in items} == {item["process"] for item in items}
    assert os.getpid() not in {item["process"] for item in items}
    assert reports["p"].nodes["x"].failed == 3
    assert "StopIteration" in (await engine.take_dead_letters())[0].error.message


def test_what_cannot_run_in_a_pool_is_refused_when_declared() -> None:
    """Not when the first item arrives."""
    types = NodeTypes()

    async def coroutine(data: Any) -> Any:
        return data

    def generator() -> Iterator[Any]:
        yield 1

    def local(data: Any) -> Any:
        return data

    with pytest.raises(ConfigError, match="'fibre' is no pool; there are async, thread, process"):
        types.blocking("a", pool="fibre")(local)
    with pytest.raises(ConfigError, match="runs in the async pool only"):
        types.blocking("a", pool="thread")(coroutine)
    with pytest.raises(ConfigError, match="a generator cannot run in a process"):
        types.producer("a", pool="process")(generator)
    with pytest.raises(ConfigError, match="define it in a module"):
        types.blocking("a", pool="process")(local)
    with pytest.raises(ConfigError, match="two handles or more"):
        types.conditional("a", handles=("one",))
    types.blocking("a")(local)
    with pytest.raises(ConfigError, match="the name is taken"):
        types.blocking("a")(local)


async def test_node_may_have_a_pool_of_its_own() -> None:
    """Another one than its type: for this node only."""
    collector = Collector()
    nodes = {
        "p": ("numbers", {"count": 1}),
        "there": ("thread_of", None, "process"),
        "here": ("thread_of", None, "async"),
        "k": ("keep", {"place": "there"}),
        "l": ("keep", {"place": "here"}),
    }
    edges = ["p -> there", "p -> here", "there -> k", "here -> l"]
    store = DataStore(url="memory://")

    await FlowEngine(flow(nodes, *edges), collector.types, store, processes=1).run()

    threads = [collector.got[place][0]["thread"] for place in ("there", "here")]
    assert threads == ["MainThread", threading.current_thread().name]


class Shout:
    """A callable that is no function, and gives something to await."""

    async def __call__(self, data: Any) -> Any:
        return {"n": data["n"] + 1}


async def test_any_callable_will_do_and_generators_are_closed() -> None:
    """What a function returns may be awaitable; a producer that is stopped cleans up."""
    collector, ended = Collector(), threading.Event()

    def counting() -> Iterator[Any]:
        try:
            for n in itertools.count():
                yield {"n": n}
        finally:
            ended.set()

    collector.types.producer("counting")(counting)
    collector.types.blocking("shout")(Shout())
    document = flow({"p": "counting", "s": "shout", "k": "keep"}, "p -> s", "s -> k")
    engine = FlowEngine(document, collector.types, DataStore(url="memory://"))

    running = asyncio.create_task(engine.run())
    await wait_until(lambda: len(collector.numbers()) > 5, description="items flow")
    await engine.stop()
    await running

    assert collector.numbers()[:3] == [1, 2, 3]
    await wait_until(ended.is_set, description="the generator is closed")
