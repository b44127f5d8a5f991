"""Results in Redis or Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Unpack

from omniq.models.result import TaskResult
from omniq.serialization import MAX_RESULT_BYTES, RecordCodec, SerializationFormat
from omniq.storage.parts import cut
from omniq.storage.redis.address import RedisOptions
from omniq.storage.redis.component import (
    RedisComponent,
    joined,
    micros_or_empty,
    packed,
    server_of,
)
from omniq.storage.redis.scripts import script
from omniq.storage.redis.server import RedisServer
from omniq.storage.results import BaseResultStorage

KEPT_AFTER_END_SECONDS = 60
"""The server deletes an expired result so long after its end; until then its value tells."""
RESULTS_PER_CALL = 1_000
LOOKS_PER_CALL = 5_000


class RedisResultStorage(RedisComponent, BaseResultStorage):
    """Results on a Redis or Valkey server; those with an end expire there by themselves.

    Args:
        url: where; without one, `host`, `port` and `db` are used.
        serialization_format: of new results; each says its own format when read.
        server: share this handle instead of making one.
        options: see `RedisOptions`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        server: RedisServer | None = None,
        **options: Unpack[RedisOptions],
    ) -> None:
        super().__init__()
        self._server = server_of(url, server, options)
        self._codec = RecordCodec(
            TaskResult, ("result",), format=serialization_format, limit=MAX_RESULT_BYTES
        )

    def is_kept_on(self, server: RedisServer) -> bool:
        """Whether results are stored on this server, over the same connections."""
        return self._server is server

    def setting(self, results: Sequence[TaskResult]) -> list[tuple[Any, ...]]:
        """Return what scripts are told of results that they store: one or more parts.

        Raises:
            SerializationError: one cannot be stored.
            PayloadTooLargeError: one is over the limit.
        """
        encoded = [self._codec.encode(item) for item in results]
        calls: list[tuple[Any, ...]] = []
        for start, end in cut(encoded, RESULTS_PER_CALL):
            batch = [
                field
                for item in results[start:end]
                for field in (item.task_id, item.claim_count, micros_or_empty(item.expires_at))
            ]
            calls.append((_GRACE_MICROS, packed(batch), *joined(encoded[start:end])))
        return calls

    async def _set(self, results: list[TaskResult]) -> list[bool]:
        stands: list[bool] = []
        for part in self.setting(results):
            answer = await self._server.run(_SET, *part, again=True, lasting=True)
            stands += [mark == _STANDS for mark in answer]
        return stands

    async def _get(self, task_ids: list[str], now: datetime | None) -> list[TaskResult | None]:
        found: list[TaskResult | None] = []
        for start in range(0, len(task_ids), RESULTS_PER_CALL):
            ids = task_ids[start : start + RESULTS_PER_CALL]
            stored = await self._server.run(_GET, micros_or_empty(now), *ids, again=True)
            found += [data and self._codec.decode(data) for data in stored]
        return found

    async def _delete(self, task_ids: list[str]) -> int:
        return int(await self._server.run(_DELETE, *task_ids))

    async def _find(self, after: str | None, limit: int, now: datetime | None) -> list[TaskResult]:
        found: list[TaskResult] = []
        cursor = after or ""
        while True:
            at = micros_or_empty(now)
            rest = min(limit - len(found), RESULTS_PER_CALL)
            answer = await self._server.run(_FIND, at, cursor, rest, LOOKS_PER_CALL, again=True)
            cursor = answer[0].decode()
            found += [self._codec.decode(data) for data in answer[1:]]
            if not cursor or len(found) >= limit:
                return found

    async def _purge(self, now: datetime | None, limit: int) -> int:
        return int(await self._server.run(_PURGE, micros_or_empty(now), limit))


_GRACE_MICROS = KEPT_AFTER_END_SECONDS * 1_000_000
_STANDS = ord("1")
_SET = script("result_set", "results", "result_put")
_GET = script("result_get", "results")
_FIND = script("result_find", "results")
_DELETE = script("result_delete", "results")
_PURGE = script("result_purge", "results")
AsyncRedisResultStorage = RedisResultStorage
