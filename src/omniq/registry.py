"""Task functions and their names.

A worker runs what is registered, and functions of modules its operator allowed; a name found in
stored data leads to nothing else.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from omniq.app.options import CallOptions, TaskTemplate
from omniq.app.signature import CallCheck, register_annotated
from omniq.blocking import run_blocking
from omniq.exceptions import ConfigError, UnknownTaskError, ValidationError
from omniq.handle import TaskHandle
from omniq.ids import check_func, stable_name
from omniq.models.task import Task

if TYPE_CHECKING:
    from typing import Unpack

    from omniq.core import OmniQ

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="TaskFunction[..., Any]")
Arguments = tuple[Any, ...] | dict[str, Any]
"""Of one call: a tuple of positional arguments, or a dict of named ones."""

logger = logging.getLogger(__name__)


class TaskFunction(Generic[P, R]):
    """A function that can be enqueued; called, it runs here and now.

    Attributes:
        name: what it is known by in stored tasks.
        func: the decorated function.
        is_async: whether it is a coroutine function.
        template: its options.
    """

    def __init__(
        self, app: OmniQ, func: Callable[..., Any], *, name: str, template: TaskTemplate
    ) -> None:
        functools.update_wrapper(self, func)
        self.name = name
        self.func = func
        self.is_async = _is_async(func)
        self.template = template
        self._app = app
        self._check = CallCheck(name, func)
        self._types_known = register_annotated(func)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R | Coroutine[Any, Any, R]:
        """Run the function here, past the queue; of an `async def`, return the coroutine."""
        return cast("R", self.func(*args, **kwargs))

    def options(self, **options: Unpack[CallOptions]) -> Self:
        """Return a copy whose tasks are made with these options; see `CallOptions`.

        Raises:
            ValidationError: an option is out of its range, or two contradict each other.
        """
        after = copy(self)
        after.template = self.template.with_options(options)
        return after

    def make_task(self, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Return the task that `enqueue` would store for this call, and store nothing.

        Raises:
            ValidationError: the function does not take these arguments.
        """
        return self._make(args, kwargs)

    async def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Store a task that runs this call; return its handle.

        With a `unique_key` that a live task of the queue holds, the handle is that task's.

        Raises:
            ValidationError: the function does not take these arguments, or they cannot be stored.
            TaskExistsError: the `task_id` asked for is taken.
            NotFoundError: a task in `depends_on` does not exist.
            CapabilityError: there is a `connection`, and the tasks' store has no transactions.
        """
        task = self._make(args, kwargs)
        if self.template.connection is not None:
            return (await self._store_within([task]))[0]
        task_id = await self._app.enqueuing.store(task, is_fresh=self.template.is_fresh)
        return TaskHandle(self._app, task_id, is_new=True)

    async def enqueue_many(self, calls: Iterable[Arguments]) -> list[TaskHandle[R]]:
        """Store a task for each call; return their handles, in order.

        Args:
            calls: for each, a tuple of its positional arguments or a dict of its named ones.

        Raises:
            ValidationError: a call does not fit, or its arguments cannot be stored; nothing is
                stored. The place of a call that does not fit is told.
        """
        tasks = self._make_many(calls)
        if self.template.connection is not None:
            return await self._store_within(tasks)
        ids = await self._app.enqueuing.store_many(tasks)
        return [TaskHandle(self._app, task_id) for task_id in ids]

    def enqueue_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Block until `await enqueue(…)` is done and return its result."""
        if self.template.connection is not None:
            return self._store_within_sync([self._make(args, kwargs)])[0]
        call = functools.partial(self.enqueue, *args, **kwargs)
        return run_blocking(call, f"{self.name}.enqueue")

    def enqueue_many_sync(self, calls: Iterable[Arguments]) -> list[TaskHandle[R]]:
        """Block until `await enqueue_many(…)` is done and return its result."""
        if self.template.connection is not None:
            return self._store_within_sync(self._make_many(calls))
        call = functools.partial(self.enqueue_many, calls)
        return run_blocking(call, f"{self.name}.enqueue_many")

    def register_types(self) -> None:
        """Try again to make the classes in the annotations storable, where not all were found."""
        if not self._types_known:
            self._types_known = register_annotated(self.func)

    async def _store_within(self, tasks: list[Task]) -> list[TaskHandle[R]]:
        ids = await self._app.enqueuing.store_within(self.template.connection, tasks)
        return [TaskHandle(self._app, task_id) for task_id in ids]

    def _store_within_sync(self, tasks: list[Task]) -> list[TaskHandle[R]]:
        ids = self._app.enqueuing.store_within_sync(self.template.connection, tasks)
        return [TaskHandle(self._app, task_id) for task_id in ids]

    def _make(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        self._check(args, kwargs)
        if not self._types_known:
            self.register_types()
        return self.template.make(args, kwargs)

    def _make_many(self, calls: Iterable[Arguments]) -> list[Task]:
        tasks: list[Task] = []
        for place, call in enumerate(calls):
            args, kwargs = _split(call, place)
            try:
                tasks.append(self._make(args, kwargs))
            except ValidationError as error:
                raise ValidationError(f"call {place}: {error.field}", error.problem) from None
        if len(tasks) > 1 and not self.template.is_fresh:
            raise ValidationError("task_id", f"one id cannot name {len(tasks)} tasks")
        return tasks


class SyncTaskFunction(TaskFunction[P, R]):
    """A task that is a plain function."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, past the queue."""
        return cast("R", self.func(*args, **kwargs))


class AsyncTaskFunction(TaskFunction[P, R]):
    """A task that is a coroutine function; `R` is what its coroutine returns."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the coroutine, to be awaited here, past the queue."""
        return cast("Coroutine[Any, Any, R]", self.func(*args, **kwargs))


class TaskDecorator(Protocol):
    """Makes a task of a function; of what is a task already, only what it adds."""

    @overload
    def __call__(self, func: F, /) -> F: ...  # type: ignore[overload-overlap]  # the first wins
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first wins
        self,
        func: Callable[P, Coroutine[Any, Any, R]],
        /,
    ) -> AsyncTaskFunction[P, R]: ...  # pyright: ignore[reportOverlappingOverload] - the same
    @overload
    def __call__(self, func: Callable[P, R], /) -> SyncTaskFunction[P, R]: ...
    def __call__(self, func: Callable[..., Any], /) -> TaskFunction[..., Any]:
        """Return the task function."""
        ...


