"""The adapters that the harness knows, by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

from bench.adapter import Adapter

Pace = Literal["slow", "medium", "fast"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an adapter is, and how the harness has to drive it.

    Attributes:
        target: ``module:Class`` of the adapter, imported only in child processes. package: the
        import name of the library, to tell whether it is installed; None for the standard library.
        in_process: the worker runs in the process that enqueues, since nobody else can see the
        queue. supervised: the worker forks its own processes, so two workers are one command. pace:
        how many tasks it drains, so that a slow one does not last and a fast one is not over at
        once.
    """

    name: str
    backend: str
    target: str
    package: str | None
    in_process: bool = False
    supervised: bool = False
    pace: Pace = "medium"

    def available(self) -> bool:
        """Return whether the library is installed."""
        return self.package is None or find_spec(self.package) is not None


PEERS = "bench.peers"
CATALOGUE = (
    Entry(
        "omniq-sqlite-full", "sqlite", "bench.omniq_sqlite:OmniQSQLiteFull", "omniq", pace="fast"
    ),
    Entry(
        "omniq-sqlite-fast", "sqlite", "bench.omniq_sqlite:OmniQSQLiteFast", "omniq", pace="fast"
    ),
    Entry("huey-sqlite-fsync", "sqlite", f"{PEERS}.huey_sqlite:HueyFsync", "huey", pace="slow"),
    Entry("huey-sqlite-default", "sqlite", f"{PEERS}.huey_sqlite:HueyDefault", "huey", pace="slow"),
    Entry("huey-sqlite-nosync", "sqlite", f"{PEERS}.huey_sqlite:HueyNoSync", "huey"),
    Entry(
        "potatoq-sqlite",
        "sqlite",
        f"{PEERS}.potatoq_sqlite:PotatoqSQLite",
        "potatoq",
        supervised=True,
    ),
    Entry("raw-sqlite-full", "sqlite", f"{PEERS}.raw_sqlite:RawFull", None, pace="fast"),
    Entry("raw-sqlite-normal", "sqlite", f"{PEERS}.raw_sqlite:RawNormal", None, pace="fast"),
    Entry(
        "omniq-memory",
        "memory",
        "bench.omniq_memory:OmniQMemory",
        "omniq",
        in_process=True,
        pace="fast",
    ),
    Entry(
        "taskiq-memory", "memory", f"{PEERS}.taskiq_memory:TaskiqMemory", "taskiq", in_process=True
    ),
    Entry(
        "apscheduler-memory",
        "memory",
        f"{PEERS}.apscheduler_memory:APSchedulerMemory",
        "apscheduler",
        True,
    ),
    Entry("huey-memory", "memory", f"{PEERS}.huey_memory:HueyMemory", "huey", in_process=True),
    Entry(
        "raw-memory", "memory", f"{PEERS}.raw_memory:RawMemory", None, in_process=True, pace="fast"
    ),
)


def load(target: str) -> Adapter:
    """Import ``module:Class`` and return a new adapter."""
    module, _, name = target.partition(":")
    adapter = getattr(import_module(module), name)()
    if not isinstance(adapter, Adapter):
        raise TypeError(f"{target} is no adapter.")
    return adapter
