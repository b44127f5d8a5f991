"""How a Redis or Valkey server is: what it may lose, and how near its limits it is."""

from __future__ import annotations

from typing import Any

from omniq.models.finding import Finding, broken, fine, risk
from omniq.storage.redis.checks import OLDEST_WAITAOF, version_of

NEARLY_FULL = 0.8
SLOW_CLIENTS = 0.9
"""The share of its clients at which a server is about to refuse more."""


def server_findings(
    name: str, facts: dict[str, Any], fsync: str, cluster: dict[str, Any] | None
) -> list[Finding]:
    """Judge what a server says.

    Args:
        name: how to call the server.
        facts: its INFO; empty where the service hides it.
        fsync: its ``appendfsync``; empty where that is hidden.
        cluster: its CLUSTER INFO, where it is part of one.
    """
    if not facts:
        return [
            risk(
                name,
                "its settings cannot be read: the service hides INFO, or this user may not ask",
                "allow +info to this user, or see in the service's console that the policy is "
                "noeviction and persistence is on",
            )
        ]
    found = [
        _version(name, facts),
        _role(name, facts),
        _eviction(name, facts),
        _persistence(name, facts, fsync),
        _last_save(name, facts),
        _memory(name, facts),
        _clients(name, facts),
        _cluster(name, cluster),
    ]
    return [item for item in found if item is not None]


def _version(name: str, facts: dict[str, Any]) -> Finding:
    kind = "Valkey" if "valkey_version" in facts else "Redis"
    text = str(facts.get("valkey_version") or facts.get("redis_version", ""))
    number = version_of(str(facts.get("redis_version", "")))
    if number and number < OLDEST_WAITAOF:
        return fine(name, f"{kind} {text}; durability='fsync' would need 7.2")
    return fine(name, f"{kind} {text or 'of a hidden version'}")


def _role(name: str, facts: dict[str, Any]) -> Finding:
    if facts.get("role") == "slave":
        return broken(name, "is a read-only replica", "name the primary, or use a Sentinel URL")
    replicas = int(facts.get("connected_slaves", 0))
    return fine(name, f"primary with {replicas} replicas")


def _eviction(name: str, facts: dict[str, Any]) -> Finding:
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return fine(name, "evicts nothing (noeviction)")
    return risk(
        name,
        f"its maxmemory-policy is {policy}: it deletes tasks and results when its memory is full",
        "CONFIG SET maxmemory-policy noeviction, and write it to the configuration file",
    )


def _persistence(name: str, facts: dict[str, Any], fsync: str) -> Finding:
    if str(facts.get("aof_enabled", "1")) != "1":
        return risk(
            name,
            "appendonly is off: a crash loses what was acknowledged since the last snapshot",
            "appendonly yes, with appendfsync everysec or always",
        )
    if fsync == "no":
        return risk(
            name,
            "appendfsync is no: a power cut may lose half a minute of what was acknowledged",
            "appendfsync everysec, or always",
        )
    if fsync == "everysec":
        return fine(name, "appends to a file, synced every second: a power cut may lose that much")
    return fine(name, f"appends to a file{', synced at each write' if fsync == 'always' else ''}")


def _last_save(name: str, facts: dict[str, Any]) -> Finding | None:
    """Say that the server cannot write to its disk: then it may refuse all writes."""
    bad = [
        what
        for key, what in (
            ("aof_last_write_status", "append to its file"),
            ("aof_last_bgrewrite_status", "rewrite its append-only file"),
            ("rdb_last_bgsave_status", "save a snapshot"),
        )
        if str(facts.get(key, "ok")) != "ok"
    ]
    if not bad:
        return None
    return broken(
        name,
        f"it could not {' nor '.join(bad)} the last time it tried",
        "see the server's log; its disk is full, slow or read-only, or it could not fork",
    )


def _memory(name: str, facts: dict[str, Any]) -> Finding:
    used, limit = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    text = f"{used / (1 << 20):,.0f} MiB of memory used"
    if not limit:
        return fine(name, f"{text}, no limit set")
    share = f"{text}, {used / limit:.0%} of maxmemory"
    if used < NEARLY_FULL * limit:
        return fine(name, share)
    return risk(
        name,
        f"{share}: once it is full, enqueueing fails",
        "raise maxmemory, or shorten result_ttl and keep_events",
    )


def _clients(name: str, facts: dict[str, Any]) -> Finding | None:
    connected, most = int(facts.get("connected_clients", 0)), int(facts.get("maxclients", 0))
    if not most or connected < SLOW_CLIENTS * most:
        return None
    return risk(
        name,
        f"{connected:,} of at most {most:,} clients are connected; soon it refuses more",
        "raise maxclients, or run fewer worker processes with more concurrency",
    )


def _cluster(name: str, facts: dict[str, Any] | None) -> Finding | None:
    if facts is None:
        return None
    state = str(facts.get("cluster_state", "unknown"))
    if state == "ok":
        return fine(name, f"cluster of {facts.get('cluster_size', '?')} primaries is ok")
    return broken(
        name,
        f"its cluster is in state {state!r}: some slots are served by nobody",
        "bring the missing nodes back, or fix it with redis-cli --cluster fix",
    )
