"""Which queue connects which writer to which reader."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from omniq.flow.graph import Graph, Node
from omniq.flow.nodes import READER, WRITER

CONFIG_KEY = "queue_name"
DEAD_LETTERS = "dead_letters"
"""The queue of what nodes failed on; no reader or writer may have its name."""


class Link(msgspec.Struct, frozen=True, order=True):
    """A queue and its two ends; None stands for an end outside of this flow."""

    queue: str
    writer: str | None
    reader: str | None


class QueueMapper:
    """Gives each pair of a `QueueWriter` and a `QueueReader` its queue.

    That is ``queue_{source_id}_{target_id}``, or the ``queue_name`` in the config of either. A
    writer and a reader of the same ``queue_name`` need no edge. Mapping the same graph again gives
    the same names.
    """

    def links(self, graph: Graph) -> list[Link]:
        """Return all links of the graph: by edge, by a common name, and to the outside."""
        taken = {name for node in graph.nodes if (name := manual_name(node)) is not None}
        found: list[Link] = []
        for writer, reader in _pairs(graph):
            name = manual_name(reader) or manual_name(writer)
            if name is None:
                name = _free_name(f"queue_{writer.id}_{reader.id}", taken)
                taken.add(name)
            found.append(Link(name, writer.id, reader.id))
        found += _links_by_name(graph, {(link.writer, link.reader) for link in found})
        return found + _links_outside(graph, found)


def manual_name(node: Node) -> str | None:
    """Return the ``queue_name`` in the config of a writer or reader, if there is one."""
    if node.type not in {WRITER, READER}:
        return None
    name = node.config.get(CONFIG_KEY)
    return name if isinstance(name, str) and name else None


def queues_of_writer(links: Iterable[Link], node_id: str) -> list[str]:
    """Return the queues a writer pushes to, each once."""
    return list(dict.fromkeys(link.queue for link in links if link.writer == node_id))


def queues_of_reader(links: Iterable[Link], node_id: str) -> list[str]:
    """Return the queues a reader pops from, each once."""
    return list(dict.fromkeys(link.queue for link in links if link.reader == node_id))


def _pairs(graph: Graph) -> list[tuple[Node, Node]]:
    """Return the writers and readers that an edge connects."""
    found: list[tuple[Node, Node]] = []
    for node in graph.nodes:
        for edge in graph.out_edges[node.id]:
            target = graph.by_id[edge.target]
            if (node.type, target.type) == (WRITER, READER) and (node, target) not in found:
                found.append((node, target))
    return found


def _links_by_name(graph: Graph, known: set[tuple[str | None, str | None]]) -> list[Link]:
    return [
        Link(name, writer.id, reader.id)
        for writer in graph.nodes
        if writer.type == WRITER and (name := manual_name(writer)) is not None
        for reader in graph.nodes
        if reader.type == READER and manual_name(reader) == name
        if (writer.id, reader.id) not in known
    ]


def _links_outside(graph: Graph, known: list[Link]) -> list[Link]:
    """Return the named ends nothing in this flow is connected to."""
    found: list[Link] = []
    for node in graph.nodes:
        name = manual_name(node)
        if name is None:
            continue
        if node.type == WRITER and not queues_of_writer(known, node.id):
            found.append(Link(name, node.id, None))
        elif node.type == READER and not queues_of_reader(known, node.id):
            found.append(Link(name, None, node.id))
    return found


def _free_name(wanted: str, taken: set[str]) -> str:
    """Return the name, with a number if another pair spells the same: a_b + c and a + b_c."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
