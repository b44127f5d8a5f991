"""Run one loop of the three-loop flow in a process of its own: URL, prefix, loop, count."""

from __future__ import annotations

import sys
from typing import Any

from omniq.datastore import DataStore
from omniq.flow import FlowEngine
from tests.flow.documents import flow
from tests.flow.samples import types


def three_loops(count: int) -> dict[str, Any]:
    """Return a flow of three loops; its second fails on each 100th item. Count 0 is endless."""
    nodes = {
        "p": ("numbers", {"count": count}) if count else "endless",
        **dict.fromkeys(("w1", "w2"), "QueueWriter"),
        **dict.fromkeys(("r1", "r2"), "QueueReader"),
        "f": ("fail_every", {"nth": 100}),
        "out": ("QueueWriter", {"queue_name": "out"}),
    }
    return flow(nodes, "p -> w1", "w1 -> r1", "r1 -> f", "f -> w2", "w2 -> r2", "r2 -> out")


if __name__ == "__main__":
    url, prefix, loop, count = sys.argv[1:]
    with DataStore(url=url, prefix=prefix) as store:
        report = FlowEngine(three_loops(int(count)), types, store).run_loop_sync(loop)
    print(report.items)
