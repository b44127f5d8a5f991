"""Specification 002, independent storage: each example as written, each name it gives."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ
from omniq.models.config import OmniQConfig, StorageBackendConfig
from omniq.storage.factory import StorageBackendFactory
from omniq.storage.file import FileResultStorage
from omniq.storage.memory import MemoryEventStorage
from omniq.storage.sqlite import SQLiteQueue, SQLiteScheduleStorage
from tests.docs.pages import ROOT

PAGE = Path(__file__).parent / "spec/independent_storage.md"
EXAMPLES = dict(re.findall(r"```(\w+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))
COMPONENTS = ("task_queue", "result_storage", "event_storage", "schedule_storage")


def from_environment(monkeypatch: pytest.MonkeyPatch) -> OmniQ:
    for line in EXAMPLES["bash"].splitlines():
        command, setting = shlex.split(line)
        assert command == "export"
        name, _, value = setting.partition("=")
        monkeypatch.setenv(name, value)
    return OmniQ()


def from_program(monkeypatch: pytest.MonkeyPatch) -> OmniQ:
    names: dict[str, Any] = {}
    exec(compile(EXAMPLES["python"], str(PAGE), "exec"), names)
    return names["omniq"]


def from_yaml(monkeypatch: pytest.MonkeyPatch) -> OmniQ:
    Path("config.yaml").write_text(EXAMPLES["yaml"])
    return OmniQ(config=OmniQConfig.from_yaml("config.yaml"))


def double(n: int) -> int:
    return 2 * n


@pytest.mark.parametrize("make", [from_environment, from_program, from_yaml])
def test_example_of_a_configuration_runs_as_written(
    make: Callable[[pytest.MonkeyPatch], OmniQ],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three ways to say the same; each component is where it should be, and a task runs."""
    monkeypatch.chdir(tmp_path)

    with make(monkeypatch) as q:
        handle = q.task(double).enqueue_sync(21)
        q.worker(burst=True).run_sync()

        assert handle.result_sync(timeout=5) == 42
        assert type(q.task_queue) is SQLiteQueue
        assert type(q.result_storage) is FileResultStorage
        assert type(q.event_storage) is MemoryEventStorage
        assert type(q.schedule_storage) is SQLiteScheduleStorage
        assert {"tasks.db", "results", "schedules.db"} <= {path.name for path in Path().iterdir()}


def test_all_four_examples_are_there() -> None:
    """One in each language, the program among them."""
    assert EXAMPLES.keys() == {"bash", "python", "yaml"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_configuration_names_a_backend_for_each_component(
    component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field, a getter with fallbacks, two variables."""
    given: dict[str, Any] = {f"{component}_backend": StorageBackendConfig("memory")}
    config = OmniQConfig(**given)
    get = f"get_{component}_backend_config"

    assert getattr(config, f"{component}_backend") == StorageBackendConfig("memory")
    assert getattr(config, get)().backend_type == "memory"
    assert getattr(OmniQConfig(), get)().url == "sqlite:///omniq.db"
    monkeypatch.setenv(f"OMNIQ_{component.upper()}_TYPE", "file")
    monkeypatch.setenv(f"OMNIQ_{component.upper()}_URL", "./there")
    assert getattr(OmniQConfig(), get)() == StorageBackendConfig("file", "./there")


@pytest.mark.parametrize(
    "name", ["memory", "sqlite", "file", "redis", "postgres", "nats", "azure", "gcs", "s3"]
)
def test_factory_knows_all_planned_backends(name: str) -> None:
    """Under the names that are specified."""
    assert StorageBackendConfig(name, "place").backend_type == name
    kind = StorageBackendFactory.type_of("place", name)
    assert kind in StorageBackendFactory.get_supported_backends()


@pytest.mark.parametrize("name", ["omniq.models.config", "omniq.storage.factory", "omniq.core"])
def test_module_has_its_specified_name(name: str) -> None:
    """`from omniq.models.config import OmniQConfig` is in every program."""
    import_module(name)


@pytest.mark.parametrize(
    "path",
    [
        "examples/independent_storage_example.py",
        "examples/deployment_configs/testing.yaml",
        "examples/deployment_configs/all_sqlite.yaml",
        "examples/deployment_configs/mixed_storage.yaml",
        "docs/independent_storage.md",
        "tests/test_independent_storage.py",
    ],
)
def test_file_is_where_it_is_specified(path: str) -> None:
    """Links lead there."""
    assert (ROOT / path).is_file()