class Registry:
    """The task functions of an application, by name.

    Attributes:
        finds_more: whether names may also lead to tasks that were not registered before.
    """

    finds_more = False

    def __init__(self, app: OmniQ) -> None:
        self._app = app
        self._by_name: dict[str, TaskFunction[..., Any]] = {}
        self._by_func: dict[Callable[..., Any], TaskFunction[..., Any]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[TaskFunction[..., Any]]:
        return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> TaskFunction[..., Any] | None:
        """Return the task registered by this name, or None."""
        return self._by_name.get(name)

    def names(self) -> list[str]:
        """Return the names of all tasks, sorted."""
        return sorted(self._by_name)

    def register(
        self, func: Callable[..., Any], template: TaskTemplate, *, name: str | None = None
    ) -> TaskFunction[..., Any]:
        """Make a task of a function, known by `name` or by ``module.qualname``.

        A definition that is run again (a module reloaded, a cell run twice) replaces the first.

        Raises:
            ConfigError: it cannot be a task, or its name is taken by another function.
        """
        task = self._made(func, template, name)
        known = self._by_name.get(task.name)
        if known is not None and not is_redefined(known.func, func):
            raise ConfigError(
                f"the task name {task.name!r} is taken by {known.func!r}; give this one `name=`"
            )
        self._by_name[task.name] = self._by_func[func] = task
        return task

    def of_function(
        self, func: Callable[..., Any], template: TaskTemplate
    ) -> TaskFunction[..., Any]:
        """Return the task made of a function; one that was not registered can be enqueued too.

        Raises:
            ConfigError: it was not, and it is nowhere a worker could find it by its name.
        """
        known = self._by_func.get(func)
        if known is None:
            if "<" in getattr(func, "__qualname__", ""):
                raise ConfigError(
                    f"{func!r} is no task, and no worker finds a function made inside another by "
                    "its name; make a task of it with @task"
                )
            known = self._by_func[func] = self._made(func, template, None)
        return known

    def resolve(self, name: str, allowed_modules: Iterable[str] = ()) -> TaskFunction[..., Any]:
        """Return the task of this name, or the function of an allowed module it spells out.

        Args:
            name: a registered name, or ``pkg.mod.func`` or ``pkg.mod:func``.
            allowed_modules: modules (with all below them) whose own public functions may run
                without being registered. They are imported on demand.

        Raises:
            UnknownTaskError: there is no such task; the message names the nearest ones.
        """
        known = self._by_name.get(name)
        if known is not None:
            return known
        func = _allowed_function(name, tuple(allowed_modules))
        if func is None:
            raise UnknownTaskError(self._unknown(name))
        if isinstance(func, TaskFunction):
            return cast("TaskFunction[..., Any]", func)
        try:
            return self.of_function(func, TaskTemplate(name))
        except ConfigError as error:
            raise UnknownTaskError(f"no task {name!r}: {error}") from error

    def register_types(self) -> None:
        """Make the classes in all annotations storable, those too that were defined later."""
        for task in self:
            task.register_types()

    def _made(
        self, func: Callable[..., Any], template: TaskTemplate, name: str | None
    ) -> TaskFunction[..., Any]:
        wanted = check_func("name", name or _default_name(func))
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise ConfigError(f"{func!r} is a generator function; return a list instead")
        kind = AsyncTaskFunction if _is_async(func) else SyncTaskFunction
        make = cast("type[TaskFunction[..., Any]]", kind)
        return make(self._app, func, name=wanted, template=template.named(wanted))

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._by_name, n=3)
        if not close:
            lasts = {known.rpartition(".")[2]: known for known in self._by_name}
            wanted = name.rpartition(".")[2]
            close = [lasts[last] for last in difflib.get_close_matches(wanted, lasts, n=3)]
        if close:
            return f"no task {name!r} is registered; the nearest are {', '.join(close)}"
        return (
            f"no task {name!r} is registered; import the module that defines it, "
            "or allow that module in the worker"
        )


