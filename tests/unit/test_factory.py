"""From URLs to backends: short to write, impossible to misread, helpful when wrong."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omniq.backend.base import BaseBackend
from omniq.backend.memory import MemoryBackend
from omniq.backend.sqlite import SQLiteBackend
from omniq.exceptions import ConfigError
from omniq.storage import factory
from omniq.storage.factory import BackendEntry, StorageBackendFactory, masked

create = StorageBackendFactory.create_backend


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Undo what a test registers."""
    entries = dict(factory._entries)  # pyright: ignore[reportPrivateUsage] - put back below
    yield
    factory._entries.clear()  # pyright: ignore[reportPrivateUsage] - as it was
    factory._entries.update(entries)  # pyright: ignore[reportPrivateUsage] - as it was


def database_of(url: str, backend_type: str | None = None) -> Any:
    backend = create(url, backend_type)
    assert isinstance(backend, SQLiteBackend)
    return backend.database


@pytest.mark.parametrize("url", ["memory://", "MEMORY://", "memory:///"])
def test_memory_has_one_url(url: str) -> None:
    """Schemes are read in any case."""
    assert isinstance(create(url), MemoryBackend)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:///data/jobs.db", "data/jobs.db"),
        ("sqlite:////var/lib/jobs.db", "/var/lib/jobs.db"),
        ("sqlite:///with%20space.db", "with space.db"),
        ("sqlite:///c#.db", "c#.db"),
        ("jobs.db", "jobs.db"),
        ("/var/lib/jobs.sqlite", "/var/lib/jobs.sqlite"),
        ("../jobs.sqlite3", "../jobs.sqlite3"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, path: str) -> None:
    """As everybody writes SQLite URLs; a path with the usual ending is one too."""
    assert database_of(url).path == Path(path).resolve()


def test_options_are_part_of_the_url() -> None:
    """One string configures all."""
    database = database_of("sqlite:///jobs.db?durability=fast&namespace=shop")

    assert database.durability == "fast"
    assert "shop" in database.tables.task


def test_a_bare_path_takes_options_too() -> None:
    """`jobs.db?durability=fast`."""
    assert database_of("jobs.db?durability=fast").durability == "fast"


def test_the_type_makes_sqlite_of_any_path() -> None:
    """`OMNIQ_TASK_QUEUE_TYPE=sqlite` with a bare path as URL."""
    assert database_of("jobs", "sqlite").path == Path("jobs").absolute()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is the variable it is made from unset"),
        ("jobs", "no URL"),
        ("jobs.db?x=1.txt", "no option"),
        ("sqlite:jobs.db", "no URL; write memory://, sqlite:///jobs.db"),
        ("sqlite:/jobs.db", "no URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://jobs.db", "three slashes: sqlite:///jobs.db"),
        (
            "sqlite:///a.db?durabilty=fast",
            "no option 'durabilty'; valid are: durability, namespace",
        ),
        ("sqlite:///a.db?durability=none", "durability is one of full, fast"),
        ("memory://host", "takes no host"),
        ("memory://?durability=fast", "no option 'durability'"),
        ("sqllite:///a.db", "did you mean 'sqlite'"),
        ("mysql://host/db", "known are"),
    ],
)
def test_a_url_that_makes_no_sense_is_explained(url: str, problem: str) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigError, match=problem):
        create(url)


def test_a_type_that_contradicts_the_url_is_refused() -> None:
    """One of the two is a mistake; guessing which would hide it."""
    with pytest.raises(ConfigError, match="no URL of type 'memory'"):
        create("sqlite:///jobs.db", "memory")


@pytest.mark.parametrize(
    ("alias", "name"),
    [("postgres", "postgresql"), ("gs", "gcs"), ("az", "azure"), ("abfs", "azure")],
)
def test_aliases_mean_the_same_type(alias: str, name: str) -> None:
    """Both spellings are in use."""
    assert StorageBackendFactory.type_of(f"{alias}://x") == name
    assert StorageBackendFactory.type_of(f"{name}://x", alias) == name


@pytest.mark.parametrize(
    ("name", "url"), [("memory", "memory://"), ("sqlite", "sqlite:///omniq.db")]
)
def test_some_types_have_a_usual_place(name: str, url: str) -> None:
    """A type alone is enough in the environment."""
    assert StorageBackendFactory.default_url(name) == url


def test_other_types_need_a_url() -> None:
    """Nobody guesses a server."""
    with pytest.raises(ConfigError, match="needs a URL"):
        StorageBackendFactory.default_url("nats")


def test_a_backend_this_version_lacks_is_told_with_its_extra() -> None:
    """It is no typing mistake."""
    StorageBackendFactory.register_backend("later", BackendEntry("omniq.backend.later:X", "later"))

    with pytest.raises(ConfigError, match=r"no backend 'later', only .*omniq-tasks\[later\]"):
        create("later://x")
    assert "later" not in StorageBackendFactory.get_supported_backends()


def test_a_missing_driver_is_told_with_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command can be copied."""
    (tmp_path / "needy_backend.py").write_text("import a_driver_nobody_has\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    StorageBackendFactory.register_backend("needy", BackendEntry("needy_backend:Needy", "needy"))

    with pytest.raises(
        ConfigError, match=r"'a_driver_nobody_has'.*pip install 'omniq-tasks\[needy\]"
    ):
        create("needy://x")


def test_an_import_error_inside_a_backend_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in a backend must not look like a missing driver."""
    (tmp_path / "buggy_backend.py").write_text("1 / 0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    StorageBackendFactory.register_backend("buggy", "buggy_backend:Buggy")

    with pytest.raises(ZeroDivisionError):
        create("buggy://x")


class ForeignBackend(MemoryBackend):
    """A third party's."""

    url = ""

    @classmethod
    def from_url(cls, url: str) -> BaseBackend:
        """Keep the URL to be seen."""
        backend = cls()
        backend.url = url
        return backend


def test_third_parties_register_a_class_that_reads_its_own_url() -> None:
    """Nothing here has to know it."""
    StorageBackendFactory.register_backend("foreign", f"{__name__}:ForeignBackend")

    backend = create("foreign://host/a?b=c")

    assert isinstance(backend, ForeignBackend)
    assert backend.url == "foreign://host/a?b=c"


def test_entry_points_are_found_by_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing a package is enough."""
    found = {"foreign": f"{__name__}:ForeignBackend"}
    monkeypatch.setattr(factory, "_entry_points", lambda: found)

    assert isinstance(create("foreign://x"), ForeignBackend)
    assert "foreign" in StorageBackendFactory.get_supported_backends()


def test_what_is_here_is_listed() -> None:
    """Sorted, by the names used in URLs."""
    names = StorageBackendFactory.get_supported_backends()

    assert {"memory", "sqlite"} <= set(names)
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:1/0", "redis://user:***@host:1/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("postgresql://user:p@ss@host/db?x=1", "postgresql://user:***@host/db?x=1"),
        ("nats://token@host", "nats://***@host"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("a@b.db", "a@b.db"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    """URLs end up in logs and error reports."""
    assert masked(url) == shown


def test_errors_show_no_password() -> None:
    """Also not when the URL is wrong."""
    with pytest.raises(ConfigError) as caught:
        create("redis://user:secret@host", "memory")

    assert "secret" not in str(caught.value)


def test_making_a_backend_touches_nothing(tmp_path: Path) -> None:
    """Constructors do no I/O: an application may be imported anywhere."""
    create(f"sqlite:///{tmp_path}/missing/jobs.db").get_task_queue()

    assert list(tmp_path.iterdir()) == []
