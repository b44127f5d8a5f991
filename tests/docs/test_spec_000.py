"""Specification 000, storage: its example as written, and every name it names."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from omniq.events import BaseEventStorage
from omniq.results import BaseResultStorage

EXAMPLE = Path(__file__).parent / "spec/storage_example.py"
RESULTS = "omniq.results"
EVENTS = "omniq.events"
CLASSES = {
    "memory": "Memory",
    "file": "File",
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "nats": "NATS",
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "memory": {},
    "file": {"base_dir": "kept"},
    "sqlite": {"database_path": "kept.db"},
    "postgres": {"dsn": "postgresql://localhost/kept"},
    "redis": {"host": "localhost", "port": 6379, "db": 0},
    "nats": {"servers": ["nats://localhost:4222"]},
}
METHODS = {
    BaseResultStorage: {
        "store_result": ["task_id", "result", "ttl"],
        "get_result": ["task_id"],
        "delete_result": ["task_id"],
    },
    BaseEventStorage: {
        "log_event": ["event"],
        "get_events": ["task_id"],
        "get_all_events": [],
    },
}


def test_the_example_runs_as_written(tmp_path: Path) -> None:
    """Who copies it from the specification sees what it promises."""
    command = [sys.executable, "-W", "ignore:datetime.datetime.utcnow", str(EXAMPLE)]

    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 0, ran.stderr
    stored, retrieved, logged, event = ran.stdout.splitlines()
    assert stored == "Stored result for task_123"
    assert retrieved == "Retrieved result for task_123: {'status': 'completed', 'value': 42}"
    assert logged == "Logged event for task_123"
    assert event.startswith("  Event: STARTED at 2")
    assert (tmp_path / "my_results.db").is_file()
    assert (tmp_path / "my_events_log").is_dir()


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("package", "kind"), [(RESULTS, "ResultStorage"), (EVENTS, "EventStorage")]
)
def test_concrete_class_lives_where_it_is_specified(package: str, kind: str, name: str) -> None:
    """`omniq.results.sqlite.SQLiteResultStorage` and its like; the package knows them too."""
    class_name = CLASSES[name] + kind

    found = getattr(import_module(f"{package}.{name}"), class_name)

    assert getattr(import_module(package), class_name) is found
    base = getattr(import_module(f"{package}.base"), f"Base{kind}")
    assert issubclass(found, base)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("package", "kind"), [(RESULTS, "ResultStorage"), (EVENTS, "EventStorage")]
)
def test_concrete_class_takes_the_specified_parameters(
    package: str, kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name; and making one opens nothing, so no server is needed."""
    monkeypatch.chdir(tmp_path)
    storage = getattr(import_module(package), CLASSES[name] + kind)

    storage(**PARAMETERS[name])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("base", METHODS)
def test_base_has_the_specified_methods_in_both_faces(base: type) -> None:
    """Each is a coroutine with the specified parameters, and has a blocking twin."""
    for name, parameters in METHODS[base].items():
        method = getattr(base, name)
        twin = getattr(base, f"{name}_sync")

        assert inspect.isabstract(base)
        assert inspect.iscoroutinefunction(method)
        assert not inspect.iscoroutinefunction(twin)
        assert list(inspect.signature(method).parameters)[1 : len(parameters) + 1] == parameters
        assert inspect.signature(twin) == inspect.signature(method)


def test_base_classes_live_where_they_are_specified() -> None:
    """`omniq.results.base` and `omniq.events.base`."""
    assert import_module("omniq.results.base").BaseResultStorage is BaseResultStorage
    assert import_module("omniq.events.base").BaseEventStorage is BaseEventStorage


def test_ttl_is_an_optional_number_of_seconds() -> None:
    """`ttl: Optional[int] = None`."""
    ttl = inspect.signature(BaseResultStorage.store_result).parameters["ttl"]

    assert ttl.default is None


async def test_event_type_may_be_text_and_time_naive() -> None:
    """The example passes `"STARTED"` and `datetime.utcnow()`."""
    from datetime import UTC, datetime

    from omniq.models.event import EventType, TaskEvent

    event = TaskEvent(task_id="t", event_type="STARTED", timestamp=datetime(2026, 1, 1))  # noqa: DTZ001

    assert event.event_type is EventType.STARTED
    assert event.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
