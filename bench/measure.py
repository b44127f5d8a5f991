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
WARM_UPS = 3
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
# The class too, so that a library which loads its parts when they are asked for gains nothing.
IMPORTS = {
    "omniq": "from omniq import OmniQ",
    "huey": "from huey import SqliteHuey",
    "potatoq": "from potatoq import Potatoq",
    "taskiq": "from taskiq import InMemoryBroker",
    "apscheduler": "from apscheduler import AsyncScheduler",
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
    return {"drain_1_per_second": _drain_rate(entry, sizes.drain_of(entry), processes=1)}


def measure_drain_of_two(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks drained per second by two worker processes; not inside one process."""
    if entry.in_process:
        return {}
    return {"drain_2_per_second": _drain_rate(entry, sizes.drain_of(entry), processes=2)}


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


def measure_import(entry: Entry, sizes: Sizes) -> Values:
    """Measure seconds to import the library's main class in a new interpreter."""
    if entry.package is None:
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
    "import": measure_import,
}


def _enqueue_rate(entry: Entry, act: str, n: int, **arguments: int) -> float | None:
    with stage(entry, n) as on:
        seconds = on.client.act(act, n=n, **arguments)
    return None if seconds is None else n / seconds


def _drain_rate(entry: Entry, n: int, *, processes: int) -> float:
    """Return tasks per second from the first run to the last settled task; check exactness.

    The clock starts with the first run, so that starting interpreters and threads counts for
    nobody.
    """
    with stage(entry, n) as on:
        on.client.act("fill", n=n)
        if entry.in_process:
            ended_at = on.client.act("drain", n=n)
        else:
            on.start_workers(processes)
            ended_at = on.client.act("wait_finished", n=n)
        return n / ((ended_at - on.checked_runs(n).first_run_at()) / 1e9)
