"""Configuration as data: read from everywhere, refused with all that is wrong, shown masked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from omniq import ConfigError, OmniQ
from omniq.app.stores import Sources, Stores
from omniq.backend.file import FileBackend
from omniq.backend.memory import MemoryBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.cli.app import execute
from omniq.models.backend_configs import FolderConfig
from omniq.models.config import (
    FileConfig,
    MemoryConfig,
    NATSConfig,
    OmniQConfig,
    PostgreSQLConfig,
    RedisConfig,
    SQLiteConfig,
    StorageBackendConfig,
)
from omniq.models.masking import masked, masked_options
from omniq.storage.factory import StorageBackendFactory
from omniq.storage.nats import NATSOptions
from omniq.storage.postgres.target import PostgresOptions
from omniq.storage.redis import RedisOptions

create = StorageBackendFactory.create_backend
SAME = {
    "task_queue_backend": {"backend_type": "sqlite", "url": "sqlite:///t.db"},
    "result_storage_backend": {"backend_type": "file", "config": {"base_dir": "./r"}},
    "event_storage_backend": "memory://",
}
YAML = """
task_queue_backend:
  backend_type: sqlite
  url: sqlite:///t.db
result_storage_backend:
  backend_type: file
  config: {base_dir: ./r}
event_storage_backend: memory://
"""
TOML = """
event_storage_backend = "memory://"
task_queue_backend = { backend_type = "sqlite", url = "sqlite:///t.db" }
[result_storage_backend]
backend_type = "file"
config.base_dir = "./r"
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def test_dict_yaml_and_toml_say_the_same() -> None:
    """One structure, three notations."""
    expected = OmniQConfig(
        task_queue_backend=StorageBackendConfig("sqlite", "sqlite:///t.db"),
        result_storage_backend=FileConfig(base_dir="./r"),
        event_storage_backend=StorageBackendConfig("memory", "memory://"),
    )
    table = TOML.replace("[result", "[tool.omniq.result")

    assert OmniQConfig.from_dict(SAME) == expected
    assert OmniQConfig.from_yaml(saved("a.yaml", YAML)) == expected
    assert OmniQConfig.from_toml(saved("a.toml", TOML)) == expected
    saved("pyproject.toml", f"[project]\nname = 'x'\n[tool.omniq]\n{table}")
    assert OmniQConfig.from_toml() == expected
    assert OmniQConfig.from_toml("pyproject.toml") == expected
    saved("omniq.toml", "")
    assert OmniQConfig.from_toml() == OmniQConfig()


def test_application_takes_configurations_in_all_forms() -> None:
    """An object, a dict, a path."""
    for given in (OmniQConfig.from_dict(SAME), SAME, saved("a.yml", YAML), Path("a.yml")):
        assert "t.db" in repr(OmniQ(config=given))
    assert "t.db" in repr(OmniQ(config=saved("a.toml", TOML)))


@pytest.mark.parametrize(
    ("typed", "backend_type"),
    [
        (MemoryConfig(serialization_format="pickle"), "memory"),
        (SQLiteConfig(database_path="a.db", durability="fast"), "sqlite"),
        (FileConfig(base_dir="a", compression="zlib"), "file"),
        (RedisConfig(host="localhost", port=1), "redis"),
        (PostgreSQLConfig(host="localhost", database="x", ssl=False), "postgresql"),
        (NATSConfig(servers=["nats://localhost"], replicas=3), "nats"),
    ],
)
def test_typed_configuration_says_only_what_it_was_told(typed: Any, backend_type: str) -> None:
    """A default of the class must not stand against a URL, say."""
    config = StorageBackendConfig.from_typed(typed)

    assert config.backend_type == backend_type
    assert len(config.config) <= 3
    assert create(typed).capabilities is not None


def test_url_and_options_go_together_and_options_win() -> None:
    """The URL may come from the environment, the options from a file."""
    backend = create(
        {"url": "sqlite:///a.db?durability=fast&namespace=x", "config": {"namespace": "shop"}}
    )

    assert isinstance(backend, SQLiteBackend)
    assert backend.database.durability == "fast"
    assert "shop" in backend.database.tables.task


def test_file_backend_takes_options_beside_a_path() -> None:
    """The query of the URL and the options alike."""
    backend = create({"url": "file:///x?durability=fast", "config": {"compression": "zlib"}})

    assert isinstance(backend, FileBackend)
    assert (backend.config.durability, backend.config.compression) == ("fast", "zlib")


def test_text_stands_for_numbers_and_switches() -> None:
    """YAML quotes them easily."""
    create({"backend_type": "postgres", "url": "postgresql://h/x", "config": {"pool_size": "3"}})


