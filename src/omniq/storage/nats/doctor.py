"""What a client cannot ask a server in-band: whether acknowledged writes survive a crash."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from omniq.exceptions import ConfigError, StorageUnavailableError

TIMEOUT_SECONDS = 5.0


async def findings(monitor_url: str) -> list[str]:
    """Return what is wrong with a server for keeping tasks, one line each; none if all is well.

    Args:
        monitor_url: of its monitoring port, such as ``http://localhost:8222``.

    Raises:
        ConfigError: it is no http or https URL.
        StorageUnavailableError: nobody answers there, or it is no NATS server.
    """
    if urlsplit(monitor_url).scheme not in {"http", "https"}:
        raise ConfigError("the monitoring URL of a NATS server starts with http:// or https://")
    try:
        facts = await asyncio.to_thread(_facts, f"{monitor_url.rstrip('/')}/varz")
        return _judged(facts)
    except (OSError, ValueError, KeyError) as error:
        raise StorageUnavailableError(
            f"no NATS server answers at the monitoring URL {monitor_url}: {error}"
        ) from error


def _facts(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme was checked
        facts: dict[str, Any] = json.load(answer)
    return facts


def _judged(facts: dict[str, Any]) -> list[str]:
    version = str(facts["version"])
    config = facts.get("jetstream", {}).get("config")
    if not config:
        return [f"JetStream is not enabled (server {version}); start it with -js"]
    found: list[str] = []
    if not config.get("sync_always") and config.get("sync_interval", 1) > 0:
        seconds = config.get("sync_interval", 0) / 1e9
        found.append(
            "acknowledged writes are not crash-durable: the file is synced every "
            f"{seconds:g} s; set `sync_interval: always` in the jetstream block"
        )
    return found
