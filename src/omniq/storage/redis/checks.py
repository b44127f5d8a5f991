"""Whether a server is fit to keep tasks."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from omniq.exceptions import StorageError, StorageUnavailableError
from omniq.storage.redis.address import Address

logger = logging.getLogger(__name__)

OLDEST = (6, 2)
OLDEST_WAITAOF = (7, 2)
_SECTIONS = ("server", "replication", "memory", "persistence")
Ask = Callable[[str], Awaitable[dict[str, Any]]]


async def check_server(address: Address, ask: Ask) -> None:
    """Refuse a server that would lose tasks or cannot run the scripts.

    Args:
        address: which server, and what was asked of it.
        ask: returns a section of its INFO.

    Raises:
        StorageUnavailableError: it is a replica, or still loading.
        StorageError: it is too old, may evict keys, or lacks what the durability asked for needs.
    """
    facts = await server_facts(ask)
    place = f"redis server {address}: "
    version = version_of(str(facts.get("redis_version", "")))
    if version and version < OLDEST:
        raise StorageError(f"{place}version {facts['redis_version']} is too old; 6.2 is the oldest")
    if facts.get("role") == "slave":
        raise StorageUnavailableError(
            f"{place}it is a read-only replica; name the primary, or use a Sentinel URL"
        )
    _check_eviction(address, str(facts.get("maxmemory_policy", "noeviction")), place)
    _check_durability(address, facts, version, place)


def version_of(text: str) -> tuple[int, ...]:
    """Return the major and minor number of a version; empty when the server hides it."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def _check_eviction(address: Address, policy: str, place: str) -> None:
    if policy != "noeviction" and not address.allow_eviction:
        raise StorageError(
            f"{place}its maxmemory-policy is {policy}, so it may delete tasks when its memory is "
            "full; set it to noeviction, or pass allow_eviction=True to accept the loss"
        )


def _check_durability(
    address: Address, facts: dict[str, Any], version: tuple[int, ...], place: str
) -> None:
    appends = str(facts.get("aof_enabled", "1")) == "1"
    if address.durability == "fsync":
        if version and version < OLDEST_WAITAOF:
            raise StorageError(f"{place}durability='fsync' needs WAITAOF, that is, version 7.2")
        if not appends:
            raise StorageError(f"{place}durability='fsync' needs 'appendonly yes' on the server")
    if address.durability == "replica" and not _has_replica(facts):
        raise StorageError(f"{place}durability='replica' needs a connected replica; it has none")
    if not appends:
        logger.info(
            "%sappendonly is off: a crash loses what was acknowledged since the last snapshot",
            place,
        )


def _has_replica(facts: dict[str, Any]) -> bool:
    """Whether INFO lists a replica that is in step with its primary."""
    replicas: list[Any] = [fact for name, fact in facts.items() if re.fullmatch(r"slave\d+", name)]
    return any("online" in str(fact) for fact in replicas)


async def server_facts(ask: Ask, *more: str) -> dict[str, Any]:
    """Return what INFO says, in `more` sections too; nothing where the service hides it."""
    facts: dict[str, Any] = {}
    for section in (*_SECTIONS, *more):
        try:
            facts |= await ask(section)
        except StorageUnavailableError:
            raise
        except StorageError as error:
            if "unknown command 'info'" not in str(error).lower() and "permissions" not in str(
                error
            ):
                raise
            logger.warning("%s; its settings could not be checked", error)
    return facts
