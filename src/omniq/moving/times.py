"""How long the parties of a move rely on what they know."""

from __future__ import annotations

from omniq.storage.component import Capabilities

VALID_SECONDS = 3.0
"""How long an application relies on what it read of the marker, where asking costs little."""
SETTLE_SECONDS = 1.5 * VALID_SECONDS
"""So long after the marker was written, or first seen, everybody knows of it."""
LEASE_SECONDS = 30.0
"""How long the marker stays with a mover that says nothing."""
TOKEN_SECONDS = 60.0
"""A token this old has lost its producer."""
DEAD_SECONDS = 60.0
"""A lease over for so long has no holder who might still extend it."""
PAUSE_SECONDS = 0.2
"""Between two looks of the mover for what is left."""


def valid_seconds(source: Capabilities) -> float:
    """Return how long what was read of the marker counts: longer where each question costs."""
    return VALID_SECONDS * max(1.0, source.poll_seconds)


def settle_seconds(source: Capabilities) -> float:
    """Return how long to wait until everybody who uses the source knows of the marker."""
    return SETTLE_SECONDS * max(1.0, source.poll_seconds)


def lease_seconds(source: Capabilities) -> float:
    """Return how long the marker stays with a mover that says nothing."""
    return LEASE_SECONDS * max(1.0, source.lease_seconds / Capabilities().lease_seconds)
