"""How much work each part does."""

from __future__ import annotations

from dataclasses import dataclass

from bench.catalogue import Entry, Pace

CONCURRENCY = 100
PACES: dict[Pace, float] = {"slow": 0.2, "medium": 1, "fast": 3}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of tasks and seconds for one run of the harness.

    Attributes:
        latency_budget_seconds: a poller that needs longer for all samples sends fewer.
        growth: the sizes of growth mode: as many tasks waiting, delayed and finished.
        waiting: the sizes of waiting mode: how many tasks wait at least, smallest first.
    """

    rounds: int
    one_by_one: int
    concurrent: int
    bulk: int
    drain: int
    resident: int
    latency: int
    latency_budget_seconds: float
    idle_seconds: float
    idle_queries_seconds: float
    growth: tuple[int, ...]
    waiting: tuple[int, ...]

    def drain_of(self, entry: Entry) -> int:
        """Return how many tasks this adapter drains."""
        return int(self.drain * PACES[entry.pace])


FULL = Sizes(
    rounds=3,
    one_by_one=2_000,
    concurrent=10_000,
    bulk=50_000,
    drain=20_000,
    resident=10_000,
    latency=200,
    latency_budget_seconds=12.0,
    idle_seconds=5.0,
    idle_queries_seconds=30.0,
    growth=(1_000, 10_000, 100_000, 1_000_000),
    waiting=(10_000, 1_000_000),
)
QUICK = Sizes(
    rounds=1,
    one_by_one=500,
    concurrent=2_000,
    bulk=10_000,
    drain=10_000,
    resident=5_000,
    latency=50,
    latency_budget_seconds=4.0,
    idle_seconds=2.0,
    idle_queries_seconds=12.0,
    growth=(1_000, 10_000, 100_000),
    waiting=(10_000, 100_000),
)
