"""Where a NATS server is and how to talk to it: URLs and options, read once, shown without secrets.

    nats://localhost:4222
    nats://user:password@host:4222        nats://token@host:4222
    tls://a:4222,b:4222,c:4222            a cluster, encrypted
    nats://host:4222?namespace=shop&replicas=3

A list of such URLs names the servers of one cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from omniq.clock import check_seconds
from omniq.exceptions import ConfigError, ValidationError
from omniq.ids import check_name
from omniq.models.server_urls import readable

DEFAULT_URL = "nats://localhost:4222"
DEFAULT_PORT = 4222
_SCHEMES = ("nats", "tls")
_REPLICAS = range(1, 6)


class NATSOptions(TypedDict, total=False):
    """What can be said about a server beside its URLs, as keywords or in the query of a URL.

    Attributes:
        namespace: prefix of all streams and subjects (default ``omniq``).
        replicas: copies of each stream this handle creates, 1 to 5 (default 1); streams that
            exist keep theirs.
        user, password, token: who we are; each may be part of the URL instead.
        credentials_file: a ``.creds`` file, for servers that use JWTs.
        tls_ca_file: certificates to trust beside those of the machine (with ``tls://``).
        tls_certificate_file, tls_key_file: our own certificate.
        connect_timeout_seconds, timeout_seconds: how long to wait for a connection, for an answer
            (default 5).
    """

    namespace: str
    replicas: int
    user: str | None
    password: str | None
    token: str | None
    credentials_file: str | None
    tls_ca_file: str | None
    tls_certificate_file: str | None
    tls_key_file: str | None
    connect_timeout_seconds: float
    timeout_seconds: float


_TEXTS = frozenset(NATSOptions.__annotations__) - {
    "replicas",
    "connect_timeout_seconds",
    "timeout_seconds",
}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """The options, checked. `str` of it holds no secret."""

    servers: tuple[str, ...]
    encrypted: bool = False
    namespace: str = "omniq"
    replicas: int = 1
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials_file: str | None = None
    tls_ca_file: str | None = None
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    connect_timeout_seconds: float = 5.0
    timeout_seconds: float = 5.0

    def __str__(self) -> str:
        return ",".join(self.servers)

    __repr__ = __str__


def read_address(
    servers: str | Sequence[str] | None = None, **options: Unpack[NATSOptions]
) -> Address:
    """Return the address of one or several URLs; options given as keywords win over the URL's.

    Raises:
        ConfigError: a part of it makes no sense; the message holds no secret.
    """
    parts = [_split(url) for url in _listed(servers)]
    given: dict[str, Any] = {}
    for part in parts:
        given |= _credentials(part) | _query(part)
    given |= {name: value for name, value in options.items() if value is not None}
    schemes = {part.scheme for part in parts}
    if len(schemes) > 1:
        raise ConfigError("nats:// and tls:// servers cannot be mixed")
    _check(given)
    return Address(servers=tuple(map(_bare, parts)), encrypted=schemes == {"tls"}, **given)


def _listed(servers: str | Sequence[str] | None) -> list[str]:
    """One URL a server: a comma within one stands for the same URL on another host."""
    several = [servers] if isinstance(servers, str) else list(servers or [DEFAULT_URL])
    listed: list[str] = []
    for text in cast("list[object]", several):
        if not isinstance(text, str) or not text:
            raise ConfigError(f"servers: expected URLs, got {type(text).__name__}")
        scheme, found, rest = readable(text, "NATS").partition("://")
        rest, mark, query = (rest if found else text).partition("?")
        who, at, hosts = rest.rpartition("@")
        prefix = f"{scheme if found else 'nats'}://{who}{at}"
        listed += [f"{prefix}{host}{mark}{query}" for host in hosts.split(",")]
    return listed


def _split(url: str) -> SplitResult:
    try:
        part = urlsplit(url)
        port = part.port
    except ValueError as error:
        raise ConfigError("the NATS URL cannot be read: its port or host is malformed") from error
    if part.scheme not in _SCHEMES:
        raise ConfigError(f"scheme {part.scheme!r} is none of nats://, tls://")
    if not part.hostname or part.path.strip("/"):
        raise ConfigError(f"a NATS URL names a host and nothing else, not {part.path!r}")
    del port
    return part


def _bare(part: SplitResult) -> str:
    host = f"[{part.hostname}]" if ":" in (part.hostname or "") else part.hostname
    return f"{part.scheme}://{host}:{part.port or DEFAULT_PORT}"


def _credentials(part: SplitResult) -> dict[str, str]:
    if part.username is None:
        return {}
    if part.password is None:
        return {"token": unquote(part.username)}
    return {"user": unquote(part.username), "password": unquote(part.password)}


def _query(part: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(part.query, keep_blank_values=True):
        if name not in NATSOptions.__annotations__:
            known = ", ".join(NATSOptions.__annotations__)
            raise ConfigError(f"a NATS URL has no option {name!r}; valid are: {known}")
        options[name] = value if name in _TEXTS else _number(name, value)
    return options


def _number(name: str, value: str) -> float:
    try:
        return int(value) if name == "replicas" else float(value)
    except ValueError:
        raise ConfigError(f"{name}: {value!r} is no number") from None


def _check(given: dict[str, Any]) -> None:
    unknown = given.keys() - NATSOptions.__annotations__.keys()
    if unknown:
        raise ConfigError(f"unknown NATS options: {', '.join(sorted(unknown))}")
    try:
        check_name("namespace", given.get("namespace", "omniq"))
        for name in ("connect_timeout_seconds", "timeout_seconds"):
            check_seconds(name, given.get(name, 5.0), least=0.001)
    except ValidationError as error:
        raise ConfigError(str(error)) from error
    if given.get("replicas", 1) not in _REPLICAS:
        raise ConfigError(f"replicas: {given['replicas']!r} is not between 1 and 5")
