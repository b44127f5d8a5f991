"""Records as the text of a file: JSON is written as it is, other bytes inside of JSON.

Whatever the format, a file is valid JSON: an object with the fields of the record, or, for
MessagePack, pickle and compressed records, ``{"data": "<base64>"}``.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any, Literal, get_args

from omniq.exceptions import ConfigError, SerializationError
from omniq.serialization import MAX_TASK_BYTES, RecordCodec, SerializationFormat

Compression = Literal["none", "zlib"]

_OPEN, _CLOSE = b'{"data":"', b'"}'
_ZLIB = b"Z"
_WORTH_COMPRESSING = 512


class FileCodec:
    """A `RecordCodec` whose bytes are the content of a file.

    Args:
        cls, value_fields, format, limit: as for `RecordCodec`.
        compression: ``zlib`` compresses new records of over 512 bytes; every codec reads both.
    """

    def __init__(
        self,
        cls: type[Any],
        value_fields: tuple[str, ...],
        *,
        format: SerializationFormat = "json",  # noqa: A002 - the word users know
        compression: Compression = "none",
        limit: int = MAX_TASK_BYTES,
    ) -> None:
        if compression not in get_args(Compression):
            raise ConfigError(f"compression {compression!r} is not one of none, zlib")
        self._records = RecordCodec(cls, value_fields, format=format, limit=limit)
        self._compresses = compression == "zlib"
        self._limit = limit

    def encode(self, record: Any) -> bytes:
        """Return the record as JSON text without line breaks; errors as `RecordCodec.encode`."""
        data = self._records.encode(record)
        if self._compresses and len(data) > _WORTH_COMPRESSING:
            data = _ZLIB + zlib.compress(data)
        elif data[:1] == b"{":
            return data
        return _OPEN + base64.b64encode(data) + _CLOSE

    def decode(self, text: bytes) -> Any:
        """Return the record in a text.

        Raises:
            SerializationError: the text is damaged, or pickled where pickle is not read.
        """
        if not text.startswith(_OPEN):
            return self._records.decode(text)
        try:
            data = base64.b64decode(text[len(_OPEN) : text.rindex(_CLOSE)], validate=True)
            if data[:1] == _ZLIB:
                data = self._inflated(data[1:])
        except (ValueError, binascii.Error, zlib.error) as error:
            raise SerializationError("record", f"the stored record is damaged: {error}") from error
        return self._records.decode(data)

    def _inflated(self, data: bytes) -> bytes:
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(data, self._limit)
        if inflater.unconsumed_tail:
            raise ValueError(f"over {self._limit:,} bytes when decompressed")
        return inflated
