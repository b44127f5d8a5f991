"""Every method of the contract asks who serves: one that forgets would use a store that moved."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

import pytest

from omniq.moving.queue import MovingQueue
from omniq.moving.stores import MovingEvents, MovingResults, MovingSchedules
from omniq.moving.unmoved import UnmovedQueue
from omniq.storage.base import (
    BaseEventStorage,
    BaseQueue,
    BaseResultStorage,
    BaseScheduleStorage,
    Component,
    TaskStore,
)

CLASSES = (TaskStore, BaseQueue, BaseResultStorage, BaseEventStorage, BaseScheduleStorage)
HELPERS = {
    "_append_batch",
    "_change",
    "_confirm",
    "_inserted",
    "_require_parents",
    "_required",
    "_serving",
    "_turn",
}
"""What methods may call on themselves, as it goes by other methods or asks who serves itself."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(kind: type) -> Iterator[Function]:
    """The methods a class defines."""
    (parsed,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(parsed, ast.ClassDef)
    yield from (item for item in parsed.body if isinstance(item, Function))


def called_on(function: Function, *, itself: bool) -> set[str]:
    """The underscored methods a method takes from itself, or from anything else."""
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and (node.value.id == "self") is itself
    }


def methods(kind: type) -> set[str]:
    """The underscored coroutines of a class, its bases included."""
    found = inspect.getmembers(kind, inspect.iscoroutinefunction)
    return {name for name, _ in found if name.startswith("_") and not name.startswith("__")}


def primitives(kind: type) -> set[str]:
    """What the methods of a class ask of the store that serves."""
    return {name for one in functions_of(kind) for name in called_on(one, itself=False)} & methods(
        kind
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_no_method_goes_past_who_serves(kind: type) -> None:
    """A primitive is called on what `_serving` returned; defaults of primitives run on that."""
    known = methods(kind) - HELPERS
    for function in functions_of(kind):
        if function.name in known:
            continue
        direct = called_on(function, itself=True) & known
        assert not direct, (
            f"{kind.__name__}.{function.name} calls {sorted(direct)} on itself: take it from "
            "`await self._serving()`, or name it among HELPERS if it asks by itself"
        )


@pytest.mark.parametrize(
    ("pair", "kind", "left"),
    [
        (MovingQueue, TaskStore, ["_insert_logged", "_insert_within"]),
        (MovingQueue, BaseQueue, ["_finish"]),
        (UnmovedQueue, TaskStore, ["_insert_logged"]),
        (UnmovedQueue, BaseQueue, ["_finish"]),
        (MovingResults, BaseResultStorage, list[str]()),
        (MovingEvents, BaseEventStorage, list[str]()),
        (MovingSchedules, BaseScheduleStorage, list[str]()),
    ],
)
def test_a_pair_of_stores_answers_for_each_primitive(
    pair: type, kind: type, left: list[str]
) -> None:
    """But for those the base class builds of others, or refuses."""
    asked = primitives(kind) - {"_serving"}
    assert asked, "no primitive was found"
    assert sorted(asked - set(vars(pair))) == left


def test_what_stands_aside_of_this() -> None:
    """Opening, closing and the doctor look at the store itself, moved or not."""
    assert {
        name for name in vars(Component) if inspect.iscoroutinefunction(getattr(Component, name))
    } == {
        "connect",
        "disconnect",
        "close",
        "findings",
        "is_missing",
        "store_time",
        "_serving",
        "_open",
        "_close",
        "_findings",
        "_is_missing",
        "_store_time",
        "__aenter__",
        "__aexit__",
    }
