"""Documents become graphs; all that is wrong with one is told at once."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from omniq.datastore import DataStore
from omniq.exceptions import ValidationError
from omniq.flow import FlowEngine, FlowValidationError, read_flow, read_graph
from tests.flow.documents import flow
from tests.flow.samples import types


def problems(document: Any) -> list[str]:
    """Return all problems of a document, as text."""
    with pytest.raises(FlowValidationError) as caught:
        read_flow(document, types)
    return [str(problem) for problem in caught.value.problems]


def test_document_of_an_editor_becomes_a_graph() -> None:
    """Position, label and whatever else an editor keeps does not matter."""
    text = json.dumps(flow({"a": ("numbers", {"count": 3}), "b": "size"}, "a -> b"))

    graph, found = read_graph(text)

    assert not found
    assert [(node.id, node.type, node.config) for node in graph.nodes] == [
        ("a", "numbers", {"count": 3}),
        ("b", "size", {}),
    ]
    assert [(edge.source, edge.target, edge.handle) for edge in graph.edges] == [("a", "b", None)]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{", "flow: not JSON"),
        ([], "flow: expected an object"),
        ({"nodes": 3}, "nodes: expected a list"),
        ({"nodes": [3]}, "nodes[0]: expected an object"),
        ({"nodes": [{"type": "x"}]}, "nodes[0]: id:"),
        ({"nodes": [{"id": "a"}]}, "node a: has no type"),
        (
            {"nodes": [{"id": "a", "type": "double", "data": {"config": 3}}]},
            "an object as data.config",
        ),
        ({"nodes": [{"id": "a", "type": "double", "data": {"pool": 3}}]}, "string as data.pool"),
        ({"nodes": [{"id": "a", "type": "double", "data": 3}]}, "expected an object as data"),
        ({"edges": [{"source": "a"}]}, "edges[0]: expected the ids"),
        ({"edges": [{"source": "a", "target": "b", "sourceHandle": 1}]}, "expected a string"),
        ({}, "flow: has no nodes"),
    ],
)
def test_unreadable_part_is_named(document: Any, expected: str) -> None:
    """Whoever wrote the document finds the place."""
    assert any(expected in problem for problem in problems(document))


@pytest.mark.parametrize(
    ("nodes", "edges", "expected"),
    [
        ({"a": "nubmers"}, [], "node a: unknown type 'nubmers'; did you mean numbers?"),
        ({"a": "zzz"}, [], "node a: unknown type 'zzz'; declare it in NodeTypes"),
        ({"a": ("endless", {"x": 1})}, [], "node a: config does not fit type endless"),
        ({"a": "numbers"}, [], "node a: config does not fit type numbers"),
        ({"a": ("endless", None, "thread")}, [], "runs in the async pool only"),
        ({"a": ("endless", None, "fibre")}, [], "'fibre' is no pool"),
        ({"a": "endless"}, ["a -> z"], "edge a -> z: there is no node z"),
        ({"a": "endless", "b": "endless"}, ["a -> b"], "a producer starts a loop"),
        ({"a": "endless", "b": "QueueReader"}, ["a -> b"], "is fed by a QueueWriter only"),
        ({"a": "endless", "b": "QueueWriter"}, ["a -> b"], "node b: has no queue"),
        ({"b": "QueueReader"}, [], "node b: has no queue"),
        ({"b": ("QueueReader", {"queue_name": "../x"})}, [], "node b: queue_name:"),
        ({"b": ("QueueReader", {"queue_name": "dead_letters"})}, [], "of what nodes failed on"),
        ({"a": "endless", "b": "size", "c": "raw"}, ["a -> b", "b -> c"], "sourceHandle is None"),
        ({"a": "endless", "b": "size", "c": "raw"}, ["a -> b", "b:x -> c"], "are small, big"),
        ({"a": "endless", "b": "raw"}, [], "node b: no producer leads to it"),
    ],
)
def test_mistake_is_told(nodes: dict[str, Any], edges: list[str], expected: str) -> None:
    """One mistake, one line."""
    found = problems(flow(nodes, *edges))

    assert sum(expected in problem for problem in found) == 1, found


def test_cycle_without_a_queue_is_refused_and_told_once() -> None:
    """It would never let its loop take the next item."""
    found = problems(flow({"a": "endless", "b": "raw", "c": "raw"}, "a -> b", "b -> c", "c -> b"))

    assert found == [
        "node b: b, c form a cycle; put a QueueWriter and a QueueReader into it",
    ]


def test_cycle_through_a_queue_is_allowed() -> None:
    """Work may come back; such a flow runs until it is stopped."""
    nodes = {"a": "endless", "w": "QueueWriter", "r": "QueueReader", "v": "QueueWriter"}

    plan = read_flow(flow(nodes, "a -> w", "w -> r", "r -> v", "v -> r"), types)

    assert plan.loops["r"].is_source
    assert plan.loops["r"].stops == frozenset()


def test_names_that_contradict_each_other_are_refused() -> None:
    """Two names for one queue, and one queue for two readers."""
    nodes = {
        "a": "endless",
        "w": ("QueueWriter", {"queue_name": "one"}),
        "r": ("QueueReader", {"queue_name": "two"}),
    }
    assert problems(flow(nodes, "a -> w", "w -> r")) == [
        "node w: writes to queue one, but r reads two"
    ]

    shared = {**nodes, "r": "QueueReader", "q": "QueueReader"}
    assert problems(flow(shared, "a -> w", "w -> r", "w -> q")) == [
        "queue one: is read by q, r; a queue has one reader, name them apart"
    ]


def test_all_problems_are_told_at_once() -> None:
    """Nobody mends a flow by running it ten times; the engine tells the same."""
    document = flow({"a": "nubmers", "b": "raw", "c": ("double", {"x": 1})}, "a -> z", "b -> c")
    document["nodes"].append({"id": "a", "type": "raw"})

    with pytest.raises(FlowValidationError) as caught:
        FlowEngine(document, types, DataStore(url="memory://"))

    assert isinstance(caught.value, ValidationError)
    assert [problem.where for problem in caught.value.problems] == [
        "node a",
        "node a",
        "node c",
        "edge a -> z",
        "node b",
        "node c",
    ]
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_long_chain_is_one_loop() -> None:
    """The depth of a graph costs no stack."""
    nodes: dict[str, Any] = {"n0": "endless"} | {f"n{i}": "raw" for i in range(1, 500)}

    plan = read_flow(flow(nodes, *(f"n{i} -> n{i + 1}" for i in range(499))), types)

    assert len(plan.loops["n0"].nodes) == 500
