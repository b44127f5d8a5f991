"""The benchmark's own judgement: a harness that counts wrongly proves nothing. No timings here."""

from pathlib import Path

import pytest

from bench.compare import CLAIMS, DRAIN, FAST, FULL, REDIS, judge, sized
from bench.recorder import RunLog, RunReader
from bench.results import Results, percentile


def logged(folder: Path, *runs_by_process: list[int]) -> RunReader:
    for process, runs in enumerate(runs_by_process):
        log = RunLog(folder / f"runs-{process}.bin", capacity=100)
        for number in runs:
            log.append(number)
    return RunReader(folder)


def test_every_task_once_over_two_processes_is_exact(tmp_path: Path) -> None:
    """Which process ran a task does not matter, nor in which order."""
    runs = logged(tmp_path, [3, 0], [1, 2])

    assert runs.count() == 4
    assert runs.exactness(4).holds


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        (([0, 1], [3]), "of 4 tasks: 1 lost, 0 doubled, 0 unknown"),
        (([0, 1, 2], [2, 3]), "of 4 tasks: 0 lost, 1 doubled, 0 unknown"),
        (([0, 0, 1, 2], [3]), "of 4 tasks: 0 lost, 1 doubled, 0 unknown"),
        (([0, 1, 2, 3], [4]), "of 4 tasks: 0 lost, 0 doubled, 1 unknown"),
    ],
)
def test_lost_doubled_and_unknown_tasks_are_told(
    tmp_path: Path, runs: tuple[list[int], list[int]], found: str
) -> None:
    """A rate may be reported only when nothing was lost or ran twice."""
    exactness = logged(tmp_path, *runs).exactness(4)

    assert not exactness.holds
    assert str(exactness) == found


def test_floors_are_judged_by_medians_and_only_where_measured() -> None:
    """One slow round must not decide, and a part that did not run is neither kept nor missed."""
    results = Results()
    for ours, theirs in ((800.0, 100.0), (900.0, 100.0), (1.0, 100.0)):
        results.add(FULL, {DRAIN: ours})
        results.add("huey-sqlite-fsync", {DRAIN: theirs})

    (verdict,) = judge(results)

    assert (verdict.value, verdict.kept) == (8.0, True)


def test_growth_compares_the_largest_store_with_the_smallest() -> None:
    """The order in which sizes were measured does not matter."""
    results = Results()
    for size, rate in ((1_000_000, 70.0), (1_000, 100.0), (10_000, 90.0)):
        results.add(FAST, {sized(CLAIMS, size): rate})

    (verdict,) = judge(results)

    assert (verdict.value, verdict.kept) == (0.7, False)


def test_the_best_peer_is_the_one_to_beat() -> None:
    """A slow peer must not make a floor look kept, nor one that did not run make it unmeasured."""
    results = Results()
    for name, rate in ((REDIS, 900.0), ("huey-redis", 100.0), ("arq-redis", 150.0)):
        results.add(name, {DRAIN: rate})

    (verdict,) = judge(results)

    assert (verdict.value, verdict.kept) == (6.0, False)


def test_each_store_has_a_growth_of_its_own() -> None:
    """The rates of one backend are never compared with those of another."""
    results = Results()
    for name, rates in ((REDIS, (100.0, 90.0)), (FAST, (1000.0, 100.0))):
        for size, rate in zip((1_000, 1_000_000), rates, strict=True):
            results.add(name, {sized(CLAIMS, size): rate})

    assert {verdict.value: verdict.kept for verdict in judge(results)} == {0.1: False, 0.9: True}


def test_percentiles_are_values_that_occurred() -> None:
    """Interpolating between two samples would name a latency that nobody had."""
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.99) == 5.0
