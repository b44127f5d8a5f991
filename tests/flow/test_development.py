"""Development mode: one node at a time, on cached outputs."""

from __future__ import annotations

import pytest

from omniq.datastore import DataStore
from omniq.exceptions import NotFoundError, SerializationError
from omniq.flow import FlowEngine, MissingOutputError, NodeFailedError, NodeOutput
from tests.flow.documents import flow
from tests.flow.samples import types

DOCUMENT = flow(
    {
        "node_1": ("numbers", {"count": 3, "first": 21}),
        "node_2": "double",
        "node_3": ("size", {"limit": 10}),
        "small": "double",
        "big": "double",
        "node_5": "QueueWriter",
        "node_8": "QueueReader",
        "node_9": "double",
    },
    *("node_1 -> node_2", "node_2 -> node_3", "node_3:small -> small", "node_3:big -> big"),
    *("node_2 -> node_5", "node_5 -> node_8", "node_8 -> node_9"),
)


@pytest.fixture
def engine(store: DataStore) -> FlowEngine:
    return FlowEngine(DOCUMENT, types, store)


async def test_nodes_run_one_by_one_across_the_queue(engine: FlowEngine, store: DataStore) -> None:
    """Each takes the cached output of the one before it and caches its own; no queue is touched."""
    for node_id, expected in {"node_1": 21, "node_2": 42, "node_5": 42, "node_8": 42}.items():
        assert await engine.run_development_node(node_id) == NodeOutput(node_id, {"n": expected})
        assert await store.cache.get(f"{node_id}_output") == {"n": expected}

    assert (await engine.run_development_node("node_9")).data == {"n": 84}
    assert await store.queue.length("queue_node_5_node_8") == 0


async def test_changed_output_is_used_by_the_next_node(
    engine: FlowEngine, store: DataStore
) -> None:
    """A developer may put an output there by hand, or give the input itself."""
    await store.cache.set("node_1_output", {"n": 5})

    assert (await engine.run_development_node("node_2")).data == {"n": 10}
    assert (await engine.run_development_node("node_2", data={"n": 6})).data == {"n": 12}


async def test_missing_output_names_the_node_to_run_first(engine: FlowEngine) -> None:
    """The error is a plan of what to do."""
    with pytest.raises(MissingOutputError, match="node_1_output is missing; run node_1 first"):
        await engine.run_development_node("node_2")


async def test_conditional_leads_to_the_exit_it_took(engine: FlowEngine) -> None:
    """A node on the other exit has no input, and the error says why."""
    for node_id in ("node_1", "node_2"):
        await engine.run_development_node(node_id)

    assert (await engine.run_development_node("node_3")).handle == "big"
    assert (await engine.run_development_node("big")).data == {"n": 84}
    with pytest.raises(MissingOutputError, match="left by its exit 'big', not by 'small'"):
        await engine.run_development_node("small")


async def test_failing_node_is_an_error_with_its_cause(store: DataStore) -> None:
    """Nothing is cached, and nothing goes to the dead letters: the developer is here."""
    document = flow({"p": ("numbers", {"count": 1}), "f": ("fail_every", {"nth": 5})}, "p -> f")
    engine = FlowEngine(document, types, store)
    await engine.run_development_node("p")

    with pytest.raises(NodeFailedError, match="node f") as caught:
        await engine.run_development_node("f")

    assert isinstance(caught.value.__cause__, ValueError)
    assert not await store.cache.exists("f_output")
    assert await engine.take_dead_letters() == []


async def test_output_that_is_not_json_is_refused(store: DataStore) -> None:
    """It could not be cached, nor pushed to a queue."""
    engine = FlowEngine(flow({"p": ("numbers", {"count": 1}), "x": "raw"}, "p -> x"), types, store)
    await engine.run_development_node("p")

    with pytest.raises(SerializationError):
        await engine.run_development_node("x")


async def test_node_that_gives_nothing_leaves_no_output(store: DataStore) -> None:
    """Also none of an earlier run."""
    document = flow(
        {"p": ("numbers", {"count": 1}), "d": "drop_odd", "e": "double"}, "p -> d", "d -> e"
    )
    engine = FlowEngine(document, types, store)
    assert (await engine.run_development_node("d", data={"n": 2})).data == {"n": 2}

    assert (await engine.run_development_node("d", data={"n": 1})).data is None
    with pytest.raises(MissingOutputError, match="d_output is missing"):
        await engine.run_development_node("e")


async def test_reader_of_an_outside_queue_takes_from_it(store: DataStore) -> None:
    """There is no writer whose output could be used."""
    engine = FlowEngine(flow({"r": ("QueueReader", {"queue_name": "orders"})}), types, store)
    with pytest.raises(MissingOutputError, match="nothing is in orders"):
        await engine.run_development_node("r")
    await store.queue.push("orders", {"n": 1})

    assert (await engine.run_development_node("r")).data == {"n": 1}


async def test_outputs_expire_and_namespaces_keep_them_apart(store: DataStore) -> None:
    """A cache for an hour, unless told otherwise."""
    one = FlowEngine(DOCUMENT, types, store, namespace="one", cache_ttl=None)
    other = FlowEngine(DOCUMENT, types, store, namespace="other")
    await one.run_development_node("node_1")

    assert await store.cache.get("one.node_1_output") == {"n": 21}
    with pytest.raises(MissingOutputError):
        await other.run_development_node("node_2")
    await one.clear()
    assert not await store.cache.exists("one.node_1_output")


async def test_unknown_node_is_named(engine: FlowEngine) -> None:
    """With what there is instead."""
    with pytest.raises(NotFoundError, match="no node 'nope'; it has big, node_1"):
        await engine.run_development_node("nope")
