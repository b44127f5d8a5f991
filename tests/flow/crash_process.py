"""Run the second loop of a flow, slowly, until killed: URL, prefix, and where to leave a mark."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from omniq.datastore import DataStore
from omniq.flow import FlowEngine, NodeTypes
from tests.flow.documents import flow
from tests.flow.samples import numbers

LEASE_SECONDS = 0.3
NODES: dict[str, Any] = {
    "p": ("numbers", {"count": 30}),
    "w": "QueueWriter",
    "r": "QueueReader",
    "work": "work",
    "out": ("QueueWriter", {"queue_name": "out"}),
}
FLOW = flow(NODES, "p -> w", "w -> r", "r -> work", "work -> out")


def types(mark: Path | None) -> NodeTypes:
    """Return node types; with a mark, the 11th item makes it and then hangs."""
    made = NodeTypes()
    made.producer("numbers")(numbers)

    @made.blocking("work")
    def work(data: dict[str, int]) -> dict[str, int]:
        if mark is not None and data["n"] == 10:
            mark.touch()
            time.sleep(600)
        return data

    return made


def engine(store: DataStore, mark: Path | None) -> FlowEngine:
    """Return the engine of all processes of this test."""
    return FlowEngine(FLOW, types(mark), store, acknowledged=True, lease=LEASE_SECONDS)


if __name__ == "__main__":
    url, prefix, place = sys.argv[1:]
    with DataStore(url=url, prefix=prefix) as store:
        engine(store, Path(place)).run_loop_sync("r")
