"""What a store is called in findings and log lines."""

from __future__ import annotations


def store_label(kind: str, place: object, namespace: str, schema: str = "public") -> str:
    """Return the name of a store: its kind, its place, and which part of that if not the usual.

    Args:
        kind: such as ``redis``.
        place: its address without a password.
        namespace: whose tables or keys it uses there.
        schema: where these tables are.
    """
    unusual = [f"schema {schema}"] if schema != "public" else []
    unusual += [f"namespace {namespace}"] if namespace != "omniq" else []
    return f"{kind} {place}" + (f" ({', '.join(unusual)})" if unusual else "")
