"""Configuration fit to be shown: without passwords, tokens and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote

from omniq.models.server_urls import is_ambiguous


def masked(url: str) -> str:
    """Return a URL fit to be shown: its password, or token, replaced by ``***``."""
    if is_ambiguous(url):  # a mark in the password would seem to begin the query
        return masked(_masked_place(url))
    place, question, query = url.partition("?")
    pairs = (pair.partition("=") for pair in query.split("&"))
    shown = "&".join(f"{name}{equals}{_masked_value(name, v)}" for name, equals, v in pairs)
    return f"{_masked_place(place)}{question}{shown}"


def masked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options fit to be shown: passwords, tokens and keys replaced by ``***``."""
    return {name: _masked_option(name, value) for name, value in options.items()}


def _masked_option(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict.fromkeys(cast("Mapping[str, Any]", value), "***")
    if isinstance(value, list):
        return [_masked_option(name, item) for item in cast("list[object]", value)]
    if _is_secret(name) and value is not None:
        return "***"
    return masked(value) if isinstance(value, str) and "://" in value else value


def _masked_value(name: str, value: str) -> str:
    if _is_secret(name):
        return "***"
    plain = unquote(value)
    return masked(plain) if "://" in plain else value


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in ("password", "passwd", "secret", "token"))


def _masked_place(url: str) -> str:
    scheme, found, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    if not found or not at or rest.startswith("/"):
        return url
    if "/" in user and ":" not in user.partition("/")[0]:
        return url
    name, colon, _ = user.partition(":")
    return f"{scheme}://{name + ':' if colon else ''}***@{host}"
