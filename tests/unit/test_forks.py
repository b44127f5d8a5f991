"""Forking waits for those who are where no fork may happen."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, threading
from omniq.storage.local.forks import fork_gate

gate, inside, forked = fork_gate(), threading.Event(), threading.Event()
is_inside = False

def stay():
    global is_inside
    with gate:
        is_inside = True
        inside.set()
        forked.wait(0.3)  # in vain, as the fork waits for us
        is_inside = False

thread = threading.Thread(target=stay)
thread.start()
inside.wait()
process = os.fork()
if process == 0:
    os._exit(10 if is_inside or not gate.acquire(blocking=False) else 0)
forked.set()
thread.join()
assert gate.acquire(blocking=False)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


def test_a_fork_waits_until_nobody_is_inside_and_leaves_the_gates_open_on_both_sides() -> None:
    """A child forked meanwhile would find things locked for ever."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PROGRAM],
        timeout=60,
        check=False,
    )

    assert done.returncode == 0
