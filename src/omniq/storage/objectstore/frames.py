"""Objects of a log as text: one record a line, each behind its own checksum.

    3f1c9a02 {"log":1,"nonce":"9f86d081…"}
    a81b66e0 {"task":{"func":"mail.send","id":"018f…"},"data":{"args":["ann"]}}

The first line is the header. A damaged line spoils no other: a record holds no line break.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

import msgspec

from omniq.exceptions import SchemaError

FORMAT = 1
_SUM_LENGTH = 9


class Header(msgspec.Struct, omit_defaults=True):
    """The first line.

    Attributes:
        log: the version of the format.
        nonce: makes the bytes unlike those of anybody else.
        is_marked: whoever wrote this segment takes a snapshot at its number.
    """

    log: int
    nonce: str
    is_marked: bool = False


class Content(NamedTuple):
    """What is in an object: `damaged` are the lines that cannot be read, maybe the header's."""

    header: Header | None
    records: list[bytes]
    damaged: list[bytes]


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Header).decode


def pack(header: Header, records: Iterable[bytes]) -> bytes:
    """Return the bytes of an object."""
    lines = [_line(_ENCODE(header))]
    lines += map(_line, records)
    lines.append(b"")
    return b"\n".join(lines)


def unpack(data: bytes) -> Content:
    """Return what is in an object, damaged lines apart.

    Raises:
        SchemaError: a later version of OmniQ wrote it.
    """
    lines = data.split(b"\n")
    damaged = [lines[-1]] if lines[-1] else []
    records: list[bytes] = []
    for line in lines[:-1]:
        if _is_whole(line):
            records.append(line[_SUM_LENGTH:])
        else:
            damaged.append(line)
    header = _header(records[0]) if records else None
    return Content(header, records[1:] if header else records, damaged)


def _header(record: bytes) -> Header | None:
    try:
        header = _DECODE(record)
    except msgspec.MsgspecError:
        return None
    if header.log > FORMAT:
        raise SchemaError(
            f"the log is of format {header.log}, this OmniQ reads {FORMAT}; update OmniQ here"
        )
    return header


def _line(record: bytes) -> bytes:
    return b"%08x %s" % (crc32(record), record)


def _is_whole(line: bytes) -> bool:
    return line[:_SUM_LENGTH] == b"%08x " % crc32(line[_SUM_LENGTH:])
