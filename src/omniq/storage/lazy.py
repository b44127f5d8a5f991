"""Classes of all backends by name, imported when first asked for: no driver is loaded before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

BACKENDS = {
    "Memory": "omniq.storage.memory",
    "File": "omniq.storage.file",
    "SQLite": "omniq.storage.sqlite",
    "PostgreSQL": "omniq.storage.postgres",
    "Postgres": "omniq.storage.postgres",
    "Redis": "omniq.storage.redis",
    "NATS": "omniq.storage.nats",
    "Nats": "omniq.storage.nats",
}
"""What the classes of a backend begin with, and the module they live in."""


def class_homes(kind: str) -> dict[str, str]:
    """Return the module of each backend's class of this kind, under both of its names."""
    return {
        f"{face}{prefix}{kind}": module
        for prefix, module in BACKENDS.items()
        for face in ("", "Async")
    }


def load_class(package: str, name: str, homes: dict[str, str]) -> Any:
    """Return the class `name` from its module; for the `__getattr__` of `package`.

    Raises:
        AttributeError: there is no such name.
        ImportError: the driver of that backend is not installed.
    """
    home = homes.get(name)
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
