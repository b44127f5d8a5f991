"""Node types: functions, and how the loop treats them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from omniq.exceptions import ConfigError

F = TypeVar("F", bound=Callable[..., Any])
WRITER = "QueueWriter"
READER = "QueueReader"


class Kind(StrEnum):
    """How a loop treats a node."""

    PRODUCER = "producer"
    BLOCKING = "blocking"
    NON_BLOCKING = "non-blocking"
    CONDITIONAL = "conditional"
    WRITER = "writer"
    READER = "reader"

    @property
    def starts_loop(self) -> bool:
        """Whether a node of this kind is the first of a loop."""
        return self in {Kind.PRODUCER, Kind.READER}


class Pool(StrEnum):
    """Where the function of a node runs."""

    ASYNC = "async"
    THREAD = "thread"
    PROCESS = "process"


class NodeType(msgspec.Struct, frozen=True):
    """A kind of node a flow may use.

    Attributes:
        name: what nodes of a document name as their type.
        kind: how the loop treats it.
        func: the function; called with the item (not so a producer) and, by name, the config.
        pool: where it runs.
        handles: of a conditional: its exits, the one for True first.
    """

    name: str
    kind: Kind
    func: Callable[..., Any]
    pool: Pool
    handles: tuple[str, ...] = ()

    def in_pool(self, pool: str | None) -> NodeType:
        """Return the same type, run in another pool, if one is named.

        Raises:
            ConfigError: its function cannot run there.
        """
        if pool is None:
            return self
        return msgspec.structs.replace(self, pool=_pool(self.name, self.func, pool))

    def misfit(self, config: dict[str, Any]) -> str | None:
        """Return why the function cannot be called with this config, or None if it can."""
        args = () if self.kind.starts_loop else (None,)
        try:
            inspect.signature(self.func).bind(*args, **config)
        except TypeError as error:
            return str(error)
        return None


class NodeTypes:
    """The node types flows may use: those declared here, `QueueWriter` and `QueueReader`.

    The decorators leave the function as it is. An item is plain data; a function that returns None
    lets nothing on.
    """

    def __init__(self) -> None:
        self._by_name = {kind.name: kind for kind in _BUILT_IN}

    def __iter__(self) -> Iterator[NodeType]:
        return iter(self._by_name.values())

    def get(self, name: str) -> NodeType | None:
        """Return the node type of that name, or None."""
        return self._by_name.get(name)

    def producer(self, name: str, *, pool: str | None = None) -> Callable[[F], F]:
        """Declare a function that starts a loop: a generator, or one that returns an iterable."""
        return self._declaring(name, Kind.PRODUCER, pool)

    def blocking(self, name: str, *, pool: str | None = None) -> Callable[[F], F]:
        """Declare a function the loop waits for before it goes on."""
        return self._declaring(name, Kind.BLOCKING, pool)

    def non_blocking(self, name: str, *, pool: str | None = None) -> Callable[[F], F]:
        """Declare a function the loop does not wait for: its branch goes on beside the loop."""
        return self._declaring(name, Kind.NON_BLOCKING, pool)

    def conditional(
        self, name: str, *, handles: Sequence[str] = ("true", "false"), pool: str | None = None
    ) -> Callable[[F], F]:
        """Declare a function that chooses by which exit its item leaves.

        It returns one of `handles`; of two, True is the first and False the second. Edges name
        their exit as ``sourceHandle``.
        """
        if len(set(handles)) < 2 or len(set(handles)) != len(handles):
            raise ConfigError(f"node type {name}: needs two handles or more, all different")
        return self._declaring(name, Kind.CONDITIONAL, pool, tuple(handles))

    def _declaring(
        self, name: str, kind: Kind, pool: str | None, handles: tuple[str, ...] = ()
    ) -> Callable[[F], F]:
        def declare(func: F) -> F:
            if name in self._by_name:
                raise ConfigError(f"node type {name}: the name is taken")
            chosen = _pool(name, func, pool)
            self._by_name[name] = NodeType(name, kind, func, chosen, handles)
            return func

        return declare


def is_async(func: Callable[..., Any]) -> bool:
    """Return whether the function is a coroutine function or an asynchronous generator."""
    return inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func)


def _pool(name: str, func: Callable[..., Any], pool: str | None) -> Pool:
    """Return where the function runs: by default `async def` in the loop, all else in a thread.

    Raises:
        ConfigError: it cannot run there.
    """
    default = Pool.ASYNC if is_async(func) else Pool.THREAD
    try:
        chosen = default if pool is None else Pool(pool)
    except ValueError:
        raise ConfigError(
            f"node type {name}: {pool!r} is no pool; there are {', '.join(Pool)}"
        ) from None
    if chosen is not Pool.ASYNC and is_async(func):
        raise ConfigError(f"node type {name}: an async function runs in the async pool only")
    if chosen is Pool.PROCESS:
        _check_importable(name, func)
    return chosen


def _check_importable(name: str, func: Callable[..., Any]) -> None:
    """Refuse what another process could not import, or could not send back."""
    if inspect.isgeneratorfunction(func):
        raise ConfigError(f"node type {name}: a generator cannot run in a process; return a list")
    if "<" in getattr(func, "__qualname__", "<"):
        raise ConfigError(
            f"node type {name}: a process imports its function by name; define it in a module"
        )


def _write(item: Any, *, queue_name: str | None = None) -> Any:
    """Pass the item on; the pushing is the runner's."""
    del queue_name
    return item


def _read(*, queue_name: str | None = None) -> list[Any]:
    """Read nothing: the popping is the runner's."""
    del queue_name
    return []


_BUILT_IN = (
    NodeType(WRITER, Kind.WRITER, _write, Pool.ASYNC),
    NodeType(READER, Kind.READER, _read, Pool.ASYNC),
)
