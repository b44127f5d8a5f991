"""What can be used is written down: names, commands, options, exit codes, variables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import omniq
from omniq.app.options import CallOptions
from omniq.app.schedules import ScheduleOptions
from omniq.app.stores import URL_VARIABLE
from omniq.backend.base import BaseBackend
from omniq.cli.app import cli
from omniq.cli.exits import Exit
from omniq.cli.target import APP_VARIABLE
from omniq.models import EventType, TaskStatus
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Component,
)
from tests.docs.pages import ROOT

_DOCS = ROOT / "docs"
_FOR_ALL = "For all commands"


def _text(name: str) -> str:
    """A page without its blocks of code."""
    text = (_DOCS / name).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _sections(page: str) -> dict[str, str]:
    """The text of each section of a page, by its heading."""
    parts = re.split(r"^##+ (.+)$", _text(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _code(text: str) -> set[str]:
    """What stands in backticks, each word by itself."""
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.split(r"[\s,]+", code)}


def _commands(app: Any = cli, path: tuple[str, ...] = ("omniq",)) -> Iterator[tuple[str, Any]]:
    """Every command with its full name, as the command line library knows them."""
    for name in app:
        if not name.startswith("-"):
            inner = app[name]
            below = list(_commands(inner, (*path, name)))
            yield from below or [(" ".join((*path, name)), inner)]


@pytest.mark.parametrize("name", [name for name, _ in _commands()])
def test_command_is_documented_with_all_its_options(name: str) -> None:
    """An option that is only in the source is no option for its users."""
    command = dict(_commands())[name]
    sections = _sections("cli.md")
    assert name in sections
    section = sections[name]
    known = _code(section) | _code(sections[_FOR_ALL])

    for argument in command.assemble_argument_collection():
        if "POSITIONAL" in argument.field_info.kind.name:
            assert argument.names[0].lstrip("-").upper().replace("-", "_") in section
        else:
            assert set(argument.names) <= known, f"{name}: {set(argument.names) - known}"


def test_flags_of_all_commands_are_documented() -> None:
    """`--help` and its like come from the command line library."""
    flags = {name for _, command in _commands() for name in command if name.startswith("-")}

    assert flags <= _code(_sections("cli.md")[_FOR_ALL])


def test_exit_codes_are_documented() -> None:
    """Scripts rely on them."""
    rows = re.findall(r"^\| (\d+) \|", _sections("cli.md")["Exit codes"], re.MULTILINE)

    assert sorted(map(int, rows)) == sorted(Exit)


def test_public_names_are_documented() -> None:
    """The page of names is where people look for one."""
    assert set(omniq.__all__) <= _code(_text("api.md"))


def test_methods_of_the_application_are_documented_with_their_twins() -> None:
    """The table says which have a blocking twin: all but those in italics."""
    section = _sections("api.md")["Methods of OmniQ"]
    alone = set(re.findall(r"\*`(\w+)`\*", section))
    named = {name for name in _code(section) if name.isidentifier()} - {"_sync"}

    assert named == _methods(omniq.OmniQ)
    assert alone == {name for name in named if not hasattr(omniq.OmniQ, f"{name}_sync")}


@pytest.mark.parametrize(
    "kind", [BaseQueue, BaseResultStorage, BaseEventStorage, BaseScheduleStorage, BaseBackend]
)
def test_methods_of_components_are_documented(kind: type) -> None:
    """Whoever holds a component by hand finds all it can do."""
    section = _sections("api.md")["Components"]
    row = next(row for row in section.splitlines() if row.startswith(f"| `{kind.__name__}`"))
    named = {name.partition("(")[0] for name in _code(row)}

    assert _methods(kind) - _methods(Component) <= named


def test_public_errors_are_documented() -> None:
    """Each error has its place in the tree and a word of advice."""
    errors = {
        name
        for name in omniq.__all__
        if isinstance(kind := getattr(omniq, name), type) and issubclass(kind, Exception)
    }

    page = (_DOCS / "errors.md").read_text(encoding="utf-8")
    tree = page.partition("```text")[2].partition("```")[0]
    assert errors <= set(re.findall(r"\w+", tree))
    assert errors <= _code(_text("errors.md"))


@pytest.mark.parametrize(
    ("page", "options"), [("tasks.md", CallOptions), ("schedules.md", ScheduleOptions)]
)
def test_options_are_documented(page: str, options: type) -> None:
    """Both tables are complete."""
    assert set(_all_options(options)) <= _code(_sections(page)["Options"])


def test_environment_variables_are_documented() -> None:
    """A variable nobody knows of surprises."""
    kinds = ("TASK_QUEUE", "RESULT_STORAGE", "EVENT_STORAGE", "SCHEDULE_STORAGE")
    components = {f"OMNIQ_{kind}_{part}" for kind in kinds for part in ("TYPE", "URL")}
    source = "".join(path.read_text() for path in Path(omniq.__file__).parent.rglob("*.py"))
    named = {f"OMNIQ_{kind}" for kind in re.findall(r'"OMNIQ_([A-Z_]+)"', source)}
    whole = {name for name in named if name.removeprefix("OMNIQ_") not in kinds}

    assert {URL_VARIABLE, APP_VARIABLE} | components | whole <= _code(_text("configuration.md"))


def test_statuses_and_events_are_documented() -> None:
    """Both are what people look at first when something went wrong."""
    assert {status.value for status in TaskStatus} <= _code(_text("cli.md"))
    assert {kind.value for kind in EventType} <= _code(_text("api.md"))


def _methods(kind: type) -> set[str]:
    """The public methods of a class, without their twins."""
    return {
        name
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and not name.endswith("_sync")
    }


def _all_options(options: type) -> Iterator[str]:
    for kind in (options, *getattr(options, "__orig_bases__", ())):
        yield from getattr(kind, "__annotations__", ())