def remote_function(app: OmniQ, name: str, template: TaskTemplate) -> TaskFunction[..., Any]:
    """Return a task known by name only, whose function lives in another program."""

    def absent(*_args: Any, **_kwargs: Any) -> Any:
        raise UnknownTaskError(f"task {name!r} is not defined in this program")

    check_func("name", name)
    return SyncTaskFunction(app, absent, name=name, template=template.named(name))


def _is_async(func: Callable[..., Any]) -> bool:
    if isinstance(func, functools.partial):
        return _is_async(func.func)
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - the method of a callable object
    )


def _default_name(func: Callable[..., Any]) -> str:
    if not callable(func):
        raise ConfigError(f"{func!r} is no function")
    if not hasattr(func, "__qualname__"):
        raise ConfigError(f"{func!r} has no name of its own; give it `name=`")
    return stable_name(func)


def is_redefined(known: Callable[..., Any], func: Callable[..., Any]) -> bool:
    """Whether it is the same definition, run again: a module reloaded, a cell run twice."""
    return known is func or (
        getattr(known, "__module__", None) == getattr(func, "__module__", "")
        and getattr(known, "__qualname__", None) == getattr(func, "__qualname__", "")
    )


def _allowed_function(name: str, allowed: tuple[str, ...]) -> Callable[..., Any] | None:
    """Return the function `name` spells out, if it is a public one defined in an allowed module."""
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if not any(_allows(pattern, module_name) for pattern in allowed):
        return None
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs any code
        reason = f"no task {name!r}: importing {module_name} failed: {error}"
        raise UnknownTaskError(reason) from error
    func = getattr(module, attribute, None)
    if isinstance(func, TaskFunction):
        return cast("TaskFunction[..., Any]", func)
    is_own = inspect.isfunction(func) and func.__module__ == module_name
    return func if is_own and not attribute.startswith("_") else None


def _allows(allowed: str, module_name: str) -> bool:
    return module_name == allowed or module_name.startswith(f"{allowed}.")


def _split(call: object, place: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments of one call of `enqueue_many`."""
    if isinstance(call, tuple):
        return call, {}  # pyright: ignore[reportUnknownVariableType] - arguments are anything
    if isinstance(call, dict):
        return (), dict(cast("dict[str, Any]", call))
    raise ValidationError(
        f"call {place}",
        f"expected a tuple of arguments or a dict of named ones, got {type(call).__name__}; "
        "a single argument x is written (x,)",
    )
