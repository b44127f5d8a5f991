"""The run, in interleaved rounds, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

from bench.catalogue import Entry
from bench.measure import PARTS
from bench.process import ChildError
from bench.results import Results
from bench.sizes import Sizes
from bench.stage import InexactError


def run_rounds(
    entries: Sequence[Entry],
    parts: Sequence[str],
    sizes: Sizes,
    results: Results,
    say: Callable[[str], None],
) -> None:
    """Measure each part of each adapter once a round; a failure is noted, the rest goes on."""
    for number in range(1, sizes.rounds + 1):
        for part in parts:
            for entry in entries:
                say(f"round {number} of {sizes.rounds}: {part}, {entry.name}")
                _measure(entry, part, sizes, results)


def installed(entries: Sequence[Entry], results: Results) -> list[Entry]:
    """Return the adapters whose library is there, and note the others."""
    for entry in entries:
        if not entry.available():
            results.skipped.append(f"{entry.name}: {entry.package} is not installed")
    return [entry for entry in entries if entry.available()]


def _measure(entry: Entry, part: str, sizes: Sizes, results: Results) -> None:
    try:
        results.add(entry.name, PARTS[part](entry, sizes))
    except (ChildError, InexactError, subprocess.CalledProcessError) as error:
        results.problems.append(f"{entry.name}, {part}: {error}")
