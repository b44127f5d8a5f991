"""Values of every type that can be stored, for property tests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta, timezone
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Any, cast

import msgspec
from hypothesis import strategies as st

from omniq.serialization import (
    SerializationFormat,
    serializable,
)


@serializable
class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


@serializable
class Level(IntEnum):
    LOW = 1


@serializable
class Word(StrEnum):
    YES = "yes"


@serializable
class Access(IntFlag):
    READ = 1
    WRITE = 2


@serializable
@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


@serializable
@dataclass
class Line:
    ends: tuple[Point, Point]
    colour: Colour = Colour.RED
    notes: list[str] = field(default_factory=list)
    length: int = field(init=False, default=7)


@serializable
class Job(msgspec.Struct):
    name: str
    line: Line | None = None


@dataclass(frozen=True)
class Stranger:
    x: int


offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
text = st.text(st.characters(exclude_categories=["Cs"]))
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
    st.binary(max_size=20),
    st.datetimes(timezones=st.none() | st.just(UTC) | offsets),
    st.dates(),
    st.times(timezones=st.none() | st.just(UTC) | offsets),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from([*Colour, *Level, *Word, Access.READ | Access.WRITE]),
    st.builds(Point, st.integers(-9, 9), st.floats(-1, 1)),
)
hashable_too = st.recursive(
    hashable, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)
hostile_keys = st.sampled_from(
    ["$", "$type", "$tuple", "$map", "$datetime", "$bytes", "$a:b", "$UUID", "$$", "$set"]
)
keys = text | hostile_keys
values = st.recursive(
    hashable,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(hashable_too, max_size=3),
        st.frozensets(hashable_too, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(hostile_keys, inner, min_size=1, max_size=1),
        st.dictionaries(hashable_too, inner, max_size=3),
        st.builds(Job, text, st.none()),
    ),
    max_leaves=12,
)
formats: list[SerializationFormat] = ["json", "msgpack", "pickle"]


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down (True is not 1, (1,) is not [1])."""
    if type(one) is not type(other) or one != other:
        return False
    match one:
        case dict():
            return all(map(same, cast("dict[Any, Any]", one).items(), other.items()))
        case list() | tuple():
            return all(map(same, cast("Sequence[Any]", one), other))
        case set() | frozenset():
            return kinds_of(cast("Iterable[Any]", one)) == kinds_of(other)
        case _:
            return True


def kinds_of(items: Iterable[Any]) -> list[str]:
    return sorted(type(item).__name__ for item in items)
