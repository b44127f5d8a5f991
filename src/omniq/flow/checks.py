"""All that can be wrong with a flow, found before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from omniq.exceptions import ConfigError, ValidationError
from omniq.flow.errors import FlowValidationError, Problem
from omniq.flow.graph import Edge, Graph, Node, Source, read_graph
from omniq.flow.nodes import READER, WRITER, Kind, NodeTypes
from omniq.flow.plan import Plan, inner_edges, make_plan, reached
from omniq.flow.queues import CONFIG_KEY, DEAD_LETTERS, Link, QueueMapper, manual_name
from omniq.ids import check_name


def read_flow(source: Source, types: NodeTypes) -> Plan:
    """Return the plan of a flow document.

    Raises:
        FlowValidationError: it cannot be run; `problems` has everything that is wrong with it.
    """
    graph, problems = read_graph(source)
    problems += find_problems(graph, types)
    if problems:
        raise FlowValidationError(problems)
    return make_plan(graph, types, QueueMapper().links(graph))


def find_problems(graph: Graph, types: NodeTypes) -> list[Problem]:
    """Return all that is wrong with a graph; an empty list, if it can be run."""
    links = QueueMapper().links(graph)
    found: list[Problem] = []
    if not graph.nodes:
        found.append(Problem("flow", "has no nodes"))
    for node in graph.nodes:
        found += (Problem(f"node {node.id}", text) for text in _of_node(graph, types, links, node))
    for edge in graph.edges:
        found += (Problem(str(edge), text) for text in _of_edge(graph, types, edge))
    found += _queues_with_two_readers(links)
    found += _cycles(graph)
    found += _unreached(graph, types)
    return found


def _of_node(graph: Graph, types: NodeTypes, links: list[Link], node: Node) -> Iterator[str]:
    kind = types.get(node.type)
    if kind is None:
        if node.type:
            yield f"unknown type {node.type!r}{_close(node.type, types)}"
        return
    try:
        kind.in_pool(node.pool)
    except ConfigError as error:
        yield str(error)
    misfit = kind.misfit(node.config)
    if misfit is not None:
        yield f"config does not fit type {kind.name}: {misfit}"
    if kind.kind in {Kind.WRITER, Kind.READER}:
        yield from _of_queue_node(graph, links, node)


def _close(name: str, types: NodeTypes) -> str:
    close = get_close_matches(name, [kind.name for kind in types], n=1)
    return f"; did you mean {close[0]}?" if close else "; declare it in NodeTypes"


def _of_queue_node(graph: Graph, links: list[Link], node: Node) -> Iterator[str]:
    given = node.config.get(CONFIG_KEY)
    if given is not None:
        try:
            check_name(CONFIG_KEY, given)
        except ValidationError as error:
            yield str(error)
    if given == DEAD_LETTERS:
        yield f"{CONFIG_KEY}: {DEAD_LETTERS} is the queue of what nodes failed on"
    if not any(node.id in {link.writer, link.reader} for link in links):
        other = "a QueueReader" if node.type == WRITER else "a QueueWriter"
        yield f"has no queue: connect it to {other}, or name one as its {CONFIG_KEY}"
    for edge in graph.out_edges[node.id]:
        target = graph.by_id[edge.target]
        ends = (manual_name(node), manual_name(target))
        if (node.type, target.type) == (WRITER, READER) and None not in ends and len({*ends}) == 2:
            yield f"writes to queue {ends[0]}, but {target.id} reads {ends[1]}"


def _of_edge(graph: Graph, types: NodeTypes, edge: Edge) -> Iterator[str]:
    missing = [end for end in (edge.source, edge.target) if end not in graph.by_id]
    if missing:
        yield f"there is no node {' nor '.join(dict.fromkeys(missing))}"
        return
    source = types.get(graph.by_id[edge.source].type)
    target = types.get(graph.by_id[edge.target].type)
    if target is not None and target.kind is Kind.PRODUCER:
        yield "a producer starts a loop; nothing can lead to it"
    if source is None:
        return
    if target is not None and target.kind is Kind.READER and source.kind is not Kind.WRITER:
        yield "a QueueReader is fed by a QueueWriter only"
    if source.kind is Kind.CONDITIONAL and edge.handle not in source.handles:
        exits = ", ".join(source.handles)
        yield f"sourceHandle is {edge.handle!r}; the exits of {source.name} are {exits}"


def _queues_with_two_readers(links: list[Link]) -> Iterator[Problem]:
    readers: dict[str, set[str]] = {}
    for link in links:
        if link.reader is not None:
            readers.setdefault(link.queue, set()).add(link.reader)
    for queue, ids in readers.items():
        if len(ids) > 1:
            text = f"is read by {', '.join(sorted(ids))}; a queue has one reader, name them apart"
            yield Problem(f"queue {queue}", text)


def _cycles(graph: Graph) -> Iterator[Problem]:
    """Find the nodes that come back to themselves without a queue in between."""
    steps = {node.id: [e.target for e in inner_edges(graph, node.id)] for node in graph.nodes}
    told: set[str] = set()
    for node in graph.nodes:
        after = reached(steps, steps[node.id])
        if node.id not in after or node.id in told:
            continue
        ring = [other for other in after if node.id in reached(steps, steps[other])]
        told.update(ring)
        names = ", ".join(sorted(ring))
        text = f"{names} form a cycle; put a QueueWriter and a QueueReader into it"
        yield Problem(f"node {node.id}", text)


def _unreached(graph: Graph, types: NodeTypes) -> Iterator[Problem]:
    steps = {node.id: [e.target for e in inner_edges(graph, node.id)] for node in graph.nodes}
    first = [
        node.id
        for node in graph.nodes
        if (kind := types.get(node.type)) is None or kind.kind.starts_loop
    ]
    found = set(reached(steps, first))
    for node in graph.nodes:
        if node.id not in found:
            yield Problem(f"node {node.id}", "no producer leads to it, so it would never run")
