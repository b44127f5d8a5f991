"""The parts of a benchmark: each takes one adapter through one experiment in fresh processes and a fresh directory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.catalogue import Entry
from bench.process import Child
from bench.recorder import RunReader
from bench.results import percentile
from bench.sizes import CONCURRENCY, Sizes

DRAIN_TIMEOUT_SECONDS = 180.0
SETTLING_SECONDS = 1.0
SPARE_SLOTS = 1000
WARM_UPS = 3

Values = dict[str, float]


class NotExact(Exception):
    """A drain lost a task or ran one twice."""


def measure_enqueue(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks enqueued per second: one by one, a hundred in flight, and by the bulk call, each in a new store."""
    acts: Sequence[tuple[str, int, dict[str, int]]] = (
        ("enqueue_one_by_one", sizes.one_by_one, {}),
        ("enqueue_concurrently", sizes.concurrent, {"width": CONCURRENCY}),
        ("enqueue_bulk", sizes.bulk, {}),
    )
    rates: Values = {}
    for act, n, arguments in acts:
        with _client(entry, n) as (_, client):
            seconds = client.act(act, n=n, **arguments)
        if seconds is not None:
            rates[f"{act}_per_second"] = n / seconds
    return rates


def measure_drain_of_one(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks drained per second by one worker process."""
    return {"drain_1_per_second": _drain(entry, sizes.drain_of(entry), processes=1)}


def measure_drain_of_two(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks drained per second by two worker processes; nothing for a queue inside one process."""
    if entry.in_process:
        return {}
    return {"drain_2_per_second": _drain(entry, sizes.drain_of(entry), processes=2)}


def measure_end_to_end(entry: Entry, sizes: Sizes) -> Values:
    """Measure tasks per second from enqueue to result, a hundred enqueues in flight, in one process.

    Only for queues inside one process, where enqueuing and running share a core. It is the measure that suits a broker
    that starts each task when it is sent, and so does part of the drain's work while enqueuing.
    """
    if not entry.in_process:
        return {}
    n = sizes.drain_of(entry)
    with _client(entry, n) as (directory, client):
        seconds = client.act(
            "end_to_end", n=n, width=CONCURRENCY, timeout_seconds=DRAIN_TIMEOUT_SECONDS
        )
        _check_exactness(RunReader(directory), n)
    return {"end_to_end_per_second": n / seconds}


def measure_latency(entry: Entry, sizes: Sizes) -> Values:
    """Measure seconds from enqueue to start and to the result seen by the one who enqueued, into an idle queue."""
    budget = sizes.latency_budget_seconds
    with _client(entry, WARM_UPS + sizes.latency) as (directory, client), ExitStack() as stack:
        if entry.in_process:
            client.act("start_worker")
        else:
            _start_workers(entry, directory, WARM_UPS + sizes.latency, 1, stack)
        client.act("latency", first=0, samples=WARM_UPS, budget_seconds=budget)
        samples = client.act(
            "latency", first=WARM_UPS, samples=sizes.latency, budget_seconds=budget
        )
    starts, results = zip(*samples, strict=True)
    quantiles = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
    return {
        f"start_{name}_seconds": percentile(starts, share) for name, share in quantiles.items()
    } | {f"result_{name}_seconds": percentile(results, share) for name, share in quantiles.items()}


def measure_resident(entry: Entry, sizes: Sizes) -> Values:
    """Measure a worker as its user starts it: peak memory over a drain, then its CPU time while there is nothing to do."""
    n = sizes.resident
    with _client(entry, n) as (directory, client), ExitStack() as stack:
        client.act("fill", n=n)
        worker = (
            client
            if entry.in_process
            else _start_workers(entry, directory, n, 1, stack, role="command")[0]
        )
        client.act(
            "drain" if entry.in_process else "wait_finished",
            n=n,
            timeout_seconds=DRAIN_TIMEOUT_SECONDS,
        )
        time.sleep(SETTLING_SECONDS)
        used, began = worker.cpu_seconds(), time.monotonic()
        time.sleep(sizes.idle_seconds)
        idle = (worker.cpu_seconds() - used) / (time.monotonic() - began)
        return {"idle_cpu_percent": 100 * idle, "peak_memory_bytes": worker.peak_memory_bytes()}


def measure_import(entry: Entry, sizes: Sizes) -> Values:
    """Measure seconds to import the library in a new interpreter."""
    if entry.package is None:
        return {}
    code = f"import time; t = time.perf_counter(); import {entry.package}; print(time.perf_counter() - t)"
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


def _drain(entry: Entry, n: int, *, processes: int) -> float:
    """Return tasks per second from the first run to the last settled task, having checked that each ran exactly once.

    The clock starts with the first run, so that starting interpreters and threads counts for nobody.
    """
    with _client(entry, n) as (directory, client), ExitStack() as stack:
        client.act("fill", n=n)
        if entry.in_process:
            ended_at = client.act("drain", n=n, timeout_seconds=DRAIN_TIMEOUT_SECONDS)
        else:
            _start_workers(entry, directory, n, processes, stack)
            ended_at = client.act("wait_finished", n=n, timeout_seconds=DRAIN_TIMEOUT_SECONDS)
        stack.close()
        runs = RunReader(directory)
        _check_exactness(runs, n)
        return n / ((ended_at - runs.first_run_at()) / 1e9)


def _check_exactness(runs: RunReader, n: int) -> None:
    exactness = runs.exactness(n)
    if not exactness.holds:
        raise NotExact(str(exactness))


def _start_workers(
    entry: Entry, directory: Path, n: int, processes: int, stack: ExitStack, role: str = "worker"
) -> list[Child]:
    """Start the workers, wait until all are set up, and let them begin together."""
    commands, each = (1, processes) if entry.supervised else (processes, 1)
    workers = [
        stack.enter_context(Child(entry, role, directory, capacity=_capacity(n), processes=each))
        for _ in range(commands)
    ]
    for worker in workers:
        worker.await_ready()
    for worker in workers:
        worker.go()
    return workers


@contextmanager
def _client(entry: Entry, n: int) -> Iterator[tuple[Path, Child]]:
    """Open a directory and a client process in it, with room to log ``n`` runs and many too many."""
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with Child(entry, "client", directory, capacity=_capacity(n)) as client:
            client.await_ready()
            yield directory, client


def _capacity(n: int) -> int:
    return 2 * n + SPARE_SLOTS
