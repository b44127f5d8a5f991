"""Where a Redis or Valkey server is and how to talk to it: URLs and options, read and checked.

redis://[user:password@]host[:port][/db]        rediss:// with TLS; valkey://, valkeys:// likewise
unix:///path/to/socket[?db=0]
redis+sentinel://host[:port],host[:port]/service[/db]      rediss+sentinel://
redis+cluster://host[:port],host[:port]                    rediss+cluster://
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, get_args
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from omniq.clock import check_seconds
from omniq.exceptions import ConfigError, ValidationError
from omniq.models.server_urls import readable

Durability = Literal["server", "fsync", "replica"]
Topology = Literal["single", "unix", "sentinel", "cluster"]

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII).fullmatch
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SCHEMES: dict[str, tuple[Topology, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "valkey": ("single", False),
    "valkeys": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}


class RedisOptions(TypedDict, total=False):
    """What every class of this backend takes beside a URL.

    Attributes:
        host, port, db: the server, when there is no URL.
        username, password: who asks; may also stand in the URL.
        ssl: talk TLS (as ``rediss://`` does); the certificate is verified.
        ssl_ca_certs, ssl_certfile, ssl_keyfile: paths of the authorities and our own certificate.
        sentinel_username, sentinel_password: who asks the Sentinels themselves.
        namespace: prefix of all keys, so that applications can share a server.
        timeout_seconds: after so long without an answer a call fails and its connection is closed.
        connect_timeout_seconds: the same for making a connection.
        max_connections: at most so many at once per event loop; further calls queue up.
        durability: ``server`` trusts the server's settings; ``fsync`` waits until the append-only
            file is synced (WAITAOF, server >= 7.2); ``replica`` until one replica has it (WAIT).
        allow_eviction: accept a server that may evict keys when its memory is full.
    """

    host: str
    port: int
    db: int
    username: str | None
    password: str | None
    ssl: bool
    ssl_ca_certs: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    sentinel_username: str | None
    sentinel_password: str | None
    namespace: str
    timeout_seconds: float
    connect_timeout_seconds: float
    max_connections: int
    durability: Durability
    allow_eviction: bool


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A checked set of options. It shows no password."""

    topology: Topology = "single"
    hosts: tuple[tuple[str, int], ...] = (("127.0.0.1", DEFAULT_PORT),)
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None
    ssl: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    namespace: str = "omniq"
    timeout_seconds: float = 5.0
    connect_timeout_seconds: float = 5.0
    max_connections: int = 10
    durability: Durability = "server"
    allow_eviction: bool = False

    def __str__(self) -> str:
        scheme = f"redis{'s' * self.ssl}"
        user = f"{quote(self.username or '', safe='')}:***@" if self.password else ""
        if self.topology == "unix":
            return f"unix://{user}{self.path}?db={self.db}"
        hosts = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        match self.topology:
            case "sentinel":
                return f"{scheme}+sentinel://{user}{hosts}/{self.service}/{self.db}"
            case "cluster":
                return f"{scheme}+cluster://{user}{hosts}"
            case _:
                return f"{scheme}://{user}{hosts}/{self.db}"

    __repr__ = __str__


def read_address(url: str | None, options: RedisOptions) -> Address:
    """Return the checked address of a URL and options; the latter go before the URL's query.

    Raises:
        ConfigError: a part makes no sense, or URL and parts name different things.
    """
    given: dict[str, Any] = dict(options)
    if url is None:
        host, port = given.pop("host", "127.0.0.1"), given.pop("port", DEFAULT_PORT)
        return _checked({**given, "hosts": ((host, port),)})
    both = sorted({"host", "port", "db", "ssl"} & given.keys())
    if both:
        raise ConfigError(f"give either a Redis URL or {', '.join(both)}, not both")
    return _checked({**_read_url(url), **given})


def _read_url(url: str) -> dict[str, Any]:
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in _SCHEMES:
        raise ConfigError(f"a Redis URL starts with one of {', '.join(_SCHEMES)}, followed by ://")
    topology, ssl = _SCHEMES[scheme.lower()]
    rest = readable(url, "Redis").partition("://")[2]
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    parts: dict[str, Any] = {
        "topology": topology,
        "ssl": ssl,
        "username": unquote(username) or None,
        "password": unquote(password) or None,
        **_read_query(query),
    }
    if topology == "unix":
        return {**parts, "path": "/" + unquote(path)}
    default = SENTINEL_PORT if topology == "sentinel" else DEFAULT_PORT
    parts["hosts"] = tuple(_host(text, default) for text in hosts.split(","))
    return {**parts, **_read_path(topology, [unquote(part) for part in path.split("/") if part])}


def _read_path(topology: Topology, parts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if topology == "sentinel":
        if not parts:
            raise ConfigError("a Sentinel URL names its service: redis+sentinel://host/service")
        found["service"] = parts.pop(0)
    if parts:
        found["db"] = _integer("db", parts.pop(0))
    if parts:
        raise ConfigError("a Redis URL ends with the number of the database")
    return found


def _read_query(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _QUERY:
            raise ConfigError(f"a Redis URL has no option {name!r}; valid are {', '.join(_QUERY)}")
        found[name] = _QUERY[name](name, value)
    return found


def _host(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, tail = text[1:].partition("]")
        port = tail.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    return host or "127.0.0.1", _integer("port", port) if port else default_port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"the {name} of a Redis URL is a number, not {text!r}")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{name} is a number of seconds, not {text!r}") from error


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ConfigError(f"{name} is true or false, not {text!r}")
    return _FLAGS[text.lower()]


def _text(name: str, text: str) -> str:
    if not text:
        raise ConfigError(f"{name} is empty")
    return text


_QUERY: Mapping[str, Any] = {
    "db": _integer,
    "namespace": _text,
    "timeout_seconds": _number,
    "connect_timeout_seconds": _number,
    "max_connections": _integer,
    "durability": _text,
    "allow_eviction": _flag,
    "ssl_ca_certs": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
}


def _checked(parts: dict[str, Any]) -> Address:
    unknown = sorted(parts.keys() - set(Address.__struct_fields__))
    if unknown:
        raise ConfigError(f"a Redis backend has no option {', '.join(unknown)}")
    address = Address(**parts)
    if not _NAMESPACE(address.namespace):
        raise ConfigError(
            f"namespace {address.namespace!r} is not 1 to 64 of A-Z a-z 0-9 _ . - starting with a "
            "letter or digit"
        )
    if address.durability not in get_args(Durability):
        known = ", ".join(get_args(Durability))
        raise ConfigError(f"durability {address.durability!r} is not one of {known}")
    _check_numbers(address)
    _check_cluster(address)
    return address


def _check_numbers(address: Address) -> None:
    try:
        check_seconds("timeout_seconds", address.timeout_seconds, least=0.01)
        check_seconds("connect_timeout_seconds", address.connect_timeout_seconds, least=0.01)
    except ValidationError as error:
        raise ConfigError(str(error)) from error
    for host, port in address.hosts:
        if type(host) is not str or not host or "/" in host:
            raise ConfigError("host is no name of a host; a URL is given as url=")
        if type(port) is not int or not 0 < port < 65_536:
            raise ConfigError(f"port {port!r} is not between 1 and 65535")
    if type(address.db) is not int or address.db < 0:
        raise ConfigError(f"db {address.db!r} is no number of a database")
    if type(address.max_connections) is not int or address.max_connections < 1:
        raise ConfigError(f"max_connections {address.max_connections!r} is no positive number")


def _check_cluster(address: Address) -> None:
    if address.topology != "cluster":
        return
    if address.db:
        raise ConfigError("a Redis Cluster has only database 0")
    if address.durability != "server":
        raise ConfigError(
            f"durability={address.durability!r} is not offered on a Redis Cluster, where WAIT and "
            "WAITAOF have no one connection to speak for; set appendfsync and "
            "min-replicas-to-write on its servers"
        )
