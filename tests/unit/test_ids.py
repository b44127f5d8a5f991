"""Ids and names: unique, ordered, the same in every process, and never dangerous to a store."""

import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq.exceptions import ValidationError
from omniq.ids import (
    check_func,
    check_key,
    check_name,
    fire_id,
    new_id,
    new_token,
    new_worker_id,
    stable_module,
    stable_name,
)
from tests.naming import stable_id

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def test_new_ids_are_uuids_of_version_7() -> None:
    """Other programs can read the version and the moment out of an id."""
    before = time.time_ns() // 1_000_000

    made = uuid.UUID(new_id())

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_new_ids_never_repeat_and_pass_as_names() -> None:
    """An id is put into paths, keys and subjects of every store."""
    made = [new_id() for _ in range(10_000)]

    assert len(set(made)) == len(made)
    assert all(check_name("id", item) == item for item in made)


def test_ids_sort_by_the_moment_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paging by id reads tasks in the order they came."""
    moments = iter(range(1, 1_000_000_000_000, 10_000_000_000))
    monkeypatch.setattr("omniq.ids.time", SimpleNamespace(time_ns=lambda: next(moments)))

    made = [new_id() for _ in range(100)]

    assert made == sorted(made)


def test_lease_tokens_are_random_names() -> None:
    """A token that could be guessed or repeated would fence nothing."""
    tokens = {new_token() for _ in range(1000)}

    assert len(tokens) == 1000
    assert all(check_name("lease_token", token) for token in tokens)


@pytest.mark.parametrize("host", ["db-1.example.org", "Büro-PC", "", "x" * 300, "-"])
def test_worker_ids_are_names_whatever_the_host_is_called(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People name their machines as they like, and several workers run on each."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)

    one, other = new_worker_id(), new_worker_id()

    assert check_name("worker_id", one) != check_name("worker_id", other)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_fire_ids_differ_exactly_when_the_moments_do(one: int, other: int) -> None:
    """Any number of schedulers must make the same id for the same fire time, and no other."""
    first = fire_id("s", NOON + timedelta(microseconds=one))
    second = fire_id("s", NOON + timedelta(microseconds=other))

    assert (first == second) == (one == other)


def test_fire_ids_of_two_schedules_differ() -> None:
    """Two schedules firing at noon make two tasks."""
    assert fire_id("a", NOON) != fire_id("b", NOON)


@pytest.mark.parametrize("name", ["a", "0", "a-b_c.d", "A" * 128, "a.b.c"])
def test_plain_names_are_accepted(name: str) -> None:
    """What people call their queues."""
    assert check_name("queue_name", name) == name


HOSTILE = [
    "",
    "..",
    "a..b",
    "../etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "a b",
    "a\n",
    ".hidden",
    "-option",
    "_x",
    "a*",
    "a>",
    "ä",
    "A" * 129,
    None,
    5,
    b"a",
    ["a"],
]


@pytest.mark.parametrize("name", HOSTILE, ids=stable_id)
def test_hostile_names_are_refused_by_field(name: object) -> None:
    """Names become paths, table keys and subjects: no traversal, no wildcards, no control bytes."""
    with pytest.raises(ValidationError, match=r"^queue_name: ") as caught:
        check_name("queue_name", name)

    assert caught.value.field == "queue_name"


@given(st.text())
def test_an_accepted_name_is_harmless_whatever_was_tried(name: str) -> None:
    """The rule holds for every text there is."""
    try:
        check_name("id", name)
    except ValidationError:
        return
    assert name.isascii()
    assert not set(name) & set("/\\\0*> \t\n:'\"")
    assert ".." not in name
    assert Path("base", name).parent == Path("base")


@pytest.mark.parametrize("name", ["f", "pkg.mod.f", "pkg:f", "m.f.<locals>.g", "m.<lambda>", "_f"])
def test_names_of_functions_are_accepted(name: str) -> None:
    """All that Python calls a function."""
    assert check_func("func", name) == name


@pytest.mark.parametrize(
    "name", ["", "1f", "a/b", "a..b", "a b", "f\n", "f" * 257, None], ids=stable_id
)
def test_other_task_names_are_refused(name: object) -> None:
    """A task name is shown, logged and put into stores."""
    with pytest.raises(ValidationError, match="is not a valid task name"):
        check_func("func", name)


@pytest.mark.parametrize("key", ["a", "user 5", "ä/b:c", "x" * 256])
def test_unique_keys_are_any_printable_text(key: str) -> None:
    """People use what identifies their work."""
    assert check_key("unique_key", key) == key


@pytest.mark.parametrize("key", ["", "a\0", "a\n", "x" * 257, 5, None], ids=stable_id)
def test_unprintable_or_long_keys_are_refused(key: object) -> None:
    """A key is shown to people."""
    with pytest.raises(ValidationError, match="is not a valid key"):
        check_key("unique_key", key)


def test_an_error_shows_a_long_value_shortened() -> None:
    """A megabyte of hostile input does not end up in a log line."""
    with pytest.raises(ValidationError) as caught:
        check_name("id", "x" * 1_000_000)

    assert len(str(caught.value)) < 300


def work() -> None:
    """A function of this module."""


def test_the_stable_name_of_imported_things_is_their_own() -> None:
    """Most functions are imported in every process."""
    assert stable_name(work) == f"{__name__}.work"
    assert stable_module(Path) == Path.__module__


SCRIPT = """
from omniq.ids import stable_name
from omniq.models import RetryPolicy
from omniq.serialization import serializable, to_plain
import dataclasses

class Bad(Exception): pass
def work(): pass

@serializable
@dataclasses.dataclass
class Point:
    x: int

print(stable_name(work), RetryPolicy(retry_on=(Bad,)).retry_on[0], *to_plain(Point(1)))
"""
EXPECTED = "app.work app.Bad $app:Point"


def run_python(*args: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("args", [["app.py"], ["./app.py"], ["-m", "app"]], ids=" ".join)
def test_what_a_script_defines_is_named_as_a_worker_imports_it(
    tmp_path: Path, args: list[str]
) -> None:
    """`python app.py` enqueues what `omniq worker app` runs: functions, classes, exceptions."""
    (tmp_path / "app.py").write_text(SCRIPT)

    assert run_python(*args, cwd=tmp_path) == EXPECTED


def test_a_module_of_a_package_keeps_its_full_name(tmp_path: Path) -> None:
    """`python -m pkg.app` and `import pkg.app` agree."""
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "app.py").write_text(SCRIPT)

    assert run_python("-m", "pkg.app", cwd=tmp_path) == EXPECTED.replace("app", "pkg.app")


def test_without_a_file_the_name_is_main(tmp_path: Path) -> None:
    """At a prompt there is nothing a worker could import."""
    assert run_python("-c", SCRIPT, cwd=tmp_path) == EXPECTED.replace("app", "__main__")
