"""The supervisor of worker processes: which ends it takes for the end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

import pytest

from omniq.worker import processes
from omniq.worker.processes import Supervisor
from omniq.worker.serve import NO_STORE, ServeOptions

ENDS_WELL = "pass"
STOPS_ALL = f"import os; os.kill(os.getppid(), {int(signal.SIGTERM)})"
KILLED_WITHOUT_A_NAME = "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)"


class Scripted(Supervisor):
    """Its processes run these programs, one after the other."""

    def __init__(self, commands: Sequence[Sequence[str]], *, burst: bool = False) -> None:
        super().__init__(ServeOptions(app="x", worker={"burst": burst}), 1, grace_seconds=5)
        self.left = list(commands)

    def _command(self, number: int) -> Sequence[str]:
        return self.left.pop(0)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RESTART_SECONDS", (0.01, 0.01))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (python(ENDS_WELL), "ended with exit code 0"),
        (python(KILLED_WITHOUT_A_NAME), f"ended with signal {signal.SIGRTMIN + 3}"),
        (["/no/such/program"], "cannot start: [Errno 2]"),
    ],
    ids=["ended well", "killed by a signal without a name", "cannot start"],
)
def test_a_process_is_started_again_however_it_ended(
    command: list[str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A task may end its process well, a signal may have no name, memory may be short for once."""
    supervisor = Scripted([command, python(STOPS_ALL)])

    with caplog.at_level(logging.ERROR, "omniq"):
        assert supervisor.run() == 0

    assert supervisor.left == []
    assert told in caplog.text


def test_a_burst_that_is_over_is_not_begun_again() -> None:
    """Its processes end by themselves when nothing is claimable."""
    supervisor = Scripted([python(ENDS_WELL), python(ENDS_WELL)], burst=True)

    assert supervisor.run() == 0
    assert len(supervisor.left) == 1


def test_a_burst_whose_store_is_away_ends_and_says_so() -> None:
    """It waits for nothing, so not for a server either; a worker that goes on waits for ever."""
    away = python(f"raise SystemExit({NO_STORE})")

    assert Scripted([away], burst=True).run() == NO_STORE
    assert Scripted([away, python(STOPS_ALL)]).run() == 0
