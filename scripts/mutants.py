"""Apply the bugs of tests/mutants.py one at a time to a copy of the tree, and run their tests.

    scripts/mutants                all of them, two at a time
    scripts/mutants token lease    those whose names contain one of these words
    scripts/mutants --jobs 1       one at a time

A mutant is killed when its tests fail or hang. First, all tests named must pass without any bug.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("src", "tests", "scripts", "docs", "examples", "README.md", "pyproject.toml")
LONGEST_SECONDS = 180


class Copy:
    """A copy of the tree that one mutant after the other lives in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in NEEDED:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    def passes(self, tests: str) -> bool:
        """Run these tests; whether all pass in time."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
        process = subprocess.Popen(  # noqa: S603 - pytest, of this environment
            [*command, "--basetemp", str(self.folder / "tmp"), *shlex.split(tests)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder / "src")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(LONGEST_SECONDS) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            return False

    def survives(self, mutant: Mutant) -> bool:
        """Whether the tests of a mutant miss it."""
        path = self.folder / "src" / "omniq" / mutant.file
        original = path.read_text(encoding="utf-8")
        path.write_text(original.replace(mutant.old, mutant.new), encoding="utf-8")
        try:
            return self.passes(mutant.tests)
        finally:
            path.write_text(original, encoding="utf-8")


def is_stale(mutant: Mutant) -> bool:
    """Whether the text to replace is not in its file exactly once."""
    text = (ROOT / "src" / "omniq" / mutant.file).read_text(encoding="utf-8")
    return text.count(mutant.old) != 1


def tried(copies: list[Copy], items: list[str] | list[Mutant]) -> Iterator[tuple[str, str, float]]:
    """Yield name, verdict and seconds of each mutant, or of each set of tests without one."""
    idle: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        idle.put(copy)

    def run(item: str | Mutant) -> tuple[str, str, float]:
        copy, started_at = idle.get(), time.monotonic()
        try:
            if isinstance(item, str):
                name, verdict = item, "passes" if copy.passes(item) else "FAILS"
            else:
                name, verdict = item.name, "SURVIVES" if copy.survives(item) else "killed"
        finally:
            idle.put(copy)
        return name, verdict, time.monotonic() - started_at

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(run, items)


def main() -> int:
    """Run; return 1 if a mutant survived or is stale, or if tests fail without one."""
    parser = argparse.ArgumentParser(
        description="Does the suite find the bugs of tests/mutants.py?"
    )
    parser.add_argument("words", nargs="*", help="only mutants whose names contain one of these")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.words or any(w in m.name for w in options.words)]
    stale = [mutant for mutant in chosen if is_stale(mutant)]
    for mutant in stale:
        print(f"STALE             {mutant.name} ({mutant.file})")
    chosen = [mutant for mutant in chosen if mutant not in stale]
    verdicts: list[str] = []
    with tempfile.TemporaryDirectory(prefix="omniq-mutants-") as folder:
        copies = [Copy(Path(folder, str(n))) for n in range(options.jobs)]
        for items in (sorted({mutant.tests for mutant in chosen}), chosen):
            for name, verdict, seconds in tried(copies, items):
                verdicts.append(verdict)
                print(f"{verdict:8} {seconds:6.1f} s  {name}", flush=True)
            if "FAILS" in verdicts:
                print("Some tests fail without any bug; mend that first.")
                return 1
    missed = verdicts.count("SURVIVES")
    print(f"{verdicts.count('killed')} killed, {missed} survived, {len(stale)} stale")
    return 1 if missed or stale else 0


if __name__ == "__main__":
    sys.exit(main())
