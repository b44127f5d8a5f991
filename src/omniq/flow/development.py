"""Development mode: one node at a time, on the cached outputs of those before it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec

from omniq.flow.errors import MissingOutputError, NodeFailedError
from omniq.flow.graph import Edge, Node
from omniq.flow.nodes import READER, Kind
from omniq.flow.plan import Plan
from omniq.flow.pools import Pools
from omniq.flow.queues import queues_of_reader
from omniq.flow.runner import run_node
from omniq.flow.sources import produced
from omniq.flow.wires import Wires


class NodeOutput(msgspec.Struct, frozen=True):
    """What a node gave in development mode: its data, and the exit of a conditional."""

    node_id: str
    data: Any
    handle: str | None = None


async def run_single(
    plan: Plan, wires: Wires, pools: Pools, node: Node, given: Any, ttl: float | None
) -> NodeOutput:
    """Run one node and cache its output.

    Raises:
        MissingOutputError: no node before it has an output that leads to it.
        NodeFailedError: the node raised.
        SerializationError: the output is not JSON.
    """
    kind = plan.type_of(node)
    if kind.kind is not Kind.PRODUCER and given is None:
        given = await _input(plan, wires, node)
    try:
        if kind.kind is Kind.PRODUCER:
            output, handle = await _first(plan, pools, node), None
        elif kind.kind is Kind.READER:
            output, handle = given, None
        else:
            output, handle = await run_node(kind, node, given, pools)
    except Exception as error:
        raise NodeFailedError(f"node {node.id} ({kind.name}) failed: {error!r}") from error
    await wires.keep_output(node.id, output, handle, ttl)
    return NodeOutput(node.id, output, handle)


async def _first(plan: Plan, pools: Pools, node: Node) -> Any:
    """Return the first item of a producer; None if it has none."""
    async with aclosing(produced(plan.type_of(node), node.config, pools)) as items:
        return await anext(items, None)


async def _input(plan: Plan, wires: Wires, node: Node) -> Any:
    """Return the cached output of the first node before this one that has one leading here."""
    reasons: list[str] = []
    for edge in _edges_before(plan, node):
        data, handle = await wires.output(edge.source)
        if data is None:
            reasons.append(f"{edge.source}_output is missing; run {edge.source} first")
        elif handle is not None and handle != edge.handle:
            reasons.append(f"{edge.source} left by its exit {handle!r}, not by {edge.handle!r}")
        else:
            return data
    if node.type == READER and not reasons:
        return await _from_outside(plan, wires, node)
    raise MissingOutputError(f"node {node.id} has no input: {'; '.join(reasons)}")


def _edges_before(plan: Plan, node: Node) -> list[Edge]:
    """Return what leads to a node: edges and, for a reader, queues."""
    edges = list(plan.graph.in_edges[node.id])
    known = {edge.source for edge in edges}
    return edges + [
        Edge(link.writer, node.id)
        for link in plan.links
        if link.reader == node.id and link.writer is not None and link.writer not in known
    ]


async def _from_outside(plan: Plan, wires: Wires, node: Node) -> Any:
    """Take an item from a queue that something outside of this flow fills."""
    queues = queues_of_reader(plan.links, node.id)
    for queue in queues:
        found = await wires.take_waiting(queue)
        if found is not None:
            return found
    raise MissingOutputError(f"node {node.id} has no input: nothing is in {', '.join(queues)}")
