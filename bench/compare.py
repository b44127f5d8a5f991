"""The ratios and limits that OmniQ has to keep, computed from one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.results import Results

DRAIN = "drain_1_per_second"
END_TO_END = "end_to_end_per_second"
ONE_BY_ONE = "enqueue_one_by_one_per_second"
CONCURRENT = "enqueue_concurrently_per_second"
BULK = "enqueue_bulk_per_second"
TWO = "drain_2_per_second"
FULL, FAST, MEMORY = "omniq-sqlite-full", "omniq-sqlite-fast", "omniq-memory"
REDIS, POSTGRES, NATS, BARE = "omniq-redis", "omniq-postgres", "omniq-nats", "omniq-nats-bare"
SYNCED_FILE, FAST_FILE = "omniq-file-full", "omniq-file-fast"
REDIS_PEERS = ("arq", "saq", "taskiq", "huey", "dramatiq", "streaq")

CLAIMS, RUNS = "claims_per_second_at_", "runs_per_second_at_"

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


def over_best(over: str, metric: str, peers: Sequence[str]) -> Figure:
    """Return a figure that divides a metric of one by that of the best of others."""

    def figure(results: Results) -> float | None:
        ours = results.median(over, metric)
        theirs = [found for peer in peers if (found := results.median(peer, metric))]
        return ours / max(theirs) if ours and theirs else None

    return figure


def scaled(name: str, metric: str, factor: float) -> Figure:
    """Return a figure that reads one metric in another unit."""

    def figure(results: Results) -> float | None:
        value = results.median(name, metric)
        return None if value is None else value * factor

    return figure


def sized(kind: str, size: int) -> str:
    """Name the rate, ``CLAIMS`` or ``RUNS``, measured with so many tasks in the store."""
    return f"{kind}{size}"


def sized_rates(results: Results, name: str, kind: str) -> dict[int, float]:
    """Return an adapter's rates of one kind by store size, smallest first."""
    rates = {
        int(metric.removeprefix(kind)): results.median(name, metric)
        for adapter, metric in results.samples
        if adapter == name and metric.startswith(kind)
    }
    return {size: rate for size, rate in sorted(rates.items()) if rate is not None}


def growth(name: str, kind: str = CLAIMS) -> Figure:
    """Return a figure that divides the rate at the largest size by that at the smallest."""

    def figure(results: Results) -> float | None:
        rates = list(sized_rates(results, name, kind).values())
        return rates[-1] / rates[0] if len(rates) > 1 else None

    return figure


def server_floors(title: str, name: str, raw: str, *, gathered: float) -> Sequence[Floor]:
    """Return what is promised on every server, beside a driver doing the same batched writes."""
    return (
        Floor(f"{title}: drain / raw driver", ratio((name, DRAIN), (raw, DRAIN)), 0.25),
        Floor(f"{title}: two workers / one", ratio((name, TWO), (name, DRAIN)), 1.5),
        Floor(f"{title}: bulk enqueue / raw driver", ratio((name, BULK), (raw, BULK)), 0.4),
        Floor(
            f"{title}: 100 at once / one by one",
            ratio((name, CONCURRENT), (name, ONE_BY_ONE)),
            gathered,
        ),
        Floor(
            f"{title}: one by one / raw round trip",
            ratio((name, ONE_BY_ONE), (raw, ONE_BY_ONE)),
            1 / 1.2,
        ),
        *(
            Floor(
                f"{title}: result seen, {quantile}",
                scaled(name, f"result_{quantile}_seconds", 1000),
                limit,
                at_most=True,
                unit="ms",
            )
            for quantile, limit in (("p50", 3), ("p99", 10))
        ),
    )


def idle_floor(title: str, name: str) -> Floor:
    """Return what an idle worker may ask of the server."""
    return Floor(
        f"{title}: queries of an idle worker",
        scaled(name, "idle_queries_per_second", 1),
        1,
        at_most=True,
        unit="/s",
    )


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
    Floor("SQLite: claim rate, most tasks / fewest", growth(FAST), 0.8),
    Floor(
        "Redis: drain / best peer",
        over_best(REDIS, DRAIN, [f"{peer}-redis" for peer in REDIS_PEERS]),
        8,
    ),
    Floor(
        "PostgreSQL: drain / pgqueuer", ratio((POSTGRES, DRAIN), ("pgqueuer-postgres", DRAIN)), 1
    ),
    Floor(
        "PostgreSQL: drain / best that keeps results",
        over_best(POSTGRES, DRAIN, ("dbos-postgres", "saq-postgres")),
        10,
    ),
    Floor("NATS: drain / taskiq", ratio((NATS, DRAIN), ("taskiq-nats", DRAIN)), 3),
    Floor(
        "NATS without results and events: drain / FastStream",
        ratio((BARE, DRAIN), ("faststream-nats", DRAIN)),
        1,
    ),
    *server_floors("Redis", REDIS, "raw-redis", gathered=3),
    *server_floors("PostgreSQL", POSTGRES, "raw-postgres", gathered=10),
    *server_floors("NATS", NATS, "raw-nats", gathered=3),
    Floor("Redis: claim rate, most tasks / fewest", growth(REDIS), 0.8),
    Floor("PostgreSQL: claim rate, most tasks / fewest", growth(POSTGRES), 0.8),
    idle_floor("Redis", REDIS),
    idle_floor("PostgreSQL", POSTGRES),
    Floor("files fast: drain / Huey", ratio((FAST_FILE, DRAIN), ("huey-file", DRAIN)), 5),
    Floor("files full: drain / Huey", ratio((SYNCED_FILE, DRAIN), ("huey-file", DRAIN)), 1.5),
    Floor(
        "files full: enqueue in bulk / bare create, fsync, rename",
        ratio((SYNCED_FILE, BULK), ("raw-file-fsync", BULK)),
        0.5,
    ),
    Floor("files: claim rate, most tasks / fewest", growth(FAST_FILE), 0.8),
    Floor("files: tasks run, most waiting / fewest", growth(FAST_FILE, RUNS), 0.95),
)


def judge(results: Results) -> list[Verdict]:
    """Judge every floor that this run measured."""
    return [verdict for floor in FLOORS if (verdict := floor.judge(results)) is not None]
