"""How long a request may take."""

from __future__ import annotations

REQUEST_SECONDS = 15.0
CALL_SECONDS = 40.0
LEAST_RATE = 256 << 10
"""Bytes a second that any link carries: a request has that much more time than an empty one."""
CONNECT_SECONDS = 60.0
"""The packages of the stores take seconds to import, and may look for credentials in a network."""


def allowed(seconds: float, size: int) -> float:
    """Return how long a request may take that carries so many bytes, in seconds."""
    return seconds + size / LEAST_RATE