@pytest.mark.parametrize("kind", ["task_queue", "result_storage", "event_storage"])
def test_factory_makes_single_components(kind: str) -> None:
    """For whoever needs no application."""
    made = getattr(StorageBackendFactory, f"create_{kind}")(StorageBackendConfig("memory"))

    assert type(made) is type(getattr(MemoryBackend(), f"get_{kind}")())


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"task_queue": "memory://"}, ["no key 'task_queue'; did you mean 'task_queue_backend'?"]),
        (
            {"task_queue_backend": {"backend_typ": "memory"}},
            ["no key 'backend_typ'; did you mean 'backend_type'?", "backend_type: is missing"],
        ),
        (
            {
                "task_queue_backend": {"backend_type": "sqlit"},
                "result_storage_backend": {"backend_type": "file", "config": {"basedir": "x"}},
                "url": 5,
            },
            ["did you mean 'sqlite'?", "config.basedir", "did you mean 'base_dir'?", "got int"],
        ),
        (
            {"url": {"backend_type": "redis", "config": {"port": "ten", "ssl": []}}},
            ["config.port: Expected `int`", "config.ssl: Expected `bool`"],
        ),
        (
            {"url": {"url": "file:///a", "config": {"base_dir": "/b", "fsspec_uri": "/c"}}},
            ["config.base_dir: the url says already", "config.fsspec_uri: the url says already"],
        ),
        ({"url": "postgresql://${HOST}/x"}, ["a variable that nothing has replaced"]),
        ({"url": ""}, ["is empty; is the variable it is made from unset?"]),
        (
            {"url": {"backend_type": "redis", "url": "nats://u:secret@h"}},
            ["'nats://u:***@h' is no URL of type 'redis'"],
        ),
        ({"url": {"backend_type": "memory", "config": 3}}, ["expected options by name, got int"]),
    ],
)
def test_one_error_lists_every_problem_with_its_place(
    given: Mapping[str, Any], problems: list[str]
) -> None:
    """Nobody wants to find them one at a time."""
    with pytest.raises(ConfigError) as caught:
        OmniQConfig.from_dict(given, source="omniq.yaml")

    text = str(caught.value)
    for problem in problems:
        assert problem in text
    assert all(line.startswith("omniq.yaml: ") for line in text.splitlines())
    assert "secret" not in text


def test_every_bad_variable_is_listed_by_name() -> None:
    """A typo in a name too."""
    environment = {
        "OMNIQ_TASK_QUEUE_TYPE": "sqlit",
        "OMNIQ_RESULT_STORAGE_TYPE": "postgres",
        "OMNIQ_RESULT_STORAGE_URL": "",
        "OMNIQ_EVENTS_STORAGE_URL": "memory://",
        "OMNIQ_TEST_SOMETHING_URL": "of another program",
    }

    with pytest.raises(ConfigError) as caught:
        OmniQConfig.from_env(environment)

    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "OMNIQ_EVENTS_STORAGE_URL: is no variable" in lines[0]
    assert "did you mean 'OMNIQ_EVENT_STORAGE_URL'?" in lines[0]
    assert lines[1].startswith("OMNIQ_TASK_QUEUE_TYPE: backend_type: there is no")
    assert lines[2].startswith("OMNIQ_RESULT_STORAGE_URL: is empty")


