"""Values and records as bytes: what goes in comes out, as the very same types, or is refused."""

import math
import pickle
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omniq import serialization
from omniq.exceptions import ConfigError, PayloadTooLargeError, SerializationError
from omniq.models import Task, TaskResult
from omniq.serialization import (
    MAX_DEPTH,
    MAX_ITEMS,
    RecordCodec,
    SerializationFormat,
    UnknownValue,
    from_plain,
    has_unknown,
    is_serializable_class,
    serializable,
    to_plain,
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


@pytest.mark.parametrize("encoding", formats)
@given(
    args=st.lists(values, max_size=3).map(tuple), kwargs=st.dictionaries(keys, values, max_size=3)
)
def test_tasks_come_back_whole_in_each_format(
    encoding: SerializationFormat,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Arguments and metadata together with every other field."""
    codec = RecordCodec(Task, ("args", "kwargs", "metadata"), format=encoding)
    task = Task(func="f", args=args, kwargs=kwargs, metadata=kwargs, priority=3)

    back = codec.decode(codec.encode(task))

    assert back == task
    assert same(back.args, args)
    assert same(back.kwargs, kwargs)


@pytest.mark.parametrize("encoding", formats)
@given(value=values)
def test_results_come_back_whole_in_each_format(encoding: SerializationFormat, value: Any) -> None:
    """Also falsy ones: 0, "", (), False and None are different results."""
    codec = RecordCodec(TaskResult, ("result",), format=encoding)

    back = codec.decode(codec.encode(TaskResult(task_id="t", result=value)))

    assert same(back.result, value)


def test_encoding_leaves_the_record_alone() -> None:
    """The caller may enqueue the same task again."""
    task = Task(func="f", args=((1, 2), {3}), kwargs={"a": uuid4()})
    before = (task.args, task.kwargs)

    RecordCodec(Task, ("args", "kwargs", "metadata")).encode(task)

    assert (task.args, task.kwargs) == before


def test_each_record_tells_its_own_format() -> None:
    """A store may be switched to another format while it holds records of the first."""
    task = Task(func="f", args=(1,))
    stored = [RecordCodec(Task, ("args",), format=item).encode(task) for item in formats]

    reader = RecordCodec(Task, ("args",), format="pickle")

    assert [reader.decode(data) for data in stored] == [task, task, task]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_pickle_is_never_read_unless_chosen(encoding: SerializationFormat) -> None:
    """Reading a pickle runs whatever its writer wanted."""
    data = RecordCodec(Task, ("args",), format="pickle").encode(Task(func="f"))

    with pytest.raises(SerializationError, match="this store does not read pickle"):
        RecordCodec(Task, ("args",), format=encoding).decode(data)


def test_pickles_take_anything_that_can_be_pickled() -> None:
    """That is what people choose it for."""
    codec = RecordCodec(Task, ("args",), format="pickle")

    assert codec.decode(codec.encode(Task(func="f", args=(Stranger(1),)))).args == (Stranger(1),)
    with pytest.raises(SerializationError, match="cannot be pickled"):
        codec.encode(Task(func="f", args=(lambda: None,)))


def test_a_pickle_of_something_else_is_damaged() -> None:
    """A record is what it says, or nothing."""
    codec = RecordCodec(Task, ("args",), format="pickle")

    with pytest.raises(SerializationError, match="another kind of record"):
        codec.decode(b"P" + pickle.dumps("not a task"))


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
        (PurePath("x"), "are not stored"),
        (SubclassOfStr("x"), "are not stored"),
        (print, "are not stored"),
        (1j, "are not stored"),
        (bytearray(b"x"), "are not stored"),
    ],
    ids=repr,
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


def test_the_deepest_value_allowed_comes_back() -> None:
    """The limit is not tighter when reading."""
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    codec = RecordCodec(TaskResult, ("result",))

    assert codec.decode(codec.encode(TaskResult(task_id="t", result=deep))).result == deep
    with pytest.raises(SerializationError, match="nested deeper"):
        to_plain([deep])


@pytest.mark.parametrize("kind", [list, set, tuple, dict.fromkeys], ids=repr)
def test_huge_collections_are_refused(kind: Any) -> None:
    """Data belongs elsewhere; a task carries a reference."""
    with pytest.raises(SerializationError, match=r"over 100,000 items"):
        to_plain(kind(range(MAX_ITEMS + 1)))


@pytest.mark.parametrize("encoding", formats)
def test_a_record_over_the_limit_is_refused(encoding: SerializationFormat) -> None:
    """With the numbers, so that people see how far over."""
    codec = RecordCodec(Task, ("args",), format=encoding, limit=1000)

    with pytest.raises(
        PayloadTooLargeError, match=r"task: 1,\d\d\d bytes stored, the limit is 1,000"
    ):
        codec.encode(Task(func="f", args=("x" * 1000,)))


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}], ids=["value", "key"])
def test_text_that_is_no_unicode_is_refused(encoding: SerializationFormat, value: Any) -> None:
    """A file name of arbitrary bytes decodes to lone surrogates."""
    with pytest.raises(SerializationError):
        RecordCodec(Task, ("args",), format=encoding).encode(Task(func="f", args=(value,)))


def test_an_unknown_format_is_a_configuration_error() -> None:
    """Naming those there are."""
    with pytest.raises(ConfigError, match="'yaml' is not one of json, msgpack, pickle"):
        RecordCodec(Task, (), format="yaml")  # pyright: ignore[reportArgumentType] - user input


@pytest.mark.parametrize("encoding", formats)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"{", b"M", b"P", b"P\x80\x05", b'{"func":"f",'])
)
def test_damaged_records_raise_one_kind_of_error(
    encoding: SerializationFormat, garbage: bytes, head: bytes
) -> None:
    """A reader can set the record aside; it never crashes in another way."""
    codec = RecordCodec(Task, ("args", "kwargs", "metadata"), format=encoding)

    with suppress(SerializationError):
        codec.decode(head + garbage)


def test_nesting_beyond_all_limits_is_a_damaged_record() -> None:
    """Whoever can write to the store cannot crash its readers."""
    data = b'{"func":"f","args":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    with pytest.raises(SerializationError):
        RecordCodec(Task, ("args",)).decode(data)


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
        {f"${__name__}:Point": {"z": 1}},
        {f"${__name__}:Point": 5},
        {f"${__name__}:Colour": "blue"},
    ],
    ids=repr,
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


@pytest.mark.parametrize("cls", [int, str, Exception, dict, object], ids=repr)
def test_only_data_classes_can_be_registered(cls: type) -> None:
    """The set of types stays closed."""
    assert not is_serializable_class(cls)
    with pytest.raises(ConfigError, match="no dataclass, msgspec Struct or Enum"):
        serializable(cls)


def test_registering_again_changes_nothing_and_another_of_that_name_is_refused() -> None:
    """Two modules cannot speak of different things by one name."""
    assert serializable(Point) is Point

    other = dataclass(type("Point", (), {"__module__": __name__, "__annotations__": {"a": int}}))
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
    assert [getattr(item, "tzinfo", None) for item in back[:4]] == [
        values[0].tzinfo,  # pyright: ignore[reportAttributeAccessIssue] - a datetime
        None,
        None,
        UTC,
    ]
