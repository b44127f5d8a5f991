"""What a flow tells about its nodes while it runs, and what it sums up at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from omniq.clock import utcnow
from omniq.models.result import ErrorInfo

logger = logging.getLogger(__name__)


class NodeEventType(StrEnum):
    """What happens to loops and to their nodes."""

    LOOP_STARTED = "LOOP_STARTED"
    LOOP_STOPPED = "LOOP_STOPPED"
    NODE_STARTED = "NODE_STARTED"
    NODE_COMPLETED = "NODE_COMPLETED"
    NODE_FAILED = "NODE_FAILED"


class NodeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a node; for a loop, to its first node."""

    event_type: NodeEventType
    loop_id: str
    node_id: str
    timestamp: datetime = msgspec.field(default_factory=utcnow)
    error: ErrorInfo | None = None


Listener = Callable[[NodeEvent], None]
"""Called in the event loop of the flow for each event; it must be quick and not block."""


class NodeCounts(msgspec.Struct):
    """How often a node ran to its end, and how often it raised."""

    completed: int = 0
    failed: int = 0


class LoopReport(msgspec.Struct, kw_only=True):
    """How a loop ended.

    Attributes:
        loop_id: the id of its first node.
        items: how many items its first node gave.
        nodes: the counts of each of its nodes.
        error: why its first node could not go on, if it raised.
    """

    loop_id: str
    items: int = 0
    nodes: dict[str, NodeCounts] = {}
    error: ErrorInfo | None = None


class DeadLetter(msgspec.Struct, kw_only=True):
    """An item a node failed on.

    Attributes:
        loop_id, node_id: where.
        item: what the node was given; None for the first node of a loop.
        item_text: how an item looks that cannot be stored itself.
        error: what the node raised.
        failed_at: when.
    """

    loop_id: str
    node_id: str
    item: Any = None
    item_text: str | None = None
    error: ErrorInfo
    failed_at: datetime


class Observer:
    """Counts what happens in a loop and passes it on to the listener."""

    def __init__(self, loop_id: str, nodes: tuple[str, ...], listener: Listener | None) -> None:
        self.report = LoopReport(loop_id=loop_id, nodes={node: NodeCounts() for node in nodes})
        self._listener = listener

    def loop(self, event_type: NodeEventType) -> None:
        """Tell that the loop started or stopped."""
        self._tell(event_type, self.report.loop_id, self.report.error)

    def started(self, node_id: str) -> None:
        """Tell that a node was given an item."""
        self._tell(NodeEventType.NODE_STARTED, node_id)

    def completed(self, node_id: str) -> None:
        """Count and tell that a node is done with an item."""
        self.report.nodes[node_id].completed += 1
        self._tell(NodeEventType.NODE_COMPLETED, node_id)

    def failed(self, node_id: str, error: ErrorInfo) -> None:
        """Count and tell that a node raised."""
        self.report.nodes[node_id].failed += 1
        self._tell(NodeEventType.NODE_FAILED, node_id, error)

    def _tell(
        self, event_type: NodeEventType, node_id: str, error: ErrorInfo | None = None
    ) -> None:
        if self._listener is None:
            return
        event = NodeEvent(
            event_type=event_type, loop_id=self.report.loop_id, node_id=node_id, error=error
        )
        try:
            self._listener(event)
        except Exception:
            logger.exception("the listener of loop %s failed", self.report.loop_id)
