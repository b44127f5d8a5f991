"""Where an application keeps things: one rule for four components."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ
from omniq.app.stores import Sources, Stores
from omniq.backend.memory import MemoryBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.exceptions import ConfigError, StorageError
from omniq.storage.base import Component
from omniq.storage.memory import (
    MemoryEventStorage,
    MemoryQueue,
    MemoryResultStorage,
    MemoryScheduleStorage,
)
from omniq.storage.sqlite import SQLiteQueue, SQLiteResultStorage
from tests.naming import stable_id

MEMORY = (MemoryQueue, MemoryResultStorage, MemoryEventStorage, MemoryScheduleStorage)


def stores(environment: Mapping[str, str] | None = None, **sources: Any) -> Stores:
    return Stores(Sources(**sources), environment or {})


def places(chosen: Stores) -> list[str]:
    """The file (or `memory`) each of the four components is in."""
    return [
        "memory" if type(item) in MEMORY else Path(vars(item)["_db"].path).name for item in chosen
    ]


def test_without_a_word_all_is_in_one_sqlite_file() -> None:
    """A person starts with no server at all."""
    assert places(stores()) == ["omniq.db"] * 4


def test_one_url_is_for_all_four_over_one_connection() -> None:
    """Tasks, results and events may then share a transaction."""
    chosen = stores(everything="sqlite:///a.db")

    assert places(chosen) == ["a.db"] * 4
    assert len({id(vars(item)["_db"]) for item in chosen}) == 1


def test_components_can_be_mixed() -> None:
    """Each by URL, backend or object; the rest follows the task queue."""
    events = MemoryEventStorage()
    results = SQLiteBackend("r.db")

    chosen = stores(tasks="sqlite:///t.db", results=results, events=events)

    assert places(chosen) == ["t.db", "r.db", "memory", "t.db"]
    assert chosen.events is events
    assert chosen.results is results.get_result_storage()


def test_the_same_url_twice_is_one_backend() -> None:
    """Not two connections to one file."""
    chosen = stores(tasks="sqlite:///t.db", results="sqlite:///t.db")

    assert len({id(vars(item)["_db"]) for item in chosen}) == 1


def test_a_component_of_its_own_wins_over_the_one_for_all() -> None:
    """`OmniQ(url, results=…)`."""
    assert places(stores(everything="memory://", results="r.db")) == [
        "memory",
        "r.db",
        "memory",
        "memory",
    ]


def test_a_bare_queue_says_nothing_of_the_other_three() -> None:
    """A file appearing somewhere by surprise would be worse than the question."""
    with pytest.raises(ConfigError, match=r"nothing says where results are kept; give `results=`"):
        stores(tasks=MemoryQueue())

    given: dict[str, Any] = {
        "results": MemoryResultStorage(),
        "events": MemoryEventStorage(),
        "schedules": MemoryScheduleStorage(),
    }
    assert places(stores(tasks=MemoryQueue(), **given)) == ["memory"] * 4


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMNIQ_URL": "sqlite:///all.db"}, ["all.db"] * 4),
        ({"OMNIQ_TASK_QUEUE_URL": "t.db", "OMNIQ_URL": "all.db"}, ["t.db"] * 4),
        (
            {"OMNIQ_URL": "all.db", "OMNIQ_RESULT_STORAGE_URL": "r.db"},
            ["all.db", "r.db", "all.db", "all.db"],
        ),
        ({"OMNIQ_EVENT_STORAGE_TYPE": "memory"}, ["omniq.db", "omniq.db", "memory", "omniq.db"]),
        (
            {"OMNIQ_TASK_QUEUE_TYPE": "sqlite", "OMNIQ_TASK_QUEUE_URL": "sqlite:///t.db"},
            ["t.db"] * 4,
        ),
        (
            {"OMNIQ_TASK_QUEUE_URL": "t.db", "OMNIQ_SCHEDULE_STORAGE_TYPE": "sqlite"},
            ["t.db", "t.db", "t.db", "omniq.db"],
        ),
        ({"OMNIQ_TASK_QUEUE_TYPE": "sqlite", "OMNIQ_TASK_QUEUE_URL": "jobs"}, ["jobs"] * 4),
        ({"OMNIQ_TASK_QUEUE_TYPE": "", "OMNIQ_EVENT_STORAGE_TYPE": ""}, ["omniq.db"] * 4),
    ],
    ids=stable_id,
)
def test_the_environment_speaks_for_each_component_as_a_whole(
    environment: dict[str, str], expected: list[str]
) -> None:
    """A type without a URL never takes the URL of another component."""
    assert places(stores(environment)) == expected


def test_arguments_win_over_the_environment() -> None:
    """What the code says, the code means."""
    environment = {"OMNIQ_URL": "env.db", "OMNIQ_RESULT_STORAGE_URL": "env-results.db"}

    assert places(stores(environment, everything="memory://")) == ["memory"] * 4
    assert places(stores(environment, tasks="t.db")) == ["t.db", "env-results.db", "t.db", "t.db"]


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the application itself."""
    monkeypatch.setenv("OMNIQ_URL", "memory://")

    assert isinstance(OmniQ().task_queue, MemoryQueue)


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"OMNIQ_TASK_QUEUE_TYPE": "sqllite"}, "OMNIQ_TASK_QUEUE_TYPE: .*did you mean 'sqlite'"),
        (
            {"OMNIQ_EVENT_STORAGE_URL": "nonsense"},
            "OMNIQ_EVENT_STORAGE_URL: .*'nonsense' is no URL",
        ),
        (
            {"OMNIQ_TASK_QUEUE_TYPE": "memory", "OMNIQ_TASK_QUEUE_URL": "sqlite:///a.db"},
            "no URL of type 'memory'",
        ),
        ({"OMNIQ_RESULT_STORAGE_TYPE": "nats"}, "needs a URL"),
    ],
    ids=stable_id,
)
def test_a_bad_environment_is_told_by_variable(environment: dict[str, str], problem: str) -> None:
    """It was set far away from the code."""
    with pytest.raises(ConfigError, match=problem):
        stores(environment)


