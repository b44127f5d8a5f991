"""The graph of a flow: nodes and edges, read from the JSON of React-Flow-style editors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, cast

import msgspec

from omniq.exceptions import ValidationError
from omniq.flow.errors import Problem
from omniq.ids import check_name

Source = str | bytes | Mapping[str, Any]
"""A flow as JSON text, or as what `json.loads` makes of it."""


class Node(msgspec.Struct, frozen=True):
    """A node of the graph.

    Attributes:
        id: unique in its graph.
        type: the name of its node type.
        config: what its type is called with.
        pool: where its function runs, if not where its type says.
    """

    id: str
    type: str
    config: dict[str, Any] = {}
    pool: str | None = None


class Edge(msgspec.Struct, frozen=True):
    """A connection; `handle` is the exit of the source it hangs on (None: its only one)."""

    source: str
    target: str
    handle: str | None = None

    def __str__(self) -> str:
        return f"edge {self.source} -> {self.target}"


class Graph(msgspec.Struct, frozen=True, dict=True):
    """Nodes and edges, in the order of their document."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def by_id(self) -> dict[str, Node]:
        """The nodes by id."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def out_edges(self) -> dict[str, list[Edge]]:
        """The edges that leave each node; only those that arrive at one."""
        found: dict[str, list[Edge]] = {node.id: [] for node in self.nodes}
        for edge in self.edges:
            if edge.source in found and edge.target in found:
                found[edge.source].append(edge)
        return found

    @cached_property
    def in_edges(self) -> dict[str, list[Edge]]:
        """The edges that arrive at each node; only those that come from one."""
        found: dict[str, list[Edge]] = {node.id: [] for node in self.nodes}
        for edges in self.out_edges.values():
            for edge in edges:
                found[edge.target].append(edge)
        return found


def read_graph(source: Source) -> tuple[Graph, list[Problem]]:
    """Return the graph of a document and all that is wrong with the document itself.

    What cannot be read is left out of the graph, so that the rest can be checked too.
    """
    problems: list[Problem] = []
    document = _document(source, problems)
    nodes: list[Node] = []
    known: set[str] = set()
    for place, raw in _entries(document, "nodes", problems):
        node = _node(place, raw, problems)
        if node is not None and node.id in known:
            problems.append(Problem(f"node {node.id}", "another node has this id; ids are unique"))
        elif node is not None:
            known.add(node.id)
            nodes.append(node)
    edges = [
        edge
        for place, raw in _entries(document, "edges", problems)
        if (edge := _edge(place, raw, problems)) is not None
    ]
    return Graph(tuple(nodes), tuple(dict.fromkeys(edges))), problems


def _document(source: Source, problems: list[Problem]) -> Mapping[str, Any]:
    found: object = source
    if isinstance(source, str | bytes):
        try:
            found = json.loads(source)
        except ValueError as error:
            problems.append(Problem("flow", f"not JSON: {error}"))
            return {}
    if isinstance(found, Mapping):
        return cast("Mapping[str, Any]", found)
    problems.append(Problem("flow", "expected an object with nodes and edges"))
    return {}


def _entries(
    document: Mapping[str, Any], name: str, problems: list[Problem]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a list of the document, each with the place it stands at."""
    entries: object = document.get(name, [])
    if not isinstance(entries, list | tuple):
        problems.append(Problem(name, "expected a list"))
        return
    for place, raw in enumerate(cast("list[object]", entries)):
        if isinstance(raw, Mapping):
            yield f"{name}[{place}]", cast("Mapping[str, Any]", raw)
        else:
            problems.append(Problem(f"{name}[{place}]", "expected an object"))


def _node(place: str, raw: Mapping[str, Any], problems: list[Problem]) -> Node | None:
    try:
        node_id = check_name("id", raw.get("id"))
    except ValidationError as error:
        problems.append(Problem(place, f"id: {error.problem}"))
        return None
    kind = raw.get("type")
    if not isinstance(kind, str) or not kind:
        problems.append(Problem(f"node {node_id}", "has no type"))
        kind = ""
    data = _settings(node_id, raw, problems)
    config, pool = data.get("config"), data.get("pool")
    if config is not None and not isinstance(config, Mapping):
        problems.append(Problem(f"node {node_id}", "expected an object as data.config"))
        config = None
    if pool is not None and not isinstance(pool, str):
        problems.append(Problem(f"node {node_id}", "expected a string as data.pool"))
        pool = None
    return Node(node_id, kind, dict(cast("Mapping[str, Any]", config or {})), pool)


def _settings(node_id: str, raw: Mapping[str, Any], problems: list[Problem]) -> Mapping[str, Any]:
    """Return ``data``; its ``config`` and ``pool`` are ours, the rest belongs to the editor."""
    data: object = raw.get("data")
    if isinstance(data, Mapping):
        return cast("Mapping[str, Any]", data)
    if data is not None:
        problems.append(Problem(f"node {node_id}", "expected an object as data"))
    return {}


def _edge(place: str, raw: Mapping[str, Any], problems: list[Problem]) -> Edge | None:
    source, target, handle = raw.get("source"), raw.get("target"), raw.get("sourceHandle")
    if not isinstance(source, str) or not isinstance(target, str):
        problems.append(Problem(place, "expected the ids of two nodes as source and target"))
        return None
    if handle is not None and not isinstance(handle, str):
        problems.append(Problem(place, "expected a string or nothing as sourceHandle"))
        return None
    return Edge(source, target, handle)
