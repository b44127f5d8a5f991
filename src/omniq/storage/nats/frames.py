"""What goes over a `Wire`, without the driver: so that the rest of the package loads without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

_STATUS = b"NATS/1.0 "


class Frame(NamedTuple):
    """A message to be sent: `headers` are encoded lines, each ending in CRLF."""

    subject: str
    data: bytes = b""
    headers: bytes = b""


class Delivery(NamedTuple):
    """A message that came in, as it came."""

    subject: bytes
    reply: bytes
    data: bytes
    headers: bytes | None

    @property
    def status(self) -> int:
        """The status of a message without content (404, 503 …); 0 for any other."""
        if self.headers is None or not self.headers.startswith(_STATUS):
            return 0
        code = self.headers[len(_STATUS) : len(_STATUS) + 3]
        return int(code) if code.isdigit() else 0


def lines(headers: dict[str, object]) -> bytes:
    """Return headers as a `Frame` takes them."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def one_batch(frames: Sequence[Frame]) -> list[Frame]:
    """Return messages as the server stores them all or none; the last one commits."""
    batch = uuid4().hex
    marked = [
        frame._replace(
            headers=frame.headers + lines({"Nats-Batch-Id": batch, "Nats-Batch-Sequence": n})
        )
        for n, frame in enumerate(frames, 1)
    ]
    last = marked.pop()
    return [*marked, last._replace(headers=last.headers + lines({"Nats-Batch-Commit": 1}))]
