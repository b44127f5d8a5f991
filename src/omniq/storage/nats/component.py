"""What the four components of this backend share: a `NATSServer`, given or made from URLs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from omniq.models.finding import Finding
from omniq.storage.component import Capabilities
from omniq.storage.labels import store_label
from omniq.storage.nats import doctor
from omniq.storage.nats.address import NATSOptions
from omniq.storage.nats.jetstream import Stream
from omniq.storage.nats.link import NATSServer


class NATSComponent:
    """Opens and closes the server it was given, or one of its own."""

    capabilities = Capabilities(wakes=True)
    monitor_url: str | None
    _server: NATSServer
    stream: Stream

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._server)!r})"

    async def _open(self) -> None:
        await self._server.open(self)
        try:
            await self.stream.ensure()
        except BaseException:
            await self._server.close(self)
            raise

    async def _close(self) -> None:
        await self._server.close(self)

    @property
    def store_name(self) -> str:
        """See `Component.store_name`."""
        return store_label("nats", self._server, self._server.address.namespace)

    async def _findings(self) -> list[Finding]:
        name = self.store_name
        server = await self._server.info()
        if self.monitor_url is None:
            told = [doctor.unknown_sync(name)]
        else:
            told = await doctor.monitor_findings(name, self.monitor_url)
        info = await self.stream.info()
        return [
            *doctor.server_findings(name, server),
            *told,
            *doctor.stream_findings(self.stream, info, in_cluster=bool(server.get("cluster"))),
        ]

    async def _is_missing(self) -> bool:
        await self._server.open(self)
        try:
            return not (await self.stream.info()).config
        finally:
            await self._server.close(self)

    async def _store_time(self) -> datetime | None:
        return (await self.stream.info()).ts


def server_of(
    servers: str | Sequence[str] | None, server: NATSServer | None, options: NATSOptions
) -> NATSServer:
    """Return the shared handle, or a new one of these URLs and options."""
    return NATSServer(servers, **options) if server is None else server


def token(name: str) -> str:
    """Return an id or queue name as one token of a subject; `=` occurs in no name."""
    return name.replace(".", "=")


def untoken(text: str) -> str:
    """Return the name that `token` was made of."""
    return text.replace("=", ".")


def bucket_config(bucket: str, wake: str) -> dict[str, object]:
    """Return the stream of a key-value bucket, as the tools of NATS know it, with wake-ups."""
    return {
        "subjects": [f"$KV.{bucket}.>"],
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
        "deny_delete": False,
        "republish": {"src": f"$KV.{bucket}.>", "dest": f"{wake}.>", "headers_only": True},
    }


BUCKET_REQUIRED = ("max_msgs_per_subject", "allow_msg_ttl")


def rounds(task_ids: Sequence[str]) -> list[list[int]]:
    """Return the places of a batch in rounds: within one no id occurs twice; in order over all."""
    found: list[list[int]] = []
    seen: dict[str, int] = {}
    for place, task_id in enumerate(task_ids):
        turn = seen.get(task_id, 0)
        seen[task_id] = turn + 1
        if turn == len(found):
            found.append([])
        found[turn].append(place)
    return found