@pytest.mark.parametrize(
    "sources",
    [
        {"tasks": 5},
        {"everything": 5},
        {"everything": MemoryQueue()},
        {"everything": "memory://", "results": MemoryQueue()},
        {"everything": "memory://", "events": object()},
    ],
    ids=["number for tasks", "number", "queue", "queue for results", "object for events"],
)
def test_what_is_no_store_is_refused(sources: dict[str, Any]) -> None:
    """A queue is no result storage."""
    with pytest.raises(ConfigError, match="expected a"):
        stores(**sources)


def test_url_and_backend_are_the_same_and_not_both() -> None:
    """Two spellings, one meaning."""
    backend = MemoryBackend()

    assert OmniQ(backend=backend).task_queue is backend.get_task_queue()
    assert isinstance(OmniQ(backend="memory://").task_queue, MemoryQueue)
    with pytest.raises(ConfigError, match="either url or backend"):
        OmniQ("memory://", backend=backend)


def test_an_unknown_configuration_object_is_refused() -> None:
    """Silence would run on the wrong store."""
    given: Any = []

    with pytest.raises(ConfigError, match="list is not understood"):
        OmniQ(config=given)


class Log:
    """What was opened and closed."""

    def __init__(self) -> None:
        self.lines: list[str] = []


class LoggedResults(MemoryResultStorage):
    """Logs its opening and closing; may refuse to open."""

    def __init__(self, log: Log, error: Exception | None = None) -> None:
        super().__init__()
        self._log, self._error = log, error

    async def _open(self) -> None:
        self._log.lines.append("open")
        if self._error is not None:
            raise self._error

    async def _close(self) -> None:
        self._log.lines.append("close")


async def test_the_application_opens_and_closes_all_four() -> None:
    """Once, however often it is asked."""
    log = Log()
    async with OmniQ("memory://", results=LoggedResults(log)) as app:
        await app.connect()
    await app.disconnect()

    assert log.lines == ["open", "close"]


async def test_what_opened_by_itself_is_closed_too() -> None:
    """Nobody has to call `connect`."""
    log = Log()
    app = OmniQ("memory://", results=LoggedResults(log))
    await app.result_storage.get("x")

    await app.disconnect()

    assert log.lines == ["open", "close"]


async def test_when_one_cannot_be_opened_none_stays_open() -> None:
    """And a second try may work."""
    log = Log()
    results = LoggedResults(log, StorageError("no"))
    app = OmniQ("memory://", results=results)
    with pytest.raises(StorageError):
        await app.connect()

    opened: list[Component] = [
        item for item in (app.task_queue, app.event_storage) if vars(item).get("_is_open")
    ]

    assert opened == []


def test_with_works_without_a_loop() -> None:
    """Scripts open and close like this."""
    log = Log()
    with OmniQ("memory://", results=LoggedResults(log)):
        pass

    assert log.lines == ["open", "close"]


def test_classes_of_two_backends_are_what_they_say(tmp_path: Path) -> None:
    """The components are those of the specification."""
    app = OmniQ(f"sqlite:///{tmp_path}/a.db")

    assert isinstance(app.task_queue, SQLiteQueue)
    assert isinstance(app.result_storage, SQLiteResultStorage)
