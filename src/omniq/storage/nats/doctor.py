"""How a NATS server and a stream are; and, by its monitoring port, what it does not say in-band."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from omniq.exceptions import ConfigError
from omniq.models.finding import Finding, broken, fine, risk
from omniq.models.masking import masked
from omniq.storage.nats.answers import Info
from omniq.storage.nats.jetstream import Stream

TIMEOUT_SECONDS = 5.0
NEARLY_FULL = 0.8
_LIMITS = {"max_age": "age", "max_msgs": "number", "max_bytes": "size"}


def server_findings(name: str, server: dict[str, Any]) -> list[Finding]:
    """Judge what a server said when we connected."""
    cluster = server.get("cluster")
    place = f"in cluster {cluster}" if cluster else "alone"
    return [fine(name, f"version {server.get('version')}, {place}")]


def stream_findings(stream: Stream, info: Info, *, in_cluster: bool) -> list[Finding]:
    """Judge how a stream is kept."""
    name = f"stream {stream.name}"
    replicas = int(info.config.get("num_replicas", 1))
    found = [
        _replicas(name, replicas, in_cluster=in_cluster),
        *_members(name, info.cluster),
        *_limits(name, info.config, stream.config),
    ]
    if info.config.get("storage") != "file":
        text = "is kept in memory: a restart of its servers loses it"
        found.append(
            risk(name, text, "delete the stream while it is empty; OmniQ makes it in files")
        )
    return found


def _replicas(name: str, replicas: int, *, in_cluster: bool) -> Finding:
    if replicas > 1 or not in_cluster:
        return fine(name, f"{replicas} {'copy' if replicas == 1 else 'copies'}")
    return risk(
        name,
        "has one copy in a cluster: with its node away nothing works, with its disk all is lost",
        f"nats stream edit {name.rpartition(' ')[2]} --replicas 3, and ?replicas=3 in the URL",
    )


def _members(name: str, cluster: dict[str, Any]) -> list[Finding]:
    """Report copies that are away or behind."""
    others: list[dict[str, Any]] = cluster.get("replicas") or []
    away = sorted(str(one.get("name")) for one in others if one.get("offline"))
    behind = sorted(
        str(one.get("name")) for one in others if not (one.get("offline") or one.get("current"))
    )
    found: list[Finding] = []
    if away:
        text = f"its copies on {', '.join(away)} are offline"
        found.append(risk(name, text, "bring the node back: with the next one, writing may end"))
    if behind:
        text = f"its copies on {', '.join(behind)} are behind"
        found.append(risk(name, text, "wait; if it stays so, look at that node's disk and network"))
    return found


def _limits(name: str, config: dict[str, Any], ours: dict[str, Any]) -> list[Finding]:
    """Report limits by which the server would delete records that are still needed."""
    limits = [
        what for key, what in _LIMITS.items() if int(config.get(key) or 0) > 0 and key not in ours
    ]
    if not limits or config.get("discard") == "new":
        return []
    return [
        risk(
            name,
            f"has a limit of {' and '.join(limits)}: beyond it the server deletes the oldest "
            "records, unfinished tasks too",
            "take the limit away, or set the stream's discard policy to new",
        )
    ]


def unknown_sync(name: str) -> Finding:
    """Return what can be said about crashes without a monitoring port."""
    return risk(
        name,
        "cannot tell whether acknowledged writes survive a power cut; by default they are synced "
        "every two minutes",
        "ask the monitoring port: omniq doctor --monitor-url http://HOST:8222",
    )


async def monitor_findings(name: str, monitor_url: str) -> list[Finding]:
    """Return what the monitoring port of a server says.

    Args:
        name: how to call the server.
        monitor_url: of its monitoring port, such as ``http://localhost:8222``.

    Raises:
        ConfigError: it is no http or https URL.
    """
    if urlsplit(monitor_url).scheme not in {"http", "https"}:
        raise ConfigError("the monitoring URL of a NATS server starts with http:// or https://")
    try:
        facts = await asyncio.to_thread(_facts, f"{monitor_url.rstrip('/')}/varz")
        return _judged(name, facts)
    except (OSError, ValueError, KeyError) as error:
        text = f"no NATS server answers at the monitoring URL {masked(monitor_url)}: {error}"
        return [broken(name, text, "see `http:` in the server's configuration for the right one")]


def _facts(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme was checked
        facts: dict[str, Any] = json.load(answer)
    return facts


def _judged(name: str, facts: dict[str, Any]) -> list[Finding]:
    version = str(facts["version"])
    jetstream = facts.get("jetstream", {})
    config = jetstream.get("config")
    if not config:
        text = f"JetStream is not enabled (server {version})"
        return [broken(name, text, "start it with -js, or with a jetstream block")]
    return [_sync(name, config), *_storage(name, config, jetstream.get("stats", {}))]


def _sync(name: str, config: dict[str, Any]) -> Finding:
    if config.get("sync_always") or config.get("sync_interval", 1) <= 0:
        return fine(name, "each acknowledged write is synced to the disk")
    seconds = config.get("sync_interval", 0) / 1e9
    return risk(
        name,
        "acknowledged writes are not crash-durable: the file is synced every "
        f"{seconds:g} s, so a power cut may lose that much",
        "set `sync_interval: always` in the jetstream block, or keep several replicas",
    )


def _storage(name: str, config: dict[str, Any], stats: dict[str, Any]) -> list[Finding]:
    used, limit = int(stats.get("storage", 0)), int(config.get("max_storage", 0))
    if limit <= 0 or used < NEARLY_FULL * limit:
        return []
    text = f"JetStream uses {used / limit:.0%} of its {limit / (1 << 20):,.0f} MiB on disk"
    return [risk(name, text, "raise max_file_store, or delete what is not needed")]
