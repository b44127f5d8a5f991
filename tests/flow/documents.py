"""Flows as an editor would save them, written in one line each."""

from __future__ import annotations

from typing import Any, cast


def flow(nodes: dict[str, Any], *edges: str) -> dict[str, Any]:
    """Return a document.

    Nodes are ``{"id": "type"}``, ``{"id": ("type", config)}`` or, to be run in a pool of their own,
    ``{"id": ("type", config, "pool")}``; edges ``"a -> b"`` or, for an
    exit of a conditional, ``"a:yes -> b"``.
    """
    return {
        "nodes": [_node(node_id, given) for node_id, given in nodes.items()],
        "edges": [_edge(edge) for edge in edges],
    }


def _node(node_id: str, given: Any) -> dict[str, Any]:
    parts = cast("tuple[Any, ...]", given if isinstance(given, tuple) else (given,))
    kind, config, pool = (*parts, None, None)[:3]
    data = {"label": node_id.title(), "config": config, "pool": pool}
    return {"id": node_id, "type": kind, "position": {"x": 0, "y": 0}, "data": data}


def _edge(text: str) -> dict[str, Any]:
    source, target = text.split(" -> ")
    source, _, handle = source.partition(":")
    return {"id": text, "source": source, "target": target, "sourceHandle": handle or None}
