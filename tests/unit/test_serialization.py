"""Values: what goes in comes out, as the very same types, or is refused."""

import math
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given

from omniq import serialization
from omniq.exceptions import ConfigError, SerializationError
from omniq.plain import MAX_DEPTH, MAX_ITEMS
from omniq.serialization import (
    UnknownValue,
    from_plain,
    has_unknown,
    is_serializable_class,
    serializable,
    to_plain,
)
from tests.naming import stable_id
from tests.unit.stored_values import (
    Colour,
    Job,
    Line,
    Point,
    Stranger,
    same,
    values,
)


@given(values)
@example({"$tuple": [1, 2]})
@example({"$map": [[1, 2]]})
@example({"$datetime": "2025-01-01"})
@example({"$": None})
@example({1: "a", "1": "b", None: "c", (1, 2): "d"})
@example([{"$type": {"$type": {"$tuple": ({"$set": []},)}}}])
@example([-0.0, 2**63 - 1, -(2**63), True, 1, "\x00"])
def test_values_come_back_as_the_very_same_types(value: Any) -> None:
    """No tag a user can write is taken for one of ours."""
    plain = to_plain(value)

    assert same(from_plain(plain), value)
    assert same(from_plain(msgspec.json.decode(msgspec.json.encode(plain))), value)
    assert same(from_plain(msgspec.msgpack.decode(msgspec.msgpack.encode(plain))), value)


class Promised:
    """As a coroutine somebody forgot to await."""

    def __await__(self) -> Generator[None]:
        yield


class SubclassOfStr(str):
    """Would come back as a plain str."""


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (math.nan, "nan is not stored"),
        (math.inf, "inf is not stored"),
        (2**63, "over 64 bits"),
        (-(2**63) - 1, "over 64 bits"),
        (object(), "values of builtins.object are not stored"),
        (Stranger(1), "register the class with omniq.serializable"),
        (PurePath("x"), "are not stored; pass plain data, or a dataclass$"),
        (Promised(), "are not stored; was it to be awaited"),
        (SubclassOfStr("x"), "are not stored"),
        (print, "are not stored"),
        (1j, "are not stored"),
        (bytearray(b"x"), "are not stored"),
    ],
    ids=stable_id,
)
def test_what_would_not_come_back_is_refused_and_found(value: Any, problem: str) -> None:
    """The error leads to the place inside the arguments."""
    with pytest.raises(SerializationError, match=problem) as caught:
        to_plain({"a": [0, {"b": value}]}, "kwargs")

    assert caught.value.field == "kwargs.a[1].b"


def test_recursion_ends_in_an_error() -> None:
    """A list that holds itself."""
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(SerializationError, match=f"deeper than {MAX_DEPTH} levels"):
        to_plain(endless)


@pytest.mark.parametrize("kind", [list, set, tuple, dict.fromkeys], ids=stable_id)
def test_huge_collections_are_refused(kind: Any) -> None:
    """Data belongs elsewhere; a task carries a reference."""
    with pytest.raises(SerializationError, match=r"over 100,000 items"):
        to_plain(kind(range(MAX_ITEMS + 1)))


@pytest.mark.parametrize(
    "data",
    [
        {"$nobody:Knows": {"x": 1}},
        {"$os:system": "true"},
        {"$datetime": "garbage"},
        {"$bytes": 5},
        {"$timedelta": [1, 2, 3, 4, 5, 6, 7, 8]},
        {"$map": [[1]]},
        {"$set": [[1]]},
        {"$Decimal": "x"},
        {f"${Point.__module__}:Point": {"z": 1}},
        {f"${Point.__module__}:Point": 5},
        {f"${Point.__module__}:Colour": "blue"},
    ],
    ids=stable_id,
)
def test_what_cannot_be_rebuilt_is_kept_as_it_is(data: dict[str, Any]) -> None:
    """Nothing is imported by name; a changed class stops one value, not a queue."""
    ((tag, inner),) = data.items()

    value = from_plain(data)

    assert value == UnknownValue(tag[1:], inner)
    assert to_plain(value) == data
    assert has_unknown([{"a": (value,)}]) is value


@pytest.mark.parametrize("hidden", ["field", "key", "struct"])
def test_unknown_values_are_found_wherever_they_hide(hidden: str) -> None:
    """The worker parks such a task instead of running it with half its arguments."""
    unknown = from_plain({"$nobody:Knows": 1})
    places: dict[str, Any] = {
        "field": Line(ends=(unknown, Point(1))),
        "key": {unknown: 1},
        "struct": Job("a", unknown),
    }

    assert has_unknown((places[hidden],)) is unknown


def test_known_values_are_not_unknown() -> None:
    """Also in a process that has met an unknown one."""
    from_plain({"$nobody:Knows": 1})

    assert has_unknown([Line((Point(1), Point(2))), {Colour.RED: {1}}, 1, None]) is None


def test_fields_that_are_not_given_to_the_constructor_are_left_to_it() -> None:
    """`field(init=False)` is the class's own business."""
    line = Line((Point(1), Point(2)), Colour.PAIR, ["a"])
    line.length = 9

    back = from_plain(to_plain(line))

    assert (back.ends, back.colour, back.notes, back.length) == (line.ends, Colour.PAIR, ["a"], 7)


@pytest.mark.parametrize("cls", [int, str, Exception, dict, object], ids=stable_id)
def test_only_data_classes_can_be_registered(cls: type) -> None:
    """The set of types stays closed."""
    assert not is_serializable_class(cls)
    with pytest.raises(ConfigError, match="no dataclass, msgspec Struct or Enum"):
        serializable(cls)


def test_registering_again_changes_nothing_and_another_of_that_name_is_refused() -> None:
    """Two modules cannot speak of different things by one name."""
    assert serializable(Point) is Point

    other = dataclass(
        type("Point", (), {"__module__": Point.__module__, "__annotations__": {"a": int}})
    )
    other.__qualname__ = "Point"
    with pytest.raises(ConfigError, match="another class is registered as"):
        serializable(other)


def test_nothing_is_searched_before_an_unknown_value_was_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The usual case costs nothing."""
    monkeypatch.setattr(serialization, "_met_unknown", set[str]())

    assert has_unknown([UnknownValue("a", 1)]) is None


def test_moments_of_all_kinds_keep_their_offsets() -> None:
    """An aware time stays aware, a naive one naive."""
    values = [
        datetime(2025, 3, 1, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(1, 1, 1),  # noqa: DTZ001 - naive on purpose
        date(9999, 12, 31),
        time(23, 59, 59, 999_999, tzinfo=UTC),
        timedelta.min,
        timedelta.max,
        UUID(int=0),
        Decimal("1E+400"),
        Decimal("-0.00"),
    ]

    back = from_plain(to_plain(values))

    assert back == values
    zones = [getattr(item, "tzinfo", None) for item in back[:4]]
    assert zones == [timezone(timedelta(hours=5, minutes=30)), None, None, UTC]


@pytest.mark.parametrize("kind", [datetime(2025, 10, 26, 2, 30), time(2, 30)])  # noqa: DTZ001 - a clock on the wall
def test_the_second_of_two_equal_times_stays_the_second(kind: datetime | time) -> None:
    """The hour that comes twice when summer ends: which of them, only `fold` says."""
    for fold in (0, 1):
        plain = to_plain(kind.replace(fold=fold))

        assert from_plain(msgspec.json.decode(msgspec.json.encode(plain))).fold == fold
