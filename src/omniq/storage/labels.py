"""What a store is called in findings and log lines."""

from __future__ import annotations

_USUAL = {"schema": "public", "namespace": "omniq"}


def store_label(kind: str, place: object, **parts: str) -> str:
    """Return the name of a store: its kind, its place, and which part of that if not the usual.

    Args:
        kind: such as ``redis``.
        place: its address without a password.
        **parts: the `schema` and `namespace` it uses there.
    """
    unusual = [f"{what} {name}" for what, name in parts.items() if name != _USUAL[what]]
    return f"{kind} {place}" + (f" ({', '.join(unusual)})" if unusual else "")
