"""Apply the bugs of tests/mutants.toml one at a time to a copy of the tree, and run their tests.

    scripts/mutants                all of them, two at a time
    scripts/mutants token lease    those whose names contain one of these words
    scripts/mutants --jobs 1       one at a time
    scripts/mutants --fit          only whether each fits the code as it is now; a second

A mutant is killed when its tests fail or hang. First, all tests named must pass without any bug.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("src", "tests", "scripts", "docs", "examples", "README.md", "pyproject.toml")
LONGEST_SECONDS = 180


class Mutant(NamedTuple):
    """A bug: in `file` (below src/omniq), `old` becomes `new`, which `tests` must find."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def applied(self, text: str) -> str:
        """Return the text of its file with the bug in it.

        Raises:
            ValueError: it does not fit the file any more, or what it makes of it is no Python.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"its text is in the file {text.count(self.old)} times")
        mutated = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            compile(mutated, self.file, "exec")
        return mutated


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
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and list
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
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False

    def verdict_on(self, mutant: Mutant) -> str:
        """Sow a mutant, run its tests, and take it out again."""
        path = self.folder / "src" / "omniq" / mutant.file
        original = path.read_text(encoding="utf-8")
        try:
            path.write_text(mutant.applied(original), encoding="utf-8")
            return "SURVIVES" if self.passes(mutant.tests) else "killed"
        except (ValueError, SyntaxError) as error:
            return f"STALE: {error}"
        finally:
            path.write_text(original, encoding="utf-8")


def unfit(mutants: Sequence[Mutant]) -> list[str]:
    """Return, for each mutant that does not fit the code, why."""
    found: list[str] = []
    for mutant in mutants:
        path = ROOT / "src" / "omniq" / mutant.file
        try:
            mutant.applied(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError) as error:
            found.append(f"{mutant.name}: {error}")
    return found


def verdicts(
    copies: Sequence[Copy], items: Sequence[str | Mutant]
) -> Iterator[tuple[str, str, float]]:
    """Yield name, verdict and seconds of each mutant, or of each set of tests without one."""
    idle: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        idle.put(copy)

    def run(item: str | Mutant) -> tuple[str, str, float]:
        copy, started_at = idle.get(), time.monotonic()
        try:
            if isinstance(item, Mutant):
                name, verdict = item.name, copy.verdict_on(item)
            else:
                name, verdict = item, "passes" if copy.passes(item) else "FAILS"
        finally:
            idle.put(copy)
        return name, verdict, time.monotonic() - started_at

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(run, items)


def show(found: Iterator[tuple[str, str, float]]) -> list[str]:
    """Print each verdict as it comes; return them all."""
    seen: list[str] = []
    for name, verdict, seconds in found:
        print(f"{verdict:8} {seconds:6.1f} s  {name}", flush=True)
        seen.append(verdict)
    return seen


def main() -> int:
    """Run; return 1 if a mutant survived or is stale, or if tests fail without one."""
    parser = argparse.ArgumentParser(description="Does the suite find the bugs sown in the code?")
    parser.add_argument("words", nargs="*", help="only mutants whose names contain one of these")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--fit", action="store_true", help="run nothing, see whether they fit")
    options = parser.parse_args()
    listed = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))
    mutants = [Mutant(**fields) for fields in listed["mutant"]]
    if options.words:
        mutants = [one for one in mutants if any(word in one.name for word in options.words)]
    if options.fit:
        stale = unfit(mutants)
        for text in stale:
            print(text)
        return int(bool(stale))
    with tempfile.TemporaryDirectory(prefix="omniq-mutants-") as folder:
        copies = [Copy(Path(folder, str(n))) for n in range(options.jobs)]
        if "FAILS" in show(verdicts(copies, sorted({mutant.tests for mutant in mutants}))):
            print("Some tests fail without any bug; mend that first.")
            return 1
        seen = show(verdicts(copies, mutants))
    print(f"{seen.count('killed')} of {len(seen)} killed")
    return int(seen.count("killed") < len(seen))


if __name__ == "__main__":
    sys.exit(main())
