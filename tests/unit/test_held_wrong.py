"""Configuration held wrong: each message says what is wrong, where, and what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from omniq.cli.app import execute

WAYS: dict[str, tuple[str | None, str, dict[str, str], list[str]]] = {
    "a typo in a key": (
        "mine.yaml",
        "task_queue_backnd: sqlite:///q.db",
        {},
        ["mine.yaml: no key 'task_queue_backnd'", "did you mean 'task_queue_backend'?"],
    ),
    "a typo in an option": (
        "mine.toml",
        '[task_queue_backend]\nbackend_type = "sqlite"\nconfig = {databse_path = "q.db"}',
        {},
        ["mine.toml: task_queue_backend: config.databse_path", "did you mean 'database_path'?"],
    ),
    "a typo in a type": (
        None,
        "",
        {"OMNIQ_RESULT_STORAGE_TYPE": "sqllite"},
        ["OMNIQ_RESULT_STORAGE_TYPE", "no backend type 'sqllite'", "did you mean 'sqlite'?"],
    ),
    "a typo in a variable": (
        None,
        "",
        {"OMNIQ_TASKQUEUE_URL": "sqlite:///q.db"},
        ["OMNIQ_TASKQUEUE_URL: is no variable", "did you mean 'OMNIQ_TASK_QUEUE_URL'?"],
    ),
    "a typo in the variable for all": (
        None,
        "",
        {"OMNIQ_ULR": "sqlite:///q.db"},
        ["OMNIQ_ULR: is no variable", "did you mean 'OMNIQ_URL'?"],
    ),
    "an option of the wrong kind": (
        "mine.yaml",
        "task_queue_backend: {backend_type: redis, config: {port: many}}",
        {},
        ["mine.yaml: task_queue_backend: config.port: Expected `int`, got `str`"],
    ),
    "an option that is none of a few": (
        "mine.yaml",
        "task_queue_backend: {backend_type: sqlite, config: {durability: hard}}",
        {},
        ["config.durability: Invalid enum value 'hard'; valid are full, fast"],
    ),
    "a relative path with two slashes": (
        None,
        "",
        {"OMNIQ_URL": "sqlite://q.db"},
        ["'sqlite://q.db' names a host", "three slashes: sqlite:///q.db"],
    ),
    "a path whose folder is not there": (
        None,
        "",
        {"OMNIQ_URL": "sqlite:///data/q.db"},
        ["/data/q.db", "check that its folder exists and is writable"],
    ),
    "two roots": (
        "mine.yaml",
        "event_storage_backend: {backend_type: file, url: ./x, config: {base_dir: ./y}}",
        {},
        ["mine.yaml: event_storage_backend: config.base_dir", "give one of the two"],
    ),
    "bad YAML": (
        "mine.yaml",
        "task_queue_backend: [",
        {},
        ["mine.yaml: is no YAML", "line 1"],
    ),
    "a variable a compose file leaves empty": (
        None,
        "",
        {"OMNIQ_URL": ""},
        ["OMNIQ_URL: is empty", "is the variable it is made from unset?", "leave it out"],
    ),
    "a secret that ends in a line break": (
        None,
        "",
        {"OMNIQ_URL": "sqlite:///q.db\n"},
        ["error: OMNIQ_URL: url: begins or ends with a blank or line break"],
    ),
    "a variable nobody replaced": (
        None,
        "",
        {"OMNIQ_URL": "${DATABASE_URL}"},
        ["error: OMNIQ_URL: url: holds '${', a variable that nothing has replaced"],
    ),
    "a type beside the URL of another": (
        None,
        "",
        {"OMNIQ_TASK_QUEUE_TYPE": "redis", "OMNIQ_TASK_QUEUE_URL": "sqlite:///q.db"},
        ["OMNIQ_TASK_QUEUE_TYPE, OMNIQ_TASK_QUEUE_URL", "is no URL of type 'redis'"],
    ),
    "a server without an address": (
        None,
        "",
        {"OMNIQ_TASK_QUEUE_TYPE": "postgres"},
        ["OMNIQ_TASK_QUEUE_TYPE: backend type 'postgresql' needs a URL"],
    ),
    "a file that is not there": (
        None,
        "",
        {"OMNIQ_APP": "nosuch.yaml"},
        ["nosuch.yaml: cannot be read", "No such file"],
    ),
}
"""By name: a file and its text, variables, and what the message must say."""
WARNED = ("a typo in a variable", "a typo in the variable for all")


@pytest.mark.parametrize("way", WAYS)
def test_the_message_says_what_where_and_what_to_do(
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """To somebody who looks at their terminal; and no store is made by the way."""
    name, text, variables, expected = WAYS[way]
    monkeypatch.chdir(tmp_path)
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    if name is not None:
        (tmp_path / name).write_text(text)
        monkeypatch.setenv("OMNIQ_APP", name)

    code = execute(["status"])

    said = capsys.readouterr().err + caplog.text
    if way in WARNED:  # may be of another program: the default is used
        assert code == 0
    else:
        assert code in (2, 3)
        assert [path.name for path in tmp_path.iterdir()] == ([] if name is None else [name])
    for part in expected:
        assert part in said


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgres://127.0.0.1/jobs", "asyncpg", "postgres"),
        ("redis://127.0.0.1:6379", "redis", "redis"),
    ],
)
def test_a_missing_driver_names_the_extra_to_install(
    url: str,
    driver: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The commonest mistake of the first day on a server."""
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.setenv("OMNIQ_URL", url)

    assert execute(["status"]) == 2

    said = capsys.readouterr().err
    assert f"'{driver}'" in said
    assert f"pip install 'omniq-tasks[{extra}]'" in said
