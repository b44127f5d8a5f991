"""Each pair of writer and reader has its queue; loops are what lies between queues."""

from __future__ import annotations

from omniq.flow import Link, QueueMapper, read_flow, read_graph
from tests.flow.documents import flow
from tests.flow.samples import types


def test_queue_is_named_after_its_pair() -> None:
    """The name of the specification; mapping again changes nothing."""
    nodes = {"node_1": "endless", "node_5": "QueueWriter", "node_8": "QueueReader"}
    graph, _ = read_graph(flow(nodes, "node_1 -> node_5", "node_5 -> node_8"))
    mapper = QueueMapper()

    links = mapper.links(graph)

    assert links == [Link("queue_node_5_node_8", "node_5", "node_8")]
    assert mapper.links(graph) == links == QueueMapper().links(graph)


def test_writer_has_a_queue_for_each_reader_and_reader_for_each_writer() -> None:
    """Names are unique for each pair, in both directions."""
    nodes = {
        "p": "endless",
        **dict.fromkeys(("w1", "w2"), "QueueWriter"),
        **dict.fromkeys(("r1", "r2"), "QueueReader"),
    }
    plan = read_flow(flow(nodes, "p -> w1", "p -> w2", "w1 -> r1", "w1 -> r2", "w2 -> r1"), types)

    assert [link.queue for link in plan.links] == ["queue_w1_r1", "queue_w1_r2", "queue_w2_r1"]
    assert plan.loops["p"].sends == ("queue_w1_r1", "queue_w1_r2", "queue_w2_r1")
    assert plan.loops["r1"].reads == ("queue_w1_r1", "queue_w2_r1")
    assert plan.loops["r1"].stops == {("queue_w1_r1", "p"), ("queue_w2_r1", "p")}
    assert plan.loops["r2"].stops == {("queue_w1_r2", "p")}


def test_pairs_that_spell_the_same_get_different_queues() -> None:
    """`a_b` to `c` is not `a` to `b_c`."""
    nodes = {
        "p": "endless",
        **dict.fromkeys(("a", "a_b"), "QueueWriter"),
        **dict.fromkeys(("b_c", "c"), "QueueReader"),
    }
    graph, _ = read_graph(flow(nodes, "p -> a", "p -> a_b", "a -> b_c", "a_b -> c"))

    assert [link.queue for link in QueueMapper().links(graph)] == ["queue_a_b_c", "queue_a_b_c_2"]


def test_names_given_by_hand_are_kept_and_connect() -> None:
    """With an edge or without; an end nobody in the flow has belongs to somebody outside."""
    nodes = {
        "p": "endless",
        "w": ("QueueWriter", {"queue_name": "orders"}),
        "r": "QueueReader",
        "far_w": ("QueueWriter", {"queue_name": "far"}),
        "far_r": ("QueueReader", {"queue_name": "far"}),
        "out": ("QueueWriter", {"queue_name": "export"}),
        "in": ("QueueReader", {"queue_name": "import"}),
    }

    plan = read_flow(flow(nodes, "p -> w", "w -> r", "p -> far_w", "p -> out"), types)

    assert plan.links == (
        Link("orders", "w", "r"),
        Link("far", "far_w", "far_r"),
        Link("export", "out", None),
        Link("import", None, "in"),
    )
    assert plan.loops["far_r"].stops == {("far", "p")}
    assert plan.loops["in"].is_source


def test_loops_come_after_those_they_wait_for() -> None:
    """So that one worker with one slot gets through."""
    nodes = {
        "r2": "QueueReader",
        "r1": "QueueReader",
        "p": "endless",
        **dict.fromkeys(("w1", "w2", "w3"), "QueueWriter"),
    }
    edges = ["p -> w1", "p -> w2", "w1 -> r1", "w2 -> r2", "r1 -> w3", "w3 -> r2"]

    assert read_flow(flow(nodes, *edges), types).loops_in_order() == ["p", "r1", "r2"]
