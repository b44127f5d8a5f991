"""Specification 004 as parts: its examples, its diagrams, and the driver its examples use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis

PAGE = Path(__file__).parent / "spec/storage_system.md"
_PART = re.compile(r"^(##+) (.+?)$|^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


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
