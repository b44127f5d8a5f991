"""Flows: graphs of nodes, cut into loops that talk through queues.

`NodeTypes` declares what nodes do, `FlowEngine` runs a flow.
"""

from omniq.flow.checks import find_problems, read_flow
from omniq.flow.development import NodeOutput
from omniq.flow.engine import FlowEngine
from omniq.flow.errors import FlowValidationError, MissingOutputError, NodeFailedError, Problem
from omniq.flow.events import (
    DeadLetter,
    Listener,
    LoopReport,
    NodeCounts,
    NodeEvent,
    NodeEventType,
)
from omniq.flow.graph import Edge, Graph, Node, read_graph
from omniq.flow.nodes import Kind, NodeType, NodeTypes, Pool
from omniq.flow.plan import Loop, Plan
from omniq.flow.queues import Link, QueueMapper
from omniq.flow.tasks import FlowRun, FlowTasks

__all__ = [
    "DeadLetter",
    "Edge",
    "FlowEngine",
    "FlowRun",
    "FlowTasks",
    "FlowValidationError",
    "Graph",
    "Kind",
    "Link",
    "Listener",
    "Loop",
    "LoopReport",
    "MissingOutputError",
    "Node",
    "NodeCounts",
    "NodeEvent",
    "NodeEventType",
    "NodeFailedError",
    "NodeOutput",
    "NodeType",
    "NodeTypes",
    "Plan",
    "Pool",
    "Problem",
    "QueueMapper",
    "find_problems",
    "read_flow",
    "read_graph",
]
