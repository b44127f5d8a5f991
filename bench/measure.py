"""The parts of a benchmark: each runs one adapter in new processes and a new directory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from bench.catalogue import Entry
from bench.results import percentile
from bench.sizes import CONCURRENCY, Sizes
from bench.stage import stage

SETTLING_SECONDS = 1.0
IDLE_WORKERS = 20
IDLE_SETTLING_SECONDS = 12.0
"""Until all workers are up, and PostgreSQL has heard of their first queries."""
WARM_UPS = 3
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
# The class too, so that a library which loads its parts when they are asked for gains nothing.
IMPORTS = {
    "omniq": "from omniq import OmniQ",
    "huey": "from huey import SqliteHuey",
    "potatoq": "from potatoq import Potatoq",
    "taskiq": "from taskiq import InMemoryBroker",
    "apscheduler": "from apscheduler import AsyncScheduler",
    "arq": "from arq import Worker",
    "saq": "from saq import Worker",
    "taskiq_redis": "from taskiq_redis import RedisStreamBroker",
    "dramatiq": "from dramatiq.brokers.redis import RedisBroker",
    "streaq": "from streaq import Worker",
    "pgqueuer": "from pgqueuer import PgQueuer",
    "dbos": "from dbos import DBOS",
    "taskiq_nats": "from taskiq_nats import PullBasedJetStreamBroker",
    "faststream": "from faststream.nats import NatsBroker",
}

Values = dict[str, float]


def measure_enqueue(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks enqueued per second: one by one, a hundred in flight, and in bulk."""
    rates = {
        "enqueue_one_by_one": _enqueue_rate(entry, "enqueue_one_by_one", sizes.one_by_one),
        "enqueue_concurrently": _enqueue_rate(
            entry, "enqueue_concurrently", sizes.concurrent, width=CONCURRENCY
        ),
        "enqueue_bulk": _enqueue_rate(entry, "enqueue_bulk", sizes.bulk),
    }
    return {f"{act}_per_second": rate for act, rate in rates.items() if rate is not None}


def measure_drain_of_one(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks drained per second by one worker process."""
    rate, cpu_seconds = _drained(entry, sizes.drain_of(entry), processes=1)
    return {"drain_1_per_second": rate, "drain_1_cpu_seconds": cpu_seconds}


def measure_drain_of_two(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks drained per second by two worker processes; not inside one process."""
    if entry.in_process:
        return {}
    rate, _ = _drained(entry, sizes.drain_of(entry), processes=2)
    return {"drain_2_per_second": rate}


def measure_end_to_end(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks per second from enqueue to result, a hundred enqueues in flight, one process.

    Only for queues inside one process, where enqueuing and running share a core. It is the measure
    that suits a broker which starts each task when it is sent: that does part of the drain's work
    while enqueuing.
    """
    if not entry.in_process:
        return {}
    n = sizes.drain_of(entry)
    with stage(entry, n) as on:
        seconds = on.client.act("end_to_end", n=n, width=CONCURRENCY)
        on.checked_runs(n)
    return {"end_to_end_per_second": n / seconds}


def measure_latency(entry: Entry, sizes: Sizes) -> Values:
    """Measure seconds from enqueue to start, and to the result seen by the enqueuer; idle queue."""
    budget = sizes.latency_budget_seconds
    with stage(entry, WARM_UPS + sizes.latency) as on:
        if entry.in_process:
            on.client.act("start_worker")
        else:
            on.start_workers(1)
        on.client.act("latency", first=0, samples=WARM_UPS, budget_seconds=budget)
        samples = on.client.act(
            "latency", first=WARM_UPS, samples=sizes.latency, budget_seconds=budget
        )
    starts, results = zip(*samples, strict=True)
    return {f"start_{name}_seconds": percentile(starts, q) for name, q in QUANTILES.items()} | {
        f"result_{name}_seconds": percentile(results, q) for name, q in QUANTILES.items()
    }


def measure_resident(entry: Entry, sizes: Sizes) -> Values:
    """Measure a worker as its user starts it: peak memory in a drain, then CPU while idle."""
    n = sizes.resident
    with stage(entry, n) as on:
        on.client.act("fill", n=n)
        worker = on.client if entry.in_process else on.start_workers(1, role="command")[0]
        on.client.act(
            "drain" if entry.in_process else "wait_finished",
            n=n,
        )
        time.sleep(SETTLING_SECONDS)
        used, began = worker.cpu_seconds(), time.monotonic()
        time.sleep(sizes.idle_seconds)
        idle = (worker.cpu_seconds() - used) / (time.monotonic() - began)
        return {"idle_cpu_percent": 100 * idle, "peak_memory_bytes": worker.peak_memory_bytes()}


def measure_idle(entry: Entry, sizes: Sizes) -> Values:
    """Measure the queries a second of each of many workers that have nothing to do.

    Not in all backends: the server has to count them.
    """
    if not entry.counts_queries:
        return {}
    with stage(entry, 1) as on:
        for _ in range(IDLE_WORKERS):
            on.start_workers(1, role="command")
        time.sleep(IDLE_SETTLING_SECONDS)
        before, began = on.client.act("queries"), time.monotonic()
        time.sleep(sizes.idle_queries_seconds)
        number, seconds = on.client.act("queries") - before, time.monotonic() - began
        return {"idle_queries_per_second": number / seconds / IDLE_WORKERS}


def measure_import(entry: Entry, sizes: Sizes) -> Values:
    """Measure seconds to import the library's main class in a new interpreter."""
    if entry.package not in IMPORTS:
        return {}
    code = (
        "import time; began = time.perf_counter(); "
        f"{IMPORTS[entry.package]}; print(time.perf_counter() - began)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"import_seconds": float(done.stdout)}


PARTS: dict[str, Callable[[Entry, Sizes], Values]] = {
    "enqueue": measure_enqueue,
    "drain1": measure_drain_of_one,
    "drain2": measure_drain_of_two,
    "end-to-end": measure_end_to_end,
    "latency": measure_latency,
    "resident": measure_resident,
    "idle": measure_idle,
    "import": measure_import,
}


def _enqueue_rate(entry: Entry, act: str, n: int, **arguments: int) -> float | None:
    with stage(entry, n) as on:
        seconds = on.client.act(act, n=n, **arguments)
    return None if seconds is None else n / seconds


def _drained(entry: Entry, n: int, *, processes: int) -> tuple[float, float]:
    """Return tasks per second and the workers' CPU seconds for each task; check exactness.

    The clock starts with the first run and ends with the last settled task, so that starting
    interpreters and threads counts for nobody. CPU time is taken from the start of the workers on.
    """
    with stage(entry, n) as on:
        on.client.act("fill", n=n)
        workers = [on.client] if entry.in_process else on.start_workers(processes)
        used = sum(worker.cpu_seconds() for worker in workers)
        ended_at = on.client.act("drain" if entry.in_process else "wait_finished", n=n)
        used = sum(worker.cpu_seconds() for worker in workers) - used
        rate = n / ((ended_at - on.checked_runs(n).first_run_at()) / 1e9)
    return rate, used / n
