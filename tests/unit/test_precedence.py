"""Which of all sources decides where a component is kept: the whole table."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from omniq.app.stores import Sources, Stores
from omniq.models.config import VARIABLES, OmniQConfig, StorageBackendConfig
from omniq.storage.base import Component

COMPONENTS: list[str] = ["tasks", "results", "events", "schedules"]
KEYS = dict(zip(COMPONENTS, VARIABLES, strict=True))
OWN = ("argument", "argument for all", "config", "config for all", "variables")
OF_THE_QUEUE = ("argument of tasks", "config of tasks", "variables of tasks")
LAST = ("OMNIQ_URL", "default")
RANKS = {name: OWN + (() if name == "tasks" else OF_THE_QUEUE) + LAST for name in COMPONENTS}
"""The sources of a component, first the one that decides over all others."""
PAIRS = [
    (name, first, second)
    for name, ranks in RANKS.items()
    for first, second in combinations(ranks, 2)
]


def chosen(component: str, *given: str) -> str:
    """The file a component is in when these sources speak, each naming its own file."""
    return _place(_stores(component, given), component)


def _stores(component: str, given: tuple[str, ...]) -> Stores:
    arguments: dict[str, Any] = {}
    config: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for source in given:
        what, _, whose = source.partition(" of ")
        name, url = whose or component, f"sqlite:///{source.replace(' ', '-')}.db"
        match what:
            case "argument":
                arguments[name] = url
            case "argument for all":
                arguments["everything"] = url
            case "config":
                config[KEYS[name]] = StorageBackendConfig(url=url)
            case "config for all":
                config["url"] = url
            case "variables":
                environment[f"{VARIABLES[KEYS[name]]}_URL"] = url
            case "OMNIQ_URL":
                environment["OMNIQ_URL"] = url
            case _:
                assert what == "default"
    return Stores(Sources(**arguments, config=OmniQConfig(**config)), environment)


def _place(stores: Stores, component: str) -> str:
    component_here: Component = getattr(stores, component)
    name = Path(vars(component_here)["_db"].path).stem
    return "default" if name == "omniq" else name.replace("-", " ")


@pytest.mark.parametrize(("component", "first", "second"), PAIRS)
def test_of_two_sources_the_higher_decides(component: str, first: str, second: str) -> None:
    """In whatever order they are given."""
    assert chosen(component, first, second) == first
    assert chosen(component, second, first) == first


@pytest.mark.parametrize("component", RANKS)
def test_each_source_decides_over_all_below_it(component: str) -> None:
    """Taking away the highest leaves the decision to the next."""
    ranks = RANKS[component]

    assert [chosen(component, *ranks[n:]) for n in range(len(ranks))] == list(ranks)


@pytest.mark.parametrize("component", ["results", "events", "schedules"])
def test_what_another_component_says_of_itself_decides_nothing(component: str) -> None:
    """Only the task queue is followed."""
    others = {name for name in KEYS if name not in ("tasks", component)}

    for other in others:
        for source in OWN:
            if "all" not in source:
                stores = _stores(other, (source,))
                assert _place(stores, component) == "default"


@pytest.mark.parametrize("component", KEYS)
def test_configuration_alone_tells_the_same_as_the_application(
    component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The four getters know the variables too."""
    get = f"get_{KEYS[component]}_config"
    monkeypatch.setenv(f"{VARIABLES[KEYS[component]]}_TYPE", "memory")
    monkeypatch.setenv("OMNIQ_URL", "sqlite:///url.db")

    assert getattr(OmniQConfig(), get)().backend_type == "memory"
    assert getattr(OmniQConfig(url="all.db"), get)().url == "all.db"
    monkeypatch.delenv(f"{VARIABLES[KEYS[component]]}_TYPE")
    assert getattr(OmniQConfig(), get)().url == "sqlite:///url.db"


def test_a_snapshot_of_the_environment_does_not_change() -> None:
    """`from_env` reads once."""
    variables = {"OMNIQ_RESULT_STORAGE_TYPE": "memory", "OMNIQ_URL": "sqlite:///url.db"}

    config = OmniQConfig.from_env(variables)

    assert config.result_storage_backend == StorageBackendConfig("memory")
    assert config.task_queue_backend == StorageBackendConfig(url="sqlite:///url.db")
    assert config.event_storage_backend is None


def test_a_type_without_url_never_takes_the_url_of_another() -> None:
    """Nor the options."""
    config = OmniQConfig(
        task_queue_backend=StorageBackendConfig("sqlite", "sqlite:///t.db", {"durability": "fast"})
    )
    stores = Stores(Sources(config=config), {"OMNIQ_EVENT_STORAGE_TYPE": "sqlite"})

    assert _place(stores, "events") == "default"
    assert vars(stores.events)["_db"].durability == "full"
    assert vars(stores.results)["_db"].durability == "fast"
