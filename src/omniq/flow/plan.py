"""A flow cut into loops: what each runs, and whose end it waits for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from omniq.flow.graph import Edge, Graph, Node
from omniq.flow.nodes import READER, WRITER, NodeType, NodeTypes
from omniq.flow.queues import Link, queues_of_reader, queues_of_writer


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """A producer or reader and all that follows it, up to the next queues.

    Attributes:
        id: the id of its first node.
        nodes: the ids of its nodes, the first one first.
        reads: the queues it pops from.
        stops: who must have stopped before it does: queues, each with a loop that pushes to it.
        sends: the queues on which it passes the stop signal on.
        is_source: whether a stop is asked of it directly, as it waits for nobody else's.
    """

    id: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    stops: frozenset[tuple[str, str]]
    sends: tuple[str, ...]
    is_source: bool


class Plan(msgspec.Struct, frozen=True):
    """A checked flow, ready to run.

    Attributes:
        graph: its nodes and edges.
        types: the type of each node, by the node's id.
        links: the queues between its loops.
        loops: its loops by id.
    """

    graph: Graph
    types: dict[str, NodeType]
    links: tuple[Link, ...]
    loops: dict[str, Loop]

    def type_of(self, node: Node) -> NodeType:
        """Return the type of a node, in the pool of that node."""
        return self.types[node.id]

    def loops_in_order(self) -> list[str]:
        """Return the loops, each after those whose stop it waits for."""
        rest = dict(self.loops)
        done: list[str] = []
        while rest:
            ready = [
                loop.id
                for loop in rest.values()
                if not {sender for _, sender in loop.stops} & {*rest}
            ]
            done += ready
            rest = {loop_id: loop for loop_id, loop in rest.items() if loop_id not in ready}
        return done

    def followers(self, node_id: str) -> list[Edge]:
        """Return the edges along which items leave a node inside of its loop."""
        return inner_edges(self.graph, node_id)


def inner_edges(graph: Graph, node_id: str) -> list[Edge]:
    """Return the edges of a node that do not lead through a queue."""
    edges = graph.out_edges[node_id]
    return [edge for edge in edges if graph.by_id[edge.target].type != READER]


def reached(steps: Mapping[str, Iterable[str]], first: Iterable[str]) -> list[str]:
    """Return all that can be reached from `first` (and `first`), in the order of being met."""
    found = dict.fromkeys(first)
    rest = list(found)
    while rest:
        for after in steps[rest.pop()]:
            if after not in found:
                found[after] = None
                rest.append(after)
    return list(found)


def make_plan(graph: Graph, types: NodeTypes, links: Collection[Link]) -> Plan:
    """Cut a graph that has no problems into loops."""
    known = {kind.name: kind for kind in types}
    inner = {node.id: [e.target for e in inner_edges(graph, node.id)] for node in graph.nodes}
    members = {
        node.id: reached(inner, [node.id])
        for node in graph.nodes
        if known[node.type].kind.starts_loop
    }
    sends = {loop: _sends(graph, links, nodes) for loop, nodes in members.items()}
    reads = {loop: queues_of_reader(links, loop) for loop in members}
    steps = _steps(sends, reads)
    rings = {loop for loop in members if loop in reached(steps, steps[loop])}
    heard = {queue for loop, queues in reads.items() if loop not in rings for queue in queues}
    loops = {loop: _loop(nodes, reads[loop], sends, heard) for loop, nodes in members.items()}
    kinds = {node.id: known[node.type].in_pool(node.pool) for node in graph.nodes}
    return Plan(graph, kinds, tuple(links), loops)


def _loop(nodes: list[str], reads: list[str], sends: dict[str, list[str]], heard: set[str]) -> Loop:
    """Describe a loop.

    Stops are told where they are heard (`heard`). A loop in a ring would wait for its own end, so
    it hears none: it waits to be told by the engine.
    """
    stops = frozenset(
        (queue, other)
        for other, pushed in sends.items()
        for queue in pushed
        if queue in reads and queue in heard
    )
    return Loop(
        id=nodes[0],
        nodes=tuple(nodes),
        reads=tuple(reads),
        stops=stops,
        sends=tuple(queue for queue in sends[nodes[0]] if queue in heard),
        is_source=not stops,
    )


def _sends(graph: Graph, links: Collection[Link], nodes: list[str]) -> list[str]:
    writers = [node for node in nodes if graph.by_id[node].type == WRITER]
    return list(dict.fromkeys(q for node in writers for q in queues_of_writer(links, node)))


def _steps(sends: dict[str, list[str]], reads: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return which loops come directly after each."""
    return {
        loop: [other for other, read in reads.items() if set(queues) & set(read)]
        for loop, queues in sends.items()
    }
