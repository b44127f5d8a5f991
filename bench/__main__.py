"""``python -m bench``: measure OmniQ, its peers and the raw drivers side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.catalogue import BACKENDS, CATALOGUE, Entry
from bench.compare import judge
from bench.measure import PARTS
from bench.report import show, write_json
from bench.results import Results
from bench.run import installed, run_rounds
from bench.sizes import FULL, QUICK

GROWTH, WAITING = "growth", "waiting"
OURS = "omniq-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the asked parts; return 1 if OmniQ failed in one, or with ``--check`` missed a floor."""
    options = _parser().parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    progress = Console(stderr=True)
    results = Results()
    entries = installed(_chosen(options.backend, options.adapters), results)
    parts = [part for part in PARTS if part in options.only]

    def say(text: str) -> None:
        progress.print(f"[dim]{text}[/]", highlight=False)

    run_rounds(entries, parts, sizes, results, say)
    if GROWTH in options.only:
        from bench.growth import run_growth

        run_growth(options.backend, sizes, results, say)
    if WAITING in options.only and options.backend in (None, "file"):
        from bench.waiting import run_waiting

        run_waiting(sizes, results, say)
    verdicts = judge(results)
    show(Console(), results, verdicts)
    if options.json:
        write_json(options.json, results, verdicts, sizes)
    missed = options.check and not all(verdict.kept for verdict in verdicts)
    failed = any(problem.startswith(OURS) for problem in results.problems)
    return 1 if failed or missed else 0


def _chosen(backend: str | None, names: Sequence[str] | None) -> list[Entry]:
    return [
        entry
        for entry in CATALOGUE
        if (backend is None or entry.backend == backend) and (names is None or entry.name in names)
    ]


def _names(*known: str) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(unknown)}; known: {', '.join(known)}"
            )
        return names

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only",
        type=_names(*PARTS, GROWTH, WAITING),
        default=list(PARTS),
        metavar="PART,…",
        help=f"the parts to run: {', '.join(PARTS)} (all these by default), {GROWTH} or {WAITING}",
    )
    parser.add_argument("--backend", choices=BACKENDS, help="measure only this backend")
    parser.add_argument(
        "--adapters",
        type=_names(*(entry.name for entry in CATALOGUE)),
        metavar="NAME,…",
        help=f"measure only these: {', '.join(entry.name for entry in CATALOGUE)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of small sizes: about a minute and a half"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how many interleaved rounds to take medians of"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all samples, medians and floors to FILE"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a floor is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
