"""Functions run where their type says: in the loop, in threads, in processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from omniq.datastore import DataStore
from omniq.exceptions import ConfigError
from omniq.flow import FlowEngine, NodeTypes
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
