"""What commands print: on a terminal of 80 columns, and into a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from omniq import OmniQ, Task, lifecycle
from omniq.models import ErrorInfo, TaskStatus

NAME = "shop.mailing.send_the_weekly_letter"
REASON = "the server of the addressee says that it has never heard of anybody of that name"
STATUSES = [status.value.upper() for status in TaskStatus]


@pytest.fixture
async def shop(tmp_path: Path) -> Path:
    """A folder whose omniq.db holds a task that failed and one that waits."""
    async with OmniQ(f"sqlite:///{tmp_path}/omniq.db") as app:
        queue = app.task_queue
        await app.enqueue_task(Task(func=NAME, id="0-failing"))
        task = await queue.dequeue()
        assert task is not None
        failed = lifecycle.Failed(ErrorInfo(type="builtins.OSError", message=REASON))
        await queue.settle(task, failed)
        await app.enqueue_task(Task(func=NAME))
    return tmp_path


def on_terminal(folder: Path, *arguments: str) -> list[str]:
    """Run a command on a terminal of 80 columns; return what it printed, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "omniq", *arguments],
        stdout=theirs,
        cwd=folder,
        env={**environment, "TERM": "xterm"},
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65_536):
            said += chunk
    except OSError:  # how the end of a terminal is told
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).splitlines()


def in_pipe(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "omniq", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True)
    return done.stdout.splitlines()


def test_no_column_that_tells_something_is_missing_on_a_narrow_terminal(shop: Path) -> None:
    """Least of all the status; only the reason, at the end, is cut."""
    head, failed, waiting = on_terminal(shop, "tasks", "list")

    assert head.split() == ["ID", "TASK", "QUEUE", "STATUS", "TRY", "CREATED", "REASON"]
    assert failed.split()[:4] == ["0-failing", NAME, "default", "failed"]
    assert failed.endswith("…")
    assert "pending" in waiting


def test_columns_that_tell_nothing_make_room(shop: Path) -> None:
    """Zeros are left out, from the right, until the rest fits."""
    head, counts = on_terminal(shop, "queues")

    assert len(head) <= 80
    assert {"PENDING", "FAILED"} <= {*head.split()}
    assert dict(zip(head.split(), counts.split(), strict=True))["FAILED"] == "1"


def test_a_long_text_goes_on_beside_its_name(shop: Path) -> None:
    """Nothing of it is lost, and the names stay easy to find."""
    lines = on_terminal(shop, "tasks", "show", "0-failing")

    start = next(n for n, line in enumerate(lines) if line.startswith("error "))
    assert " ".join(line[19:] for line in lines[start : start + 2]).split()[1:] == REASON.split()
    assert max(map(len, lines)) <= 80


def test_output_that_cannot_be_written_is_one_line(shop: Path) -> None:
    """A report on a full disk: exit code 1, and no traceback."""
    command = [sys.executable, "-m", "omniq", "tasks", "list"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=shop)

    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device\n"


def test_closed_output_is_no_error(shop: Path) -> None:
    """As by `>&-` in a shell: only the exit code is wanted."""
    script = f"exec {sys.executable} -m omniq tasks list >&-"
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, text=True, cwd=shop)

    assert (done.returncode, done.stderr) == (0, "")


def test_in_a_pipe_nothing_is_cut_and_no_line_ends_in_blanks(shop: Path) -> None:
    """For `grep` and `awk`."""
    lines = in_pipe(shop, "tasks", "list") + in_pipe(shop, "queues")

    assert any(line.endswith(REASON[:50]) or REASON[:50] in line for line in lines)
    assert lines[3].split() == ["QUEUE", "PAUSED", *STATUSES]
    assert [line for line in lines if line != line.rstrip()] == []
