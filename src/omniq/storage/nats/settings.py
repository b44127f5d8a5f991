"""The settings of a stream: those it is made with, and those it must have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omniq.exceptions import SchemaError


def settings_of(name: str, config: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """Return the settings a stream is made with, as the API spells them."""
    return {
        "name": name,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "num_replicas": replicas,
        "allow_direct": True,
        "duplicate_window": 1_000_000_000,
        **config,
    }


def refuse_other(
    found: Mapping[str, Any], wanted: Mapping[str, Any], required: Iterable[str], place: str
) -> None:
    """Refuse a stream that exists with other settings than it must have.

    Raises:
        SchemaError: it differs in what is required, or loses what it acknowledged.
    """
    wrong = sorted(key for key in required if found.get(key) != wanted.get(key, found.get(key)))
    if found.get("persist_mode") == "async":
        wrong.append("persist_mode")
    if wrong:
        raise SchemaError(
            f"nats server {place}: stream {wanted['name']} exists with other settings for "
            f"{', '.join(wrong)}; use another namespace, or delete the stream"
        )
