"""The Redis/Valkey backend: one server, one set of connections, four components."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self, Unpack, get_args
from urllib.parse import parse_qsl, urlencode

from omniq.backend.base import BaseBackend
from omniq.exceptions import ConfigError
from omniq.models.server_urls import readable
from omniq.serialization import SerializationFormat
from omniq.storage.events import EVENTS_KEPT
from omniq.storage.redis import (
    RedisEventStorage,
    RedisOptions,
    RedisQueue,
    RedisResultStorage,
    RedisScheduleStorage,
    RedisServer,
)


class RedisBackend(BaseBackend):
    """Tasks, results, events and schedules on one Redis or Valkey server.

    Args:
        url: where; without one, `host`, `port` and `db` are used.
        serialization_format: ``json``, ``msgpack`` or ``pickle`` for new records.
        keep_events: how long events are kept (seconds or timedelta).
        options: see `omniq.storage.redis.RedisOptions`.

    Raises:
        ConfigError: a part of the URL or an option makes no sense.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        keep_events: float | timedelta = EVENTS_KEPT,
        **options: Unpack[RedisOptions],
    ) -> None:
        super().__init__()
        self.server = RedisServer(url, **options)
        self._format: SerializationFormat = serialization_format
        self._keep_events = keep_events

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return a backend of a URL; ``serialization_format`` may be one of its options.

        Raises:
            ConfigError: a part of the URL makes no sense.
        """
        place, _, query = readable(url, "Redis").partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        own = {name: value for name, value in pairs if name == "serialization_format"}
        if not set(own.values()) <= set(get_args(SerializationFormat)):
            known = ", ".join(get_args(SerializationFormat))
            raise ConfigError(f"serialization_format is one of {known}")
        rest = urlencode([pair for pair in pairs if pair[0] not in own])
        chosen: dict[str, Any] = {**own}
        return cls(f"{place}?{rest}" if rest else place, **chosen)

    def __repr__(self) -> str:
        return f"RedisBackend({str(self.server)!r})"

    def _make_queue(self) -> RedisQueue:
        return RedisQueue(server=self.server, serialization_format=self._format)

    def _make_results(self) -> RedisResultStorage:
        return RedisResultStorage(server=self.server, serialization_format=self._format)

    def _make_events(self) -> RedisEventStorage:
        return RedisEventStorage(server=self.server, keep=self._keep_events)

    def _make_schedules(self) -> RedisScheduleStorage:
        return RedisScheduleStorage(server=self.server, serialization_format=self._format)
