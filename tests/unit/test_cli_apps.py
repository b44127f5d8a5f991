"""Applications named wrongly or broken on the command line: one line says what, where and why."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from omniq import ConfigError, OmniQ
from omniq.cli.app import execute
from omniq.worker import Worker
from omniq.worker.start import KNOWS_NOTHING

HEAD = "from omniq import OmniQ\nq = OmniQ('sqlite:///jobs.db')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A current folder whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("cliapp"):
            del sys.modules[name]


BROKEN = {
    "it ends the program": ("import sys\nsys.exit(7)", "SystemExit: 7 (", "cliapp.py:2)"),
    "it is no Python": ("\ndef f(:", "SyntaxError: invalid syntax", "cliapp.py:2)"),
    "an option is misspelt": (
        f"{HEAD}\n@q.task(max_retrys=1)\ndef f(): ...",
        "did you mean 'max_retries'? (",
        "cliapp.py:4)",
    ),
    "its store makes no sense": (
        "from omniq import OmniQ\nq = OmniQ('mysql://h')",
        "there is no backend type 'mysql'",
        "cliapp.py:2)",
    ),
}


@pytest.mark.parametrize(("text", "problem", "place"), BROKEN.values(), ids=BROKEN)
def test_a_broken_application_is_told_with_its_own_line(
    text: str, problem: str, place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with a line of ours or of the importer, which nobody can mend there."""
    (folder / "cliapp.py").write_text(text)

    assert execute(["worker", "cliapp", "--burst"]) == 4

    said = capsys.readouterr().err
    assert "loading cliapp failed: " in said
    assert problem in said
    assert said.rstrip().endswith(str(folder / place))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (".", "'.' names no application; use module, module:attr or file.py"),
        ("a..b", "'a..b' names no application"),
        ("cliapp:f", "cliapp:f: f is no OmniQ, but of type SyncTaskFunction"),
        ("redis://u:HIDDEN@h", "'redis://u:***@h' is a store, not an application"),
        ("sqlite:///jobs.db", "name the module that makes it, as in `omniq worker tasks`"),
    ],
)
def test_what_is_no_application_is_told_apart(
    target: str, problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who comes from another queue gives the URL of the store first."""
    (folder / "cliapp.py").write_text(f"{HEAD}\n@q.task\ndef f(): ...")

    assert execute(["worker", target, "--burst"]) == 4

    assert problem in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["doctor"],
        ["tasks", "list"],
        ["queues"],
        ["queues", "pause", "mail"],
        ["schedules"],
        ["migrate-schema"],
    ],
    ids=" ".join,
)
def test_an_application_may_block_while_it_is_imported(
    command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What works in `python` and in the worker works in every command: no loop runs yet."""
    (folder / "cliapp.py").write_text(f"{HEAD}q.save_schedules_sync()\nq.counts_sync()")

    code = execute([*command, "--app", "cliapp"])

    assert (code, capsys.readouterr().err) == (0, "")


def test_a_worker_of_an_application_without_tasks_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The modules that define them were not imported; else all would be parked in silence."""
    app = OmniQ("sqlite:///jobs.db")
    with caplog.at_level(logging.WARNING):
        app.worker(burst=True).run_sync()
        assert caplog.messages == [KNOWS_NOTHING]

        app.task(name="f")(lambda: None)
        app.worker(burst=True).run_sync()

    assert caplog.messages == [KNOWS_NOTHING]


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("cliapp_nosuch", "there is no module 'cliapp_nosuch'"),
        ("cliapp_nosuch.tasks", "there is no module 'cliapp_nosuch.tasks'"),
        ("../tasks", "there is no module '../tasks'"),
        ("cliapp_broken.tasks", "importing 'cliapp_broken.tasks' failed: No module named 'absent'"),
    ],
)
def test_an_allowed_module_that_is_not_there_is_refused_at_once(
    module: str, problem: str, folder: Path
) -> None:
    """Misspelt, it would park every task that it was to allow."""
    sys.path.insert(0, str(folder))  # undone by the fixture
    (folder / "cliapp_broken").mkdir()
    (folder / "cliapp_broken" / "__init__.py").write_text("import absent")

    with pytest.raises(ConfigError, match=f"^allow_modules: {problem}"):
        Worker(OmniQ("memory://"), allow_modules=[module])


def test_one_allowed_module_may_be_given_as_text(folder: Path) -> None:
    """As one queue may; its letters are no modules."""
    worker = Worker(OmniQ("memory://"), allow_modules="email.utils")

    assert worker.options.allow_modules == ("email.utils",)


def test_the_traceback_of_a_failed_attempt_is_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An attempt that is tried again leaves no result, so nothing else says where it failed."""
    app = OmniQ("memory://")

    @app.task(name="divide", max_retries=1)
    def divide() -> float:
        return 1 / 0

    divide.enqueue_sync()
    app.worker(burst=True).run_sync()

    (message,) = caplog.messages
    assert "RETRYING: ZeroDivisionError: division by zero\nTraceback" in message
    assert "return 1 / 0" in message


def test_a_task_without_a_result_in_time_is_an_error_on_its_own_channel(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`value=$(omniq enqueue … --wait 1)` must not take the message for the value."""
    (folder / "cliapp.py").write_text(f"{HEAD}\n@q.task\ndef f(): ...")

    assert execute(["enqueue", "cliapp", "f", "--wait", "0.01"]) == 1

    said = capsys.readouterr()
    assert said.out == ""
    assert "error: ResultTimeoutError: " in said.err


def test_a_bad_target_of_a_migration_is_told_as_such(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are two URLs on that line."""
    assert execute(["migrate", "sqlite:///jobs.db", "mysql://h"]) == 2

    assert "error: the target: url: there is no backend type" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (["queues", "paus", "mail"], '"paus" is no command or argument of "omniq queues"'),
        (["tasks", "list", "mail"], '"mail" is no command or argument of "omniq tasks list"'),
        (["status", "--nosuch"], "Unknown option: --nosuch"),
    ],
    ids=" ".join,
)
def test_a_word_too_many_is_named_with_the_command_that_does_not_take_it(
    line: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt command below another one, mostly."""
    assert execute(line) == 2

    assert problem in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_list_that_ends_at_its_limit_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The oldest come first, so what was just enqueued would be missed."""
    with OmniQ("sqlite:///omniq.db") as app:
        app.enqueue_sync("elsewhere")
        app.enqueue_sync("elsewhere")

    assert execute(["tasks", "list", "--limit", "2"]) == 0
    assert "the oldest 2; there may be more: see --limit" in capsys.readouterr().err
    assert execute(["tasks", "list"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("queues", ["", ","])
def test_queues_that_name_none_are_refused(
    queues: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-q "$QUEUES"` with the variable unset would serve the default queue, and nothing else."""
    (folder / "cliapp.py").write_text(HEAD)

    assert execute(["worker", "cliapp", "--burst", "-q", queues]) == 2

    assert "queues: names none; is the variable" in capsys.readouterr().err