def test_an_application_lists_the_problems_of_all_components(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those found only when the backends are made, too; a misspelt variable is logged."""
    monkeypatch.setenv("OMNIQ_RESULT_STORAGE_TYPE", "nats")
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_URL", "sqlite:///a.db?durabilty=fast")
    monkeypatch.setenv("OMNIQ_TASKQUEUE_URL", "memory://")

    with pytest.raises(ConfigError) as caught:
        OmniQ()

    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "OMNIQ_RESULT_STORAGE_TYPE",
        "OMNIQ_EVENT_STORAGE_URL",
    ]
    assert "did you mean 'OMNIQ_TASK_QUEUE_URL'?" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.yaml", "url: [", "a.yaml: is no YAML: "),
        ("a.yaml", "- url", "a.yaml: expected keys and values, got list"),
        ("a.toml", "url = ", "a.toml: is no TOML: "),
        ("pyproject.toml", "[project]", r"has no table \[tool.omniq\]"),
        ("a.json", "{}", "does not end in .yaml, .yml or .toml"),
    ],
)
def test_a_bad_file_is_told_by_name(name: str, text: str, problem: str) -> None:
    """With the line, where the parser knows it."""
    with pytest.raises(ConfigError, match=problem):
        OmniQ(config=saved(name, text))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The folder may be the mistake."""
    with pytest.raises(ConfigError, match=r"nosuch.yaml: cannot be read"):
        OmniQ(config="nosuch.yaml")
    with pytest.raises(ConfigError, match=r"neither omniq.toml nor pyproject.toml"):
        OmniQConfig.from_toml()


@pytest.mark.parametrize(
    ("driver", "url", "extra"),
    [
        ("redis", "redis://h", "redis"),
        ("asyncpg", "postgres://h/x", "postgres"),
        ("nats", "nats://h", "nats"),
    ],
)
def test_a_missing_driver_names_the_extra(
    driver: str, url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command can be copied."""
    monkeypatch.setitem(sys.modules, driver, None)

    with pytest.raises(ConfigError, match=rf"pip install 'omniq-tasks\[{extra}\]'"):
        OmniQ(url)


def test_yaml_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional."""
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(ConfigError, match=r"pip install 'omniq-tasks\[yaml\]'"):
        OmniQConfig.from_yaml("a.yaml")


def test_an_object_store_may_keep_one_component() -> None:
    """Its class is chosen by the URL; constructing does no I/O."""
    stores = Stores(Sources(results="s3://bucket/x", tasks="memory://"))

    assert "s3://bucket/x" in repr(stores.results)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pa/ss@host/0", "redis://:***@host/0"),
        ("redis://u:pa?ss@host/0?token=a", "redis://u:***@host/0?token=***"),
        (
            "postgresql://h?direct_dsn=postgresql://u:x@h",
            "postgresql://h?direct_dsn=postgresql://u:***@h",
        ),
        ("postgresql://h?direct_dsn=x%3A%2F%2Fu%3Ax%40h", "postgresql://h?direct_dsn=x://u:***@h"),
        ("nats://h?token=abc&replicas=3", "nats://h?token=***&replicas=3"),
        ("postgresql://h/x?password=a", "postgresql://h/x?password=***"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    """Wherever they stand."""
    assert masked(url) == shown


def test_passwords_in_options_are_masked() -> None:
    """All storage options are: nobody knows which are keys."""
    given = {
        "password": "a",
        "direct_dsn": "postgresql://u:a@h/x",
        "servers": ["nats://a@h"],
        "storage_options": {"key": "a"},
        "schema": "jobs",
    }

    assert masked_options(given) == {
        "password": "***",
        "direct_dsn": "postgresql://u:***@h/x",
        "servers": ["nats://***@h"],
        "storage_options": {"key": "***"},
        "schema": "jobs",
    }
    config = StorageBackendConfig("redis", "redis://:abc@h", {"password": "abc"})
    assert "abc" not in repr(config)
    assert "abc" not in repr(OmniQConfig(task_queue_backend=config))


def test_config_show_tells_each_value_and_who_said_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whoever wonders where the results went."""
    saved("a.yaml", "result_storage_backend: redis://:secret@h/0")
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_TYPE", "memory")
    monkeypatch.setenv("OMNIQ_RESULTS_URL", "memory://")

    assert execute(["config", "show", "--file", "a.yaml", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    rows = {row["name"]: (row["value"], row["origin"]) for row in told["settings"]}
    source = "a.yaml: result_storage_backend"
    assert rows["result_storage_backend.url"] == ("redis://:***@h/0", source)
    assert rows["event_storage_backend.backend_type"] == ("memory", "OMNIQ_EVENT_STORAGE_TYPE")
    assert rows["task_queue_backend.url"] == ("sqlite:///omniq.db", "default")
    assert rows["schedule_storage_backend.url"][1] == "default, by way of the task queue"
    assert "OMNIQ_RESULTS_URL" in told["warnings"][0]


def test_config_show_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """For people."""
    assert execute(["config", "show"]) == 0

    assert "task_queue_backend.url" in capsys.readouterr().out
    assert execute(["config", "show", "-f", "nosuch.yaml"]) == 2


def test_config_show_lists_all_bad_variables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what people run when nothing else does."""
    monkeypatch.setenv("OMNIQ_TASK_QUEUE_TYPE", "sqlit")
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_TYPE", "memry")

    assert execute(["config", "show"]) == 2

    told = capsys.readouterr().err
    assert "OMNIQ_TASK_QUEUE_TYPE" in told
    assert "OMNIQ_EVENT_STORAGE_TYPE" in told


@pytest.mark.parametrize(
    ("typed", "options"),
    [(RedisConfig, RedisOptions), (PostgreSQLConfig, PostgresOptions), (NATSConfig, NATSOptions)],
)
def test_typed_configuration_has_all_options_of_its_backend(typed: Any, options: Any) -> None:
    """They are declared twice, as configuration is checked without importing a driver."""
    own = {"serialization_format", "keep_events", "url", "dsn", "servers"}

    assert set(options.__annotations__) - own == set(typed.__struct_fields__) - own


def test_folder_configuration_has_all_fields_of_the_file_backend() -> None:
    """`FileConfig` has defaults, what a file says has none."""
    assert set(FolderConfig.__struct_fields__) == set(FileConfig.__struct_fields__)
