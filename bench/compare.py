"""The ratios and limits that OmniQ has to keep, computed from one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Results

DRAIN = "drain_1_per_second"
END_TO_END = "end_to_end_per_second"
ONE_BY_ONE = "enqueue_one_by_one_per_second"
CONCURRENT = "enqueue_concurrently_per_second"
BULK = "enqueue_bulk_per_second"
FULL, FAST, MEMORY = "omniq-sqlite-full", "omniq-sqlite-fast", "omniq-memory"

CLAIM_PREFIX = "claims_per_second_at_"

Figure = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True)
class Floor:
    """One promise: a figure that has to be at least, or at most, a limit."""

    title: str
    figure: Figure
    limit: float
    at_most: bool = False
    unit: str = "times"

    def judge(self, results: Results) -> Verdict | None:
        """Compare the figure with the limit; None where this run did not measure it."""
        value = self.figure(results)
        if value is None:
            return None
        kept = value <= self.limit if self.at_most else value >= self.limit
        return Verdict(self.title, value, self.limit, "≤" if self.at_most else "≥", self.unit, kept)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judged floor."""

    title: str
    value: float
    limit: float
    relation: str
    unit: str
    kept: bool


def ratio(over: tuple[str, str], under: tuple[str, str]) -> Figure:
    """Return a figure that divides one (adapter, metric) by another."""

    def figure(results: Results) -> float | None:
        numerator, denominator = results.median(*over), results.median(*under)
        return numerator / denominator if numerator and denominator else None

    return figure


def scaled(name: str, metric: str, factor: float) -> Figure:
    """Return a figure that reads one metric in another unit."""

    def figure(results: Results) -> float | None:
        value = results.median(name, metric)
        return None if value is None else value * factor

    return figure


def claim_metric(size: int) -> str:
    """Name the claim rate measured with so many tasks of each kind in the store."""
    return f"{CLAIM_PREFIX}{size}"


def claim_rates(results: Results) -> dict[int, float]:
    """Return tasks claimed per second by store size, smallest first."""
    rates = {
        int(metric.removeprefix(CLAIM_PREFIX)): results.median(name, metric)
        for name, metric in results.samples
        if metric.startswith(CLAIM_PREFIX)
    }
    return {size: rate for size, rate in sorted(rates.items()) if rate is not None}


def growth(results: Results) -> float | None:
    """Return the claim rate at the largest size over that at the smallest."""
    rates = list(claim_rates(results).values())
    return rates[-1] / rates[0] if len(rates) > 1 else None


FLOORS = (
    Floor("SQLite full: drain / Huey fsync", ratio((FULL, DRAIN), ("huey-sqlite-fsync", DRAIN)), 8),
    Floor(
        "SQLite fast: drain / Huey default",
        ratio((FAST, DRAIN), ("huey-sqlite-default", DRAIN)),
        1.75,
    ),
    Floor(
        "SQLite fast: drain / Huey without sync",
        ratio((FAST, DRAIN), ("huey-sqlite-nosync", DRAIN)),
        1.75,
    ),
    Floor(
        "SQLite fast: drain / raw driver", ratio((FAST, DRAIN), ("raw-sqlite-normal", DRAIN)), 0.2
    ),
    Floor(
        "SQLite full: 100 at once / one by one", ratio((FULL, CONCURRENT), (FULL, ONE_BY_ONE)), 5
    ),
    Floor(
        "SQLite fast: 100 at once / one by one", ratio((FAST, CONCURRENT), (FAST, ONE_BY_ONE)), 5
    ),
    Floor(
        "SQLite full: bulk enqueue / raw driver",
        ratio((FULL, BULK), ("raw-sqlite-full", BULK)),
        0.3,
    ),
    Floor(
        "SQLite fast: bulk enqueue / raw driver",
        ratio((FAST, BULK), ("raw-sqlite-normal", BULK)),
        0.3,
    ),
    Floor(
        "memory: end to end / taskiq", ratio((MEMORY, END_TO_END), ("taskiq-memory", END_TO_END)), 2
    ),
    Floor(
        "memory: end to end / APScheduler 4",
        ratio((MEMORY, END_TO_END), ("apscheduler-memory", END_TO_END)),
        2.5,
    ),
    Floor("memory: drain / taskiq", ratio((MEMORY, DRAIN), ("taskiq-memory", DRAIN)), 2),
    Floor(
        "memory: drain / APScheduler 4", ratio((MEMORY, DRAIN), ("apscheduler-memory", DRAIN)), 2.5
    ),
    Floor(
        "SQLite full: result seen, p50",
        scaled(FULL, "result_p50_seconds", 1000),
        5,
        at_most=True,
        unit="ms",
    ),
    Floor(
        "SQLite full: result seen, p99",
        scaled(FULL, "result_p99_seconds", 1000),
        25,
        at_most=True,
        unit="ms",
    ),
    Floor(
        "SQLite full: idle worker's CPU",
        scaled(FULL, "idle_cpu_percent", 1),
        1,
        at_most=True,
        unit="%",
    ),
    Floor(
        "SQLite full: worker's peak memory",
        scaled(FULL, "peak_memory_bytes", 1e-6),
        60,
        at_most=True,
        unit="MB",
    ),
    Floor("import omniq", scaled(FULL, "import_seconds", 1000), 120, at_most=True, unit="ms"),
    Floor("SQLite: claim rate, most tasks / fewest", growth, 0.8),
)


def judge(results: Results) -> list[Verdict]:
    """Judge every floor that this run measured."""
    return [verdict for floor in FLOORS if (verdict := floor.judge(results)) is not None]
