"""Records as bytes: whole in each format, damaged ones refused, pickle only where chosen."""

import pickle
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq.exceptions import ConfigError, PayloadTooLargeError, SerializationError
from omniq.models import Task, TaskResult
from omniq.plain import MAX_DEPTH
from omniq.serialization import (
    RecordCodec,
    SerializationFormat,
    to_plain,
)
from tests.unit.stored_values import Stranger, formats, keys, same, values


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


def test_the_deepest_value_allowed_comes_back() -> None:
    """The limit is not tighter when reading."""
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    codec = RecordCodec(TaskResult, ("result",))

    assert codec.decode(codec.encode(TaskResult(task_id="t", result=deep))).result == deep
    with pytest.raises(SerializationError, match="nested deeper"):
        to_plain([deep])


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
