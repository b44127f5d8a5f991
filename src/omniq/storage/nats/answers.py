"""What the JetStream API answers, read."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from omniq.storage.nats import errors
from omniq.storage.nats.errors import Problem
from omniq.storage.nats.frames import Delivery


class Stored(NamedTuple):
    """A message of a stream; its sequence is the revision of its subject."""

    subject: str
    sequence: int
    data: bytes


class Look(NamedTuple):
    """What `Stream.look` saw.

    Attributes:
        more: for each pattern, the sequence of the next message; 0 if there is none.
        also: the messages that were to be read too.
        up_to: the last sequence of the stream just before it looked; 0 if it is not known.
    """

    more: list[int]
    also: list[Stored]
    up_to: int


class PubAck(msgspec.Struct):
    """The answer to a publish, a delete or a purge."""

    seq: int = 0
    error: Problem | None = None
    success: bool = False
    purged: int = 0


class StoredMessage(msgspec.Struct):
    """A message as the leader of a stream gives it; `data` in base64."""

    subject: str
    seq: int
    data: str = ""

    @property
    def stored(self) -> Stored:
        """The message as all others read it."""
        return Stored(self.subject, self.seq, base64.b64decode(self.data))


class Answer(msgspec.Struct):
    """The answer to a read from the leader."""

    message: StoredMessage | None = None
    error: Problem | None = None


class State(msgspec.Struct):
    """What a stream holds."""

    subjects: dict[str, int] = {}
    last_seq: int = 0


class Info(msgspec.Struct):
    """What a stream is, and the server's time."""

    state: State = msgspec.field(default_factory=State)
    config: dict[str, Any] = {}
    cluster: dict[str, Any] = {}
    ts: datetime | None = None
    total: int = 0
    error: Problem | None = None


read_ack = msgspec.json.Decoder(PubAck).decode
read_answer = msgspec.json.Decoder(Answer).decode
read_info = msgspec.json.Decoder(Info).decode


def is_crowded(answer: Delivery) -> bool:
    """Whether the server has too many batches at this moment."""
    error = None if answer.status else read_ack(answer.data).error
    return error is not None and error.err_code == errors.TOO_MANY_BATCHES


def stored_in(delivery: Delivery) -> Stored:
    """Return the message that a direct get delivered."""
    headers = delivery.headers or b""
    return Stored(
        _header(headers, b"\r\nNats-Subject: ").decode(),
        int(_header(headers, b"\r\nNats-Sequence: ")),
        delivery.data,
    )


def _header(headers: bytes, name: bytes) -> bytes:
    """Return the value the server appended; headers of ours come before."""
    start = headers.rfind(name)
    if start < 0:
        return b""
    start += len(name)
    return headers[start : headers.find(b"\r\n", start)]


def last_sequence(answer: list[Delivery]) -> int:
    """Return the last sequence of the stream when it answered for the last of some subjects."""
    return int(_header(answer[-1].headers or b"", b"\r\nNats-UpTo-Sequence: ") or 0)


def number_pending(answer: list[Delivery]) -> int:
    """Return how many messages follow those of a batched get."""
    return int(_header(answer[-1].headers or b"", b"\r\nNats-Num-Pending: ") or 0)
