"""What the signature of a task function tells: which calls fit, which classes travel."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from types import SimpleNamespace
from typing import Any, cast, get_args, get_type_hints

from omniq.exceptions import ValidationError
from omniq.serialization import is_serializable_class, serializable

logger = logging.getLogger(__name__)

_MOST_SHAPES = 256


class CallCheck:
    """Refuses arguments a function would refuse, before anything is stored.

    Whether a call fits depends only on its shape: how many arguments it has by position, and which
    by name. So `inspect` is asked once a shape.
    """

    def __init__(self, task_name: str, func: Callable[..., object]) -> None:
        self._task_name = task_name
        self._signature = _signature(func)
        self._fitting: set[tuple[int, tuple[str, ...]]] = set()

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check one call.

        Raises:
            ValidationError: an argument is missing, unknown or one too many.
        """
        shape = (len(args), tuple(kwargs))
        if shape in self._fitting or self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ValidationError(
                "arguments", f"{self._task_name}{self._signature}: {error}"
            ) from None
        if len(self._fitting) < _MOST_SHAPES:
            self._fitting.add(shape)


def _signature(func: Callable[..., object]) -> inspect.Signature | None:
    """Return the signature, or None for a function in C that does not tell."""
    try:
        return inspect.signature(func)
    except ValueError:
        return None


def register_annotated(func: Callable[..., object]) -> bool:
    """Make the classes in a function's annotations storable (`serializable`).

    Dataclasses, msgspec Structs and Enums are found however deep: in ``list[Point] | None`` as in
    the fields of other such classes.

    Returns:
        Whether all annotations could be resolved; those that could not (a class defined further
        down, or imported for type checkers only) are worth another try later.

    Raises:
        ConfigError: another class of the same name is registered.
    """
    return _register_all(_hints(func), set())


def _register_all(hints: Iterable[object], seen: set[object]) -> bool:
    complete = True
    for hint in hints:
        if hint is _UNRESOLVED:
            complete = False
            continue
        for cls in _classes_in(hint):
            if cls in seen or not is_serializable_class(cls):
                continue
            seen.add(cls)
            serializable(cls)
            complete = _register_all(_field_hints(cls), seen) and complete
    return complete


def _classes_in(hint: object) -> Iterator[type]:
    """Yield the classes an annotation mentions; an Enum member in a Literal mentions its class."""
    if isinstance(hint, Enum):
        yield type(hint)
    elif isinstance(hint, type):
        yield hint
    inner = getattr(hint, "__value__", None) or getattr(hint, "__supertype__", None)
    parts = [*get_args(hint), *(() if inner is None or isinstance(hint, Enum) else (inner,))]
    for part in parts:
        members = cast("list[object]", part) if isinstance(part, list) else [part]
        for member in members:
            yield from _classes_in(member)


def _field_hints(cls: type) -> list[object]:
    """Return the annotations of what is stored of a class: the fields of a dataclass or Struct."""
    return [] if issubclass(cls, Enum) else _hints(cls)


_UNRESOLVED = object()


def _hints(annotated: Any) -> list[object]:
    try:
        return list(get_type_hints(annotated, include_extras=True).values())
    except Exception as error:  # noqa: BLE001 - annotations are any code, evaluated late
        logger.debug("annotations of %s: %s", annotated, error)
    return [_hint(annotated, name, value) for name, value in _annotations(annotated).items()]


def _hint(annotated: Any, name: str, value: object) -> object:
    """Return one annotation evaluated by itself, or `_UNRESOLVED`."""
    module = inspect.getmodule(annotated)
    scope = getattr(annotated, "__globals__", None) or vars(module or SimpleNamespace())
    alone = SimpleNamespace(__annotations__={name: value})
    try:
        return get_type_hints(alone, scope, _closure(annotated), include_extras=True)[name]
    except Exception as error:  # noqa: BLE001 - see `_hints`
        logger.debug("annotation %r of %s is ignored: %s", name, annotated, error)
        return _UNRESOLVED


def _closure(annotated: Any) -> dict[str, Any]:
    """Return the variables of enclosing functions that a nested function uses."""
    if not inspect.isfunction(annotated):
        return {}
    return dict(inspect.getclosurevars(annotated).nonlocals)


def _annotations(annotated: Any) -> dict[str, object]:
    try:
        return inspect.get_annotations(annotated)
    except NameError:  # Python 3.14 evaluates them all when one is asked for
        return {"": _UNRESOLVED}
