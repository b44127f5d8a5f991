"""URLs of servers, whose passwords are often pasted as they are."""

from __future__ import annotations

import re
from urllib.parse import quote

from omniq.exceptions import ConfigError

_PORT = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?").fullmatch
_KEPT = ":%!$&'()*+,;=-._~"
"""What may stand as it is in a user name and password, the colon between them included."""


def readable(url: str, kind: str) -> str:
    """Return the URL of a server with all of its user name and password percent-encoded.

    Args:
        url: ``scheme://user:password@host,host/…?…``.
        kind: what is to be found there, for the message.

    Raises:
        ConfigError: its user name or password holds ``/``, ``?`` or ``#``, so that nobody can say
            where it ends. The message holds nothing of the URL.
    """
    if is_ambiguous(url):
        raise ConfigError(
            f"the {kind} URL cannot be read: a / ? # or @ in a user name or password is written "
            "%2F %3F %23 %40 (urllib.parse.quote(password, safe='') does that)"
        )
    scheme, found, rest = url.partition("://")
    authority, tail = _parted(rest)
    login, at, hosts = authority.rpartition("@")
    return f"{scheme}{found}{quote(login, safe=_KEPT)}{at}{hosts}{tail}"


def is_ambiguous(url: str) -> bool:
    """Whether what seems to be the host of a URL may be a part of its user name or password."""
    _, found, rest = url.partition("://")
    authority, tail = _parted(rest)
    if not found or "@" in authority or ":" not in authority or "@" not in tail:
        return False
    path, _, query = tail.partition("?")
    in_name = any("@" in option.partition("=")[0] for option in query.split("&"))
    return "@" in path or in_name or not are_ports(authority)


def are_ports(hosts: str) -> bool:
    """Whether each of ``host:port,host`` that has a port has a possible one."""
    found = [_PORT(host) for host in hosts.split(",")]
    return all(match is not None and is_port(match["port"] or "1") for match in found)


def is_port(text: str) -> bool:
    """Whether a text is the number of a port."""
    return text.isascii() and text.isdigit() and 0 < int(text) < 65_536


def _parted(rest: str) -> tuple[str, str]:
    """Return what lies before the first ``/``, ``?`` or ``#``, and what follows."""
    end = re.search("[/?#]", rest)
    return (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
