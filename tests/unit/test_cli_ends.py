"""How the command line ends, and what it prints for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from omniq import OmniQ
from omniq.cli import INTERRUPTED
from omniq.cli.app import cli, execute
from omniq.cli.exits import Exit

CTRL_C_WHILE_IMPORTING = """
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "rich":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from omniq.cli import main
main()
"""


@pytest.mark.parametrize(
    ("code", "expected", "told"),
    [
        (None, Exit.OK, ""),
        (7, 7, ""),
        ("no database", Exit.FAILED, "error: no database\n"),
    ],
)
def test_code_of_users_may_exit_as_it_likes(
    code: object,
    expected: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`sys.exit("what is wrong")` is common, and its text is no number."""

    def leave() -> None:
        raise SystemExit(code)

    cli.command(leave, name="leave-for-a-test")
    monkeypatch.setattr(sys, "argv", ["omniq"])
    try:
        assert execute(["leave-for-a-test"]) == expected
    finally:
        del cli["leave-for-a-test"]

    assert capsys.readouterr().err == told


def test_ctrl_c_while_it_is_being_imported_ends_quietly() -> None:
    """A second is long enough to have second thoughts."""
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C_WHILE_IMPORTING], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (INTERRUPTED, "")
    assert INTERRUPTED == Exit.INTERRUPTED


def test_json_has_fields_at_their_defaults_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that looks for `.status` must find it, also where it is pending or active."""
    url = f"sqlite:///{tmp_path}/jobs.db?durability=fast"
    with OmniQ(url) as app:
        handle = app.enqueue_sync("f", {"a": (1,)})
        app.schedule_sync("f", every=3600)

    def printed(*command: str) -> list[dict[str, object]]:
        assert execute([*command, "--json", "--app", url]) == Exit.OK
        return list(json.loads(capsys.readouterr().out))

    (task,) = printed("tasks", "list")
    (schedule,) = printed("schedules", "list")

    assert task["id"] == handle.id
    assert (task["status"], task["attempt"], task["args"]) == ("pending", 0, [{"a": [1]}])
    assert (schedule["status"], schedule["run_count"]) == ("active", 0)


def test_a_paused_schedule_shows_no_next_fire_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies in the past soon, and nothing fires then: resuming finds another."""
    url = f"sqlite:///{tmp_path}/jobs.db?durability=fast"
    with OmniQ(url) as app:
        app.schedule_sync("f", every=3600, schedule_id="hourly")

    assert execute(["schedules", "pause", "hourly", "--app", url]) == Exit.OK

    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == ["hourly", "f", "every", "3600", "s", "paused", "-", "-", "0"]
