"""Which server, and how to reach it: from a URL or from its parts."""

from __future__ import annotations

import os
import ssl
from typing import Any, NamedTuple, TypedDict, cast
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from omniq.exceptions import ConfigError
from omniq.models.server_urls import are_ports, is_port, readable

_SCHEMES = {"postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg"}
_LOCAL = {"", "localhost", "127.0.0.1", "::1", "[::1]"}
_NUMBERS = {"pool_size": int, "statement_cache_size": int}
_SECONDS = ("connect_timeout", "command_timeout")
_SWITCHES = ("listen", "migrate")
_WORDS = ("schema", "namespace", "direct_dsn")


class PostgresOptions(TypedDict, total=False):
    """Everything that can be said about a database besides its DSN; all are keyword arguments.

    Keys:
        url: another name of `dsn`.
        host, port, user, password, database: the parts of a DSN; `db` is short for `database`.
        schema: where the tables live; made if missing.
        namespace: prefix of the tables, so that applications can share a schema.
        pool_size: most connections per event loop, besides the one that listens.
        statement_cache_size: 0 for PgBouncer in transaction mode, which must not see prepared
            statements.
        direct_dsn: the way to the server past a pooler, for LISTEN and the locks that tell who
            lives.
        listen: False does without LISTEN: waiting becomes polling, and death goes unnoticed until
            leases end.
        migrate: False leaves tables alone and refuses a schema that is missing or older.
        connect_timeout, command_timeout: seconds until a connection or an answer is given up.
        ssl: an `ssl.SSLContext`, True or False; by default as the URL says with `sslmode`, and
            without that verified against the system's authorities unless the server is local.
    """

    url: str
    host: str
    port: int
    user: str
    password: str
    database: str
    db: str
    schema: str
    namespace: str
    pool_size: int
    statement_cache_size: int
    direct_dsn: str
    listen: bool
    migrate: bool
    connect_timeout: float
    command_timeout: float
    ssl: ssl.SSLContext | bool


class Target(NamedTuple):
    """A server and database: what the driver is given, and what people may see."""

    dsn: str
    shown: str
    ssl: ssl.SSLContext | bool | None


def resolved(dsn: str | None, options: PostgresOptions) -> tuple[str, dict[str, Any]]:
    """Return the one DSN that was meant and the other options, those in its query included.

    Raises:
        ConfigError: there is no DSN, or several, or an option has a bad value.
    """
    given: dict[str, Any] = dict(options)
    url = given.pop("url", None)
    parts = {name: given.pop(name, None) for name in ("host", "port", "user", "password")}
    parts["database"] = given.pop("database", None) or given.pop("db", None)
    has_parts = any(value is not None for value in parts.values())
    if sum((dsn is not None, url is not None, has_parts)) != 1:
        raise ConfigError(
            "say where the database is, once: dsn='postgresql://user@host/database', "
            "or url=, or host=, port=, user=, password= and database="
        )
    whole = _from_parts(parts) if has_parts else cast("str", dsn or url)
    bare, own = _split(whole)
    return bare, {**own, **given}


def target(dsn: str, given_ssl: ssl.SSLContext | bool | None) -> Target:
    """Return how to reach the database of a DSN.

    Raises:
        ConfigError: it is no DSN.
    """
    pieces = _pieces(dsn)
    dsn = urlunsplit(pieces)
    _check_ports(pieces)
    query = dict(parse_qsl(pieces.query, keep_blank_values=True))
    if given_ssl is None and "sslmode" not in query and not os.environ.get("PGSSLMODE"):
        if "sslrootcert" in query:
            query["sslmode"] = "verify-full"
            dsn = urlunsplit(pieces._replace(query=urlencode(query)))
        elif not _is_local(pieces.netloc, query):
            given_ssl = ssl.create_default_context()
    return Target(dsn, shown(dsn), given_ssl)


def shown(dsn: str) -> str:
    """Return a DSN without its password and options, fit for messages and logs."""
    pieces = urlsplit(dsn)
    user, at, hosts = pieces.netloc.rpartition("@")
    return f"{pieces.scheme}://{user.partition(':')[0]}{at}{hosts}{pieces.path}"


def _from_parts(parts: dict[str, Any]) -> str:
    def word(name: str) -> str:
        return quote(str(parts[name]), safe="") if parts[name] is not None else ""

    password = f":{word('password')}" if parts["password"] is not None else ""
    login = f"{word('user')}{password}@" if parts["user"] is not None or password else ""
    host = str(parts["host"] or "")
    port = f":{int(parts['port'])}" if parts["port"] is not None else ""
    if host.startswith("/"):
        return f"postgresql://{login}/{word('database')}?host={quote(host, safe='')}"
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"postgresql://{login}{host}{port}/{word('database')}"


def _split(dsn: str) -> tuple[str, dict[str, Any]]:
    """Part a URL into what the driver reads and the options that are ours."""
    pieces = _pieces(dsn)
    if pieces.scheme not in _SCHEMES:
        raise ConfigError(f"{shown(dsn)!r} is no PostgreSQL URL; it starts with postgresql://")
    own: dict[str, Any] = {}
    rest: list[tuple[str, str]] = []
    for name, value in parse_qsl(pieces.query, keep_blank_values=True):
        if not _take_option(own, name, value):
            rest.append((name, value))
    scheme = pieces.scheme.partition("+")[0]
    return urlunsplit(pieces._replace(scheme=scheme, query=urlencode(rest))), own


def _take_option(own: dict[str, Any], name: str, value: str) -> bool:
    try:
        if name in _NUMBERS:
            own[name] = _NUMBERS[name](value)
        elif name in _SECONDS:
            own[name] = float(value)
        elif name in _SWITCHES:
            own[name] = {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        elif name in _WORDS:
            own[name] = value
        else:
            return False
    except (ValueError, KeyError) as error:
        raise ConfigError(f"PostgreSQL URL: {name}={value!r} cannot be read") from error
    return True


def _pieces(dsn: str) -> SplitResult:
    try:
        return urlsplit(readable(dsn, "PostgreSQL"))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(
            "the PostgreSQL URL cannot be read; is a bracket or quote off?"
        ) from error


def _check_ports(pieces: SplitResult) -> None:
    in_query = dict(parse_qsl(pieces.query)).get("port", "")
    listed = [port for port in in_query.split(",") if port]
    if not (are_ports(pieces.netloc.rpartition("@")[2]) and all(map(is_port, listed))):
        raise ConfigError("the PostgreSQL URL cannot be read: a port is a number from 1 to 65535")


def _is_local(netloc: str, query: dict[str, str]) -> bool:
    """Whether all hosts are this machine, so that the network sees nothing."""
    hosts = netloc.rpartition("@")[2].split(",")
    hosts += query["host"].split(",") if "host" in query else []
    return all(_host(host) in _LOCAL or unquote(host).startswith("/") for host in hosts)


def _host(address: str) -> str:
    if address.startswith("["):
        return address.partition("]")[0] + "]"
    return address.partition(":")[0].lower()


def taken_from_query(url: str, name: str, default: str) -> tuple[str, str]:
    """Return a URL without one option of its query, and the value that had."""
    pieces = _pieces(url)
    options = parse_qsl(pieces.query, keep_blank_values=True)
    rest = urlencode([pair for pair in options if pair[0] != name])
    return urlunsplit(pieces._replace(query=rest)), dict(options).get(name, default)
