"""Values and records as bytes: a closed set of types, tagged, in JSON, MessagePack or pickle.

A value is first reduced to plain data (None, bool, int, float, str, list, dict with text keys).
Whatever else belongs to the closed set becomes ``{"$type": …}``, so that it comes back as the very
same type: tuple, set, frozenset, bytes, datetime, date, time, timedelta, UUID, Decimal, dicts with
other keys, and classes registered with `serializable` (dataclasses, msgspec Structs, Enums).
Nothing is ever imported or built by a name found in the data. Each record says its own format by
its first byte, so a store may hold several.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import math
import pickle
from collections.abc import Awaitable, Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypeVar, cast, get_args
from uuid import UUID

import msgspec

from omniq.exceptions import ConfigError, PayloadTooLargeError, SerializationError
from omniq.ids import stable_module
from omniq.plain import INT_MAX, INT_MIN, MAX_DEPTH, MAX_ITEMS, TAG, is_plain, looks_tagged

logger = logging.getLogger(__name__)

SerializationFormat = Literal["json", "msgpack", "pickle"]

MAX_TASK_BYTES = 1 << 20
MAX_RESULT_BYTES = 8 << 20

T = TypeVar("T")
C = TypeVar("C", bound=type)


class UnknownValue(msgspec.Struct, frozen=True):
    """A stored value of a type this process has not registered. Writing it back keeps it intact."""

    tag: str
    data: Any


_CLASSES: dict[str, type] = {}
_TAGS: dict[type, str] = {}
_met_unknown: set[str] = set()
"""Tags read in this process without a class: while there are none, nothing is searched for them."""


def serializable(cls: C) -> C:
    """Register a dataclass, msgspec Struct or Enum, so that its values can be stored (decorator).

    Types in the annotations of a task function are registered by themselves.

    Raises:
        ConfigError: it is another kind of class, or its name is taken by another class.
    """
    if not is_serializable_class(cls):
        raise ConfigError(f"{cls!r} is no dataclass, msgspec Struct or Enum")
    tag = f"{stable_module(cls)}:{cls.__qualname__}"
    known = _CLASSES.get(tag)
    if known is not None and known is not cls and "<locals>" not in tag:
        raise ConfigError(f"another class is registered as {tag}")
    _CLASSES[tag], _TAGS[cls] = cls, tag
    return cls


def is_serializable_class(cls: object) -> bool:
    """Whether `serializable` would accept `cls`."""
    return isinstance(cls, type) and (
        dataclasses.is_dataclass(cls) or issubclass(cls, msgspec.Struct | Enum)
    )


def to_plain(value: Any, path: str = "value", depth: int = 0) -> Any:
    """Reduce a value of the closed set to plain data.

    Raises:
        SerializationError: the part at `path` is of another type, is NaN or infinite, an integer
            of over 64 bits, nested deeper than 64 levels or a collection of over 100,000 items.
    """
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType] - of Any
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if INT_MIN <= value <= INT_MAX:
            return value
        raise SerializationError(path, "integers over 64 bits are not stored; pass a str")
    if kind is float:
        if math.isfinite(value):
            return value
        raise SerializationError(path, f"{value} is not stored; pass None or a str")
    if depth >= MAX_DEPTH:
        raise SerializationError(path, f"nested deeper than {MAX_DEPTH} levels")
    if kind is list:
        return _plain_items(value, path, depth)
    if kind is dict:
        return _plain_dict(value, path, depth)
    return _tagged(value, kind, path, depth)


def json_text(value: Any, path: str) -> str:
    """Return a value of the closed set as one line of JSON.

    Raises:
        SerializationError: as `to_plain`; or a text in it is no Unicode.
    """
    try:
        return msgspec.json.encode(to_plain(value, path)).decode()
    except UnicodeEncodeError as error:
        raise SerializationError(path, str(error)) from error


def from_plain(data: Any) -> Any:
    """Rebuild a value from plain data.

    What is of a class nobody registered, or of one that no longer takes what was stored, becomes
    an `UnknownValue`: one value that cannot be read must not keep a queue from being read.
    """
    kind: type[Any] = type(data)  # pyright: ignore[reportUnknownVariableType] - of Any
    if kind is list:
        return [from_plain(item) for item in data]
    if kind is not dict:
        return data
    if len(data) == 1:
        ((key, inner),) = data.items()
        if key.startswith(TAG):
            return _untagged(key[1:], inner)
    return {key: from_plain(item) for key, item in data.items()}


def has_unknown(value: Any) -> UnknownValue | None:
    """Return the first `UnknownValue` inside a value, or None."""
    return _first_unknown(value) if _met_unknown else None


def _first_unknown(value: Any) -> UnknownValue | None:
    if isinstance(value, UnknownValue):
        return value
    if type(value) in _TAGS:
        value = _fields_of(value)
    if type(value) is dict:
        value = _keys_and_values(value)
    if isinstance(value, list | tuple | set | frozenset):
        found = (_first_unknown(item) for item in cast("list[Any]", value))
        return next((item for item in found if item is not None), None)
    return None


def _keys_and_values(value: Any) -> list[Any]:
    return [*value.keys(), *value.values()]


def _plain_items(items: Any, path: str, depth: int) -> list[Any]:
    if len(items) > MAX_ITEMS:
        raise SerializationError(path, f"a collection of over {MAX_ITEMS:,} items")
    return [to_plain(item, f"{path}[{n}]", depth + 1) for n, item in enumerate(items)]


def _plain_dict(value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
    if len(value) > MAX_ITEMS:
        raise SerializationError(path, f"a collection of over {MAX_ITEMS:,} items")
    if all(type(key) is str for key in value) and not looks_tagged(value):
        return {key: to_plain(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    pairs = [list(pair) for pair in value.items()]
    return {"$map": _plain_items(pairs, path, depth)}


def _tagged(value: Any, kind: type, path: str, depth: int) -> Any:
    encode = _ENCODERS.get(kind)
    if encode is not None:
        return {TAG + kind.__name__: encode(value)}
    if kind in _COLLECTIONS:
        return {TAG + kind.__name__: _plain_items(value, path, depth)}
    if kind is UnknownValue:
        return {TAG + value.tag: value.data}
    tag = _TAGS.get(kind)
    if tag is None:
        raise SerializationError(
            path,
            f"values of {kind.__module__}.{kind.__qualname__} are not stored; {_instead(kind)}",
        )
    return {TAG + tag: to_plain(_fields_of(value), path, depth + 1)}


def _instead(kind: type[object]) -> str:
    """Return what to do with a value of a class that is not stored."""
    if issubclass(kind, Awaitable):
        return "was it to be awaited?"
    if is_serializable_class(kind):
        return "pass plain data, or register the class with omniq.serializable"
    return "pass plain data, or a dataclass"


def _fields_of(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}


def _untagged(tag: str, data: Any) -> Any:
    build = _DECODERS.get(tag) or _builder(tag)
    if build is not None:
        try:
            return build(data)
        except Exception as error:  # noqa: BLE001 - constructors are user code
            logger.warning("a stored value of %s cannot be rebuilt: %s", tag, error)
    _met_unknown.add(tag)
    return UnknownValue(tag, data)


def _builder(tag: str) -> Callable[[Any], Any] | None:
    cls = _CLASSES.get(tag)
    if cls is None:
        return None
    if issubclass(cls, Enum):
        return lambda data: cls(from_plain(data))
    return lambda data: cls(**from_plain(data))


_SECOND_TIME = "[fold=1]"
"""Marks a moment of the hour that a clock shows twice; the standard notation has no word for it."""


def _moment_text(value: datetime | time) -> str:
    return value.isoformat() + _SECOND_TIME * value.fold


def _moment(cls: type[datetime] | type[time]) -> Callable[[str], datetime | time]:
    def read(data: str) -> datetime | time:
        text = data.removesuffix(_SECOND_TIME)
        return cls.fromisoformat(text).replace(fold=int(text != data))

    return read


_COLLECTIONS = frozenset({tuple, set, frozenset})
_ENCODERS: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: base64.b64encode(value).decode(),
    datetime: _moment_text,
    date: date.isoformat,
    time: _moment_text,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    UUID: str,
    Decimal: str,
}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda data: tuple(map(from_plain, data)),
    "set": lambda data: set(map(from_plain, data)),
    "frozenset": lambda data: frozenset(map(from_plain, data)),
    "map": lambda data: {from_plain(key): from_plain(item) for key, item in data},
    "bytes": base64.b64decode,
    "datetime": _moment(datetime),
    "date": date.fromisoformat,
    "time": _moment(time),
    "timedelta": lambda data: timedelta(*data),
    "UUID": UUID,
    "Decimal": Decimal,
}


class RecordCodec:
    """Turns records (Struct instances) of one class into self-describing bytes and back.

    Fields named in `value_fields` hold user values and are reduced to plain data on the way.
    """

    def __init__(
        self,
        cls: type[Any],
        value_fields: tuple[str, ...],
        *,
        format: SerializationFormat = "json",  # noqa: A002 - the word users know
        limit: int = MAX_TASK_BYTES,
    ) -> None:
        if format not in get_args(SerializationFormat):
            known = ", ".join(get_args(SerializationFormat))
            raise ConfigError(f"serialization_format {format!r} is not one of {known}")
        self._cls = cls
        self._value_fields = value_fields
        self._format = format
        self._limit = limit
        self._json = msgspec.json.Encoder()
        self._msgpack = msgspec.msgpack.Encoder()
        self._from_json = msgspec.json.Decoder(cls)
        self._from_msgpack = msgspec.msgpack.Decoder(cls)

    def encode(self, record: Any) -> bytes:
        """Return the record as bytes.

        Raises:
            SerializationError: a value is outside the closed set.
            PayloadTooLargeError: the bytes exceed the limit.
        """
        if self._format == "pickle":
            return self._checked(b"P" + _pickled(record))
        plain = self._reduced(record)
        try:
            if self._format == "json":
                return self._checked(self._json.encode(plain))
            return self._checked(b"M" + self._msgpack.encode(plain))
        except (UnicodeEncodeError, msgspec.MsgspecError, TypeError) as error:
            raise SerializationError(self._cls.__name__.lower(), str(error)) from error

    def decode(self, data: bytes) -> Any:
        """Return the record in `data`.

        Raises:
            SerializationError: the bytes are no record, or are pickled and this store was not
                configured for pickle.
        """
        try:
            record = self._parsed(bytes(data))
        except SerializationError:
            raise
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            name = self._cls.__name__.lower()
            raise SerializationError(name, f"the stored record is damaged: {error}") from error
        if data[:1] == b"M" or (data[:1] == b"{" and b'"$' in data):
            self._revive(record)
        return record

    def _parsed(self, data: bytes) -> Any:
        first = data[:1]
        if first == b"{":
            return self._from_json.decode(data)
        if first == b"M":
            return self._from_msgpack.decode(memoryview(data)[1:])
        if first != b"P":
            raise ValueError("unknown format")
        if self._format != "pickle":
            raise SerializationError(
                "serialization_format", "the record is pickled; this store does not read pickle"
            )
        record = _unpickled(memoryview(data)[1:])
        if not isinstance(record, self._cls):
            raise ValueError("another kind of record")
        return record

    def _reduced(self, record: Any) -> Any:
        changed: dict[str, Any] = {}
        for name in self._value_fields:
            value = getattr(record, name)
            if not value and type(value) in (dict, tuple, int, bool, str):
                continue
            is_args = name == "args"
            if is_plain(list(value) if is_args else value):
                continue
            plain = tuple(_plain_items(value, name, 0)) if is_args else to_plain(value, name)
            if plain != value or type(plain) is not type(value):
                changed[name] = plain
        return msgspec.structs.replace(record, **changed) if changed else record

    def _revive(self, record: Any) -> None:
        for name in self._value_fields:
            value = getattr(record, name)
            if name == "args":
                setattr(record, name, tuple(map(from_plain, value)))
            elif value:
                setattr(record, name, from_plain(value))

    def _checked(self, data: bytes) -> bytes:
        if len(data) > self._limit:
            raise PayloadTooLargeError(
                self._cls.__name__.lower(),
                f"{len(data):,} bytes stored, the limit is {self._limit:,}; "
                "store the data elsewhere and pass a reference",
            )
        return data


def _unpickled(data: memoryview) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301 - only where the operator chose it
    except Exception as error:
        raise ValueError(str(error)) from error


def _pickled(record: Any) -> bytes:
    try:
        return pickle.dumps(record, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise SerializationError("record", f"cannot be pickled: {error}") from error
