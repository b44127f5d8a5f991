"""Specification 004 as parts: its examples, its diagrams, and the driver its examples use."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional
from urllib.parse import urlsplit

from redis.asyncio import Redis

from tests.servers.redis import namespace, redis_url

PAGE = Path(__file__).parent / "spec/storage_system.md"
_PART = re.compile(r"^(##+) (.+?)$|^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


PLACE = urlsplit(redis_url())
PREFIX = f"{namespace()}:"


def raw_client() -> Any:
    """Return a client of the driver, to see what is really there."""
    driver: Any = Redis
    return driver.from_url(redis_url(), decode_responses=True)


def blocks(language: str) -> dict[str, str]:
    """Return the blocks of a language, each by the two headings above it."""
    found: dict[str, str] = {}
    chapter = section = ""
    for level, title, kind, text in _PART.findall(PAGE.read_text(encoding="utf-8")):
        if level == "##":
            chapter, section = title, ""
        elif level:
            section = title
        elif kind == language:
            found[f"{chapter} / {section}"] = text
    return found


class _Reply(NamedTuple):
    value: str


class Connection:
    """Named and called as in the driver the specification uses; it speaks to a real server."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis

    @classmethod
    async def create(cls, *, host: str, port: int, db: int, password: str | None) -> Connection:
        """Open a connection."""
        return cls(Redis(host=host, port=port, db=db, password=password, decode_responses=True))

    async def lpush(self, key: str, values: list[str]) -> int:
        """Push to the left."""
        return int(await self._redis.lpush(key, *values))

    async def brpop(self, keys: list[str], timeout: float | None) -> _Reply | None:
        """Pop from the right, waiting."""
        found = await self._redis.brpop(keys, timeout=timeout or 0)
        return None if found is None else _Reply(found[1])

    async def set(self, key: str, value: str) -> None:
        """Keep a text."""
        await self._redis.set(key, value)

    async def setex(self, key: str, ttl: int, value: str) -> None:
        """Keep a text for some seconds."""
        await self._redis.execute_command("SETEX", key, ttl, value)

    async def get(self, key: str) -> str | None:
        """Return a text."""
        found = await self._redis.get(key)
        return None if found is None else str(found)

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


EXAMPLES = blocks("python")


async def execute(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Execute code that may await at its top level; return its names."""
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ended = eval(compiled, names)
    if inspect.iscoroutine(ended):
        await ended
    return names


async def commands_of(raw: Any, call: Any) -> set[str]:
    """Return which commands the server was sent by a call, besides those of this client."""
    await raw.config_resetstat()
    await call
    stats: dict[str, Any] = await raw.info("commandstats")
    sent = {name.removeprefix("cmdstat_").upper().partition("|")[0] for name in stats}
    return sent - {"CONFIG", "INFO", "PING", "HELLO", "CLIENT", "SELECT"}


async def their_stores() -> tuple[Any, Any, Any]:
    """Make the three classes of the specification from its own code."""
    code = EXAMPLES["Serialization / Serialization Utilities"]
    names = await execute(code, {"json": json, "Dict": dict, "Optional": Optional})
    names["asyncio_redis"] = SimpleNamespace(Connection=Connection)
    await execute(EXAMPLES["RedisConnection / Implementation"], names)
    connection = names["RedisConnection"]()
    connection.__dict__.update(
        _connection=None, _host=PLACE.hostname, _port=PLACE.port, _db=0, _password=None
    )
    made: list[Any] = []
    for kind in ("QueueStore", "CacheStore"):
        body = textwrap.indent(EXAMPLES[f"{kind} / Implementation Example"], "    ")
        await execute(f"class {kind}:\n{body}", names)
        one = names[kind]()
        one.__dict__.update(_connection=connection, _prefix=PREFIX)
        made.append(one)
    return made[0], made[1], connection
