"""The NATS backend: one server or cluster, one connection a loop, four components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, Unpack, cast, get_args
from urllib.parse import parse_qsl, urlencode

from omniq.backend.base import BaseBackend
from omniq.exceptions import ConfigError
from omniq.models.server_urls import readable
from omniq.serialization import SerializationFormat
from omniq.storage.nats import (
    NATSEventStorage,
    NATSOptions,
    NATSQueue,
    NATSResultStorage,
    NATSScheduleStorage,
    NATSServer,
)


class NATSBackend(BaseBackend):
    """Tasks, results, events and schedules in JetStream, in four streams of one namespace.

    Args:
        servers: one URL or several, see `omniq.storage.nats.address`.
        serialization_format: ``json``, ``msgpack`` or ``pickle`` for new records.
        options: see `NATSOptions`.
    """

    capabilities = NATSQueue.capabilities

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        serialization_format: SerializationFormat = "json",
        **options: Unpack[NATSOptions],
    ) -> None:
        super().__init__()
        self.server = NATSServer(servers, **options)
        self._format: SerializationFormat = serialization_format

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the backend of a URL, whose query may also name the `serialization_format`.

        Raises:
            ConfigError: a part of it makes no sense.
        """
        base, _, query = readable(url, "NATS").partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        kept = [(name, value) for name, value in options if name != "serialization_format"]
        chosen = dict(options).get("serialization_format", "json")
        if chosen not in get_args(SerializationFormat):
            raise ConfigError(f"serialization_format {chosen!r} is not json, msgpack or pickle")
        rest = f"{base}?{urlencode(kept)}" if kept else base
        return cls(rest, serialization_format=cast("SerializationFormat", chosen))

    def __repr__(self) -> str:
        return f"NATSBackend({str(self.server)!r})"

    def _make_queue(self) -> NATSQueue:
        return NATSQueue(server=self.server, serialization_format=self._format)

    def _make_results(self) -> NATSResultStorage:
        return NATSResultStorage(server=self.server, serialization_format=self._format)

    def _make_events(self) -> NATSEventStorage:
        return NATSEventStorage(server=self.server, serialization_format=self._format)

    def _make_schedules(self) -> NATSScheduleStorage:
        return NATSScheduleStorage(server=self.server, serialization_format=self._format)


AsyncNATSBackend = NATSBackend
NatsBackend = NATSBackend
AsyncNatsBackend = NATSBackend
