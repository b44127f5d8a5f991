"""What an application hooks in: the life of its workers, its runs, their events, its enqueueing."""

from __future__ import annotations

import inspect
import logging
from asyncio import CancelledError
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec.structs import replace

from omniq.exceptions import ConfigError, ValidationError
from omniq.models.checks import check_mapping
from omniq.models.task import copied
from omniq.registry import is_redefined

if TYPE_CHECKING:
    from omniq.models.event import TaskEvent
    from omniq.models.task import Task
    from omniq.worker.context import TaskContext

logger = logging.getLogger(__name__)

Lifespan = Callable[[], AsyncIterator[Any]]
Around = Callable[["TaskContext"], AsyncIterator[None]]
Listener = Callable[["TaskEvent", "Task"], object]
Addition = Callable[["Task"], Mapping[str, Any] | None]
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_NOT_ONCE = {
    "generator didn't yield",
    "generator didn't stop",
    "generator didn't stop after athrow()",
}
"""What contextlib says of generators."""


class Hooks:
    """The functions an application has declared, each kind called in the order declared."""

    def __init__(self) -> None:
        self._lifespan: Lifespan | None = None
        self._around: list[Around] = []
        self._listeners: list[Listener] = []
        self._additions: list[Addition] = []

    def declare_lifespan(self, func: Lifespan) -> None:
        """Take what opens and closes the resources of a worker.

        Raises:
            ConfigError: it is no asynchronous generator function, or there is one already.
        """
        _check_generator("lifespan", func)
        known = self._lifespan
        if known is not None and not is_redefined(known, func):
            raise ConfigError(f"the lifespan is {known!r} already; open and close all in one")
        self._lifespan = func

    def declare_around(self, func: Around) -> None:
        """Take what is wrapped around each run.

        Raises:
            ConfigError: it is no asynchronous generator function of one argument.
        """
        _check_generator("around", func, "task")
        _put(self._around, func)

    def declare_listener(self, func: Listener) -> None:
        """Take what is told of each event of a worker.

        Raises:
            ConfigError: it is no plain function of two arguments.
        """
        _check_plain("on_event", func, "event", "task")
        _put(self._listeners, func)

    def declare_addition(self, func: Addition) -> None:
        """Take what adds to the metadata of each task enqueued.

        Raises:
            ConfigError: it is no plain function of one argument.
        """
        _check_plain("before_enqueue", func, "task")
        _put(self._additions, func)

    def life(self) -> AbstractAsyncContextManager[Any] | None:
        """Return the resources of a worker, to be entered once; None if there are none."""
        return None if self._lifespan is None else _Once("lifespan", self._lifespan)

    @property
    def wraps(self) -> bool:
        """Whether anything is to be wrapped around runs."""
        return bool(self._around)

    async def enter(self, stack: AsyncExitStack, task: TaskContext) -> None:
        """Enter all that is wrapped around a run, the first declared outermost."""
        for func in self._around:
            await stack.enter_async_context(_Once("around", func, task))

    def tell(self, event: TaskEvent, task: Task) -> None:
        """Tell of an event; a listener that fails is logged, and harms nothing else.

        Each gets copies: what it changes in them changes neither the run nor the history.
        """
        for listener in self._listeners:
            try:
                listener(*_apart(event, task))
            except (Exception, CancelledError):  # nobody can cancel what does not await
                logger.exception("%r failed on %s of task %s", listener, event.event_type, task.id)

    def prepared(self, task: Task) -> Task:
        """Return a task to be enqueued, with what is added to its metadata.

        Raises:
            ValidationError: what is added is no mapping. Whatever else an addition raises keeps
                the task from being stored.
        """
        for addition in self._additions:
            added = addition(task)
            if added is not None:
                task = replace(task, metadata=_sum(task.metadata, added))
        return task

    def all_prepared(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return several tasks to be enqueued, see `prepared`."""
        return [self.prepared(task) for task in tasks] if self._additions else tasks


class _Once(AbstractAsyncContextManager[T]):
    """What a generator function wraps around a block. One that does not yield once is named."""

    def __init__(
        self, kind: str, func: Callable[..., AsyncIterator[T]], *arguments: object
    ) -> None:
        self._kind, self._func = kind, func
        self._inner = asynccontextmanager(cast("Callable[..., AsyncGenerator[T]]", func))(
            *arguments
        )

    async def __aenter__(self) -> T:
        try:
            return await self._inner.__aenter__()
        except RuntimeError as error:
            self._name(error)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._inner.__aexit__(kind, error, trace)
        except RuntimeError as refused:
            self._name(refused)
            raise

    def _name(self, error: RuntimeError) -> None:
        if str(error) in _NOT_ONCE:
            what = f"the @{self._kind} function {self._func!r} has to yield once"
            raise ConfigError(f"{what}: {error}") from None


def _apart(event: TaskEvent, task: Task) -> tuple[TaskEvent, Task]:
    """Return copies that share no dict of theirs with what they were made of."""
    event, task = copy(event), copied(task)
    event.details = dict(event.details)
    task.kwargs, task.metadata = dict(task.kwargs), dict(task.metadata)
    return event, task


def _sum(metadata: dict[str, Any], added: object) -> dict[str, Any]:
    if not isinstance(added, Mapping):
        raise ValidationError("metadata", f"expected a mapping to add, got {added!r:.80}")
    together = {**metadata, **cast("Mapping[str, Any]", added)}
    check_mapping("metadata", together)
    return together


def _put(known: list[F], func: F) -> None:
    """Add a function; a definition run again (a module reloaded) replaces the first."""
    for place, other in enumerate(known):
        if other is func or (is_redefined(other, func) and not _is_local(func)):
            known[place] = func
            return
    known.append(func)


def _is_local(func: Callable[..., Any]) -> bool:
    """Whether it was made by a function, which may make several of the same name."""
    return "<locals>" in getattr(func, "__qualname__", "")


def _check_generator(kind: str, func: object, *arguments: str) -> None:
    if not inspect.isasyncgenfunction(func):
        is_wrapped = inspect.isasyncgenfunction(inspect.unwrap(cast("Callable[..., Any]", func)))
        hint = "; leave out @asynccontextmanager" if is_wrapped else ""
        raise ConfigError(f"@{kind} is for an `async def` that yields once; {func!r} is none{hint}")
    _check_arguments(kind, func, arguments)


def _check_plain(kind: str, func: object, *arguments: str) -> None:
    if not callable(func) or inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
        raise ConfigError(f"@{kind} is for a plain `def`; {func!r} is none")
    _check_arguments(kind, func, arguments)


def _check_arguments(kind: str, func: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    try:
        inspect.signature(func).bind(*arguments)
    except TypeError:
        wanted = (
            f"a function of ({', '.join(arguments)})" if arguments else "a function of no arguments"
        )
        raise ConfigError(f"@{kind} is for {wanted}; {func!r} is none") from None
