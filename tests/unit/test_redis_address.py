"""URLs and options of the Redis backend."""

from __future__ import annotations

from typing import Any

import pytest

from omniq.backend.redis import RedisBackend
from omniq.exceptions import ConfigError
from omniq.storage.redis.address import Address, read_address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", Address(hosts=(("h", 6379),))),
        ("valkey://h:1/3", Address(hosts=(("h", 1),), db=3)),
        ("rediss://u:p%40@h", Address(hosts=(("h", 6379),), username="u", password="p@", ssl=True)),
        ("redis://:secret@[::1]:7", Address(hosts=(("::1", 7),), password="secret")),
        (
            "unix:///run/r.sock?db=2",
            Address(topology="unix", hosts=Address().hosts, path="/run/r.sock", db=2),
        ),
        (
            "redis+sentinel://a,b:5/main/1",
            Address(topology="sentinel", hosts=(("a", 26379), ("b", 5)), service="main", db=1),
        ),
        (
            "rediss+cluster://a,b:5",
            Address(topology="cluster", hosts=(("a", 6379), ("b", 5)), ssl=True),
        ),
        (
            "redis://h?namespace=x&timeout_seconds=1.5&max_connections=3&allow_eviction=yes&durability=fsync",
            Address(
                hosts=(("h", 6379),),
                namespace="x",
                timeout_seconds=1.5,
                max_connections=3,
                allow_eviction=True,
                durability="fsync",
            ),
        ),
    ],
)
def test_a_url_says_all(url: str, expected: Address) -> None:
    """Every part of a URL reaches the driver."""
    assert read_address(url, {}) == expected


def test_parts_stand_for_a_url() -> None:
    """The specified form: host, port and db."""
    assert read_address(None, {"host": "h", "port": 7, "db": 2}) == read_address(
        "redis://h:7/2", {}
    )
    assert read_address(None, {}) == read_address("redis://127.0.0.1:6379/0", {})


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://h", {}),
        ("h:6379", {}),
        ("redis://h:port", {}),
        ("redis://h:99999", {}),
        ("redis://h/one", {}),
        ("redis://h/1/2", {}),
        ("redis://h?colour=red", {}),
        ("redis://h?timeout_seconds=soon", {}),
        ("redis://h?allow_eviction=maybe", {}),
        ("redis+sentinel://h", {}),
        ("redis+cluster://h/1", {}),
        ("redis+cluster://h?durability=fsync", {}),
        ("redis://h", {"host": "other"}),
        ("redis://h", {"namespace": "a{b}"}),
        ("redis://h", {"durability": "most"}),
        ("redis://h", {"max_connections": 0}),
        ("redis://h", {"timeout_seconds": 0}),
        (None, {"db": -1}),
        (None, {"colour": "red"}),
    ],
)
def test_nonsense_is_refused(url: str | None, options: Any) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigError):
        read_address(url, options)


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
def test_a_password_is_never_shown(scheme: str) -> None:
    """Neither by the backend nor by its parts."""
    path = "" if scheme == "redis+cluster" else "/0" if scheme == "redis" else "/main/0"
    backend = RedisBackend(f"{scheme}://me:hunter2@h:1{path}")
    shown = [backend, backend.server.address, backend.get_task_queue()]

    for thing in shown:
        assert "hunter2" not in repr(thing) + str(thing)
        assert "me:***@h" in repr(thing)


def test_a_backend_takes_its_format_from_the_url() -> None:
    """Beside the options of the server."""
    backend = RedisBackend.from_url("redis://h?serialization_format=msgpack&namespace=x")

    assert backend.server.address.namespace == "x"
    with pytest.raises(ConfigError, match="serialization_format"):
        RedisBackend.from_url("redis://h?serialization_format=xml")
