"""Real work on real files: two worker processes, SQLite, retries, failures, a schedule.

Takes every Python file of this machine's standard library, makes two tasks of each, and adds a few
that cannot succeed: a file that is missing at first and comes while the workers run, one that never
comes, and bytes that are no text. Ends with a table, and with exit code 1 if a task was lost or ran
to its end twice.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).parent
STORE = Path(".demo/demo.db")
os.environ.setdefault("OMNIQ_URL", f"sqlite:///{STORE}")
sys.path.insert(0, str(HERE))

import digests  # noqa: E402 - the URL must be set before the application is made

from omniq import TaskEvent, TaskStatus  # noqa: E402
from omniq.models.task import FINAL_STATUSES  # noqa: E402

console = Console()
COMMAND = os.path.relpath(Path(sys.executable).with_name("omniq"))


def find_files(limit: int) -> list[str]:
    """The Python files of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = (str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts)
    return sorted(files)[:limit]


def make_trouble(folder: Path) -> tuple[list[str], Path]:
    """Files that cannot be read: bytes that are no text, one that never comes, one that is late."""
    noise = folder / "noise.txt"
    noise.write_bytes(bytes(range(128, 256)))
    return [str(noise), str(folder / "never.txt")], folder / "late.txt"


def start_workers(processes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "omniq", "worker", str(HERE / "digests.py")]
    options = ["--processes", str(processes), "--queues", "default,ticks"]
    options += ["--concurrency", "8", "--log-level", "ERROR"]
    with STORE.with_name("workers.log").open("wb") as log:
        return subprocess.Popen([*command, *options], stderr=log)  # noqa: S603 - our own command


async def watch(total: int, late: Path, workers: subprocess.Popen[bytes]) -> float:
    """Show progress until all tasks are final; return the seconds it took."""
    started = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("files", total=total)
        while True:
            await asyncio.sleep(0.1)
            numbers = (await digests.q.counts()).get("default", {})
            final = sum(numbers.get(status, 0) for status in FINAL_STATUSES)
            told = f"files  [red]{numbers.get(TaskStatus.FAILED, 0)} failed[/]"
            progress.update(bar, completed=final, description=told)
            if final > total // 2:
                await asyncio.to_thread(late.write_text, "Better late than never.\n")
            if final >= total and await fired() >= 2:
                return time.monotonic() - started
            if workers.poll() is not None:
                raise SystemExit(f"the workers ended early with code {workers.returncode}")


async def fired() -> int:
    schedules = await digests.q.schedule_storage.list_schedules()
    return sum(schedule.run_count for schedule in schedules)


async def report(enqueued: set[str], seconds: float) -> bool:
    """Print the closing table; return whether each task ended exactly once."""
    tasks = {task.id: task for task in await digests.q.task_queue.list_tasks()}
    history: dict[str, list[TaskEvent]] = collections.defaultdict(list)
    for event in await digests.q.event_storage.get_all_events():
        history[event.task_id].append(event)
    ends = {
        key: sum(e.event_type in ("COMPLETED", "FAILED") for e in history[key]) for key in enqueued
    }
    lost = sorted(key for key in enqueued if key not in tasks or not tasks[key].is_final)
    doubled = sorted(key for key, number in ends.items() if number > 1)
    failed = [
        tasks[key] for key in sorted(enqueued - set(lost)) if tasks[key].status == TaskStatus.FAILED
    ]
    retried = sum(any(e.event_type == "RETRYING" for e in history[key]) for key in enqueued)

    table = Table("", "", title="What happened", show_header=False)
    for name, value in (
        ("tasks", f"{len(enqueued):,}"),
        ("completed", f"{len(enqueued) - len(lost) - len(failed):,}"),
        ("failed for good", f"{len(failed):,}"),
        ("retried at least once", f"{retried:,}"),
        ("lost", f"{len(lost):,}"),
        ("ended twice", f"{len(doubled):,}"),
        ("times the schedule fired", f"{await fired():,}"),
        ("throughput", f"{len(enqueued) / seconds:,.0f} tasks/s in {seconds:.1f} s"),
    ):
        table.add_row(name, value)
    console.print(table)

    reasons: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for task in failed:
        reason = (task.error or "").splitlines()[0]
        reasons[task.func, reason.partition(":")[0]].append(reason)
    why = Table("tasks", "task", "reason", "for example", title="Why tasks failed")
    for (func, kind), examples in sorted(reasons.items()):
        why.add_row(f"{len(examples):,}", func, kind, examples[0].partition(": ")[2])
    console.print(why)
    return not lost and not doubled


async def run(limit: int, processes: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        trouble, late = make_trouble(Path(folder))
        paths = [*find_files(limit), *trouble, str(late)]
        async with digests.q:
            started = time.monotonic()
            handles = await digests.digest.enqueue_many([(path,) for path in paths])
            handles += await digests.words.enqueue_many([(path,) for path in paths[:-2]])
            console.print(f"{len(handles):,} tasks enqueued in {time.monotonic() - started:.2f} s")
            workers = start_workers(processes)
            try:
                seconds = await watch(len(handles), late, workers)
            finally:
                workers.send_signal(signal.SIGTERM)
                workers.wait()
            good = await report({handle.id for handle in handles}, seconds)
    url = os.environ["OMNIQ_URL"]
    console.print(
        f"\nLook further:  OMNIQ_URL={url} {COMMAND} tasks list --status failed", soft_wrap=True
    )
    return 0 if good else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=2000, help="files at most")
    parser.add_argument("--processes", type=int, default=2, help="worker processes")
    options = parser.parse_args()
    STORE.parent.mkdir(exist_ok=True)
    for old in STORE.parent.glob(f"{STORE.name}*"):
        if old.is_file():
            old.unlink()
    sys.exit(asyncio.run(run(options.limit, options.processes)))


if __name__ == "__main__":
    main()
