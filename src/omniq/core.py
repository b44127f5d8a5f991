"""`OmniQ`: the application: its task functions, and everything done with tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from omniq.app.hooking import Hooking
from omniq.app.operations import Operations
from omniq.app.options import Duration, TaskOptions, TaskTemplate
from omniq.app.schedules import (
    DeclaredOptions,
    DeclaredSchedules,
    ScheduleOptions,
    Timing,
    schedule_of,
    split_options,
)
from omniq.app.stores import EventSource, QueueSource, ResultSource, ScheduleSource, Sources
from omniq.blocking import blocking, run_blocking
from omniq.clock import check_seconds
from omniq.exceptions import ConfigError
from omniq.handle import TaskHandle
from omniq.ids import check_name, new_id
from omniq.models.backend_configs import nearest
from omniq.models.config import OmniQConfig
from omniq.models.schedule import Schedule
from omniq.models.task import RetryPolicy, Task
from omniq.registry import Registry, TaskDecorator, TaskFunction, remote_function

if TYPE_CHECKING:
    from typing import Unpack

    from omniq.backend.base import BaseBackend
    from omniq.registry import AsyncTaskFunction, SyncTaskFunction
    from omniq.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
Target = str | Callable[..., Any]
"""A task function, a plain function, or the name of one."""


class OmniQ(Hooking, Operations):
    """A task queue: declares tasks, enqueues them, looks after them.

    ``OmniQ()`` keeps all in ``./omniq.db`` unless ``OMNIQ_*`` says otherwise; `omniq.app.stores`
    has the rules. Making one opens nothing; the first use does, or `connect`, `with`, `async with`.
    Every coroutine has a blocking twin: `await cancel(id)`, `cancel_sync(id)`.

    Args:
        url: where all four components are kept; the same as `backend` given as a URL.
        backend: a `BaseBackend` (or URL) for all four.
        config: an `OmniQConfig`, a dict of the same names, or the path of a YAML or TOML file.
        tasks, results, events, schedules: a URL, backend or component for one of them.
        default_queue: the queue of tasks that name none.
        max_retries, retry, timeout: what tasks get that say nothing else.
        result_ttl: seconds a result is kept by default; None keeps it for ever.
        log_events: whether to keep the history of tasks.

    Attributes:
        task_queue, result_storage, event_storage, schedule_storage: the four components.
        registry: the task functions by name.
        default_queue, result_ttl_seconds, log_events: as given.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        backend: BaseBackend | str | None = None,
        config: OmniQConfig | Mapping[str, Any] | str | Path | None = None,
        tasks: QueueSource | None = None,
        results: ResultSource | None = None,
        events: EventSource | None = None,
        schedules: ScheduleSource | None = None,
        default_queue: str = "default",
        max_retries: int = 0,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        result_ttl: Duration | None = 86_400,
        log_events: bool = True,
    ) -> None:
        if url is not None and backend is not None:
            raise ConfigError("give either url or backend, not both")
        read = None if config is None else OmniQConfig.read(config)
        sources = Sources(backend if url is None else url, tasks, results, events, schedules, read)
        super().__init__(sources, log_events=log_events)
        self.default_queue = default_queue
        self.result_ttl_seconds = (
            None if result_ttl is None else check_seconds("result_ttl", result_ttl)
        )
        self.registry = Registry(self)
        self._declared = DeclaredSchedules()
        self._template = TaskTemplate("unnamed").with_options(
            {"queue": default_queue, "retry": retry, "timeout": timeout}
        )
        if max_retries or retry is None:
            self._template = self._template.with_options({"max_retries": max_retries})

    def __repr__(self) -> str:
        return f"<OmniQ tasks={self.task_queue!r}>"

    # Declaring

    @overload
    def task(  # type: ignore[overload-overlap]  # the first wins
        self,
        func: Callable[P, Coroutine[Any, Any, R]],
        /,
    ) -> AsyncTaskFunction[P, R]: ...  # pyright: ignore[reportOverlappingOverload] - the same
    @overload
    def task(self, func: Callable[P, R], /) -> SyncTaskFunction[P, R]: ...
    @overload
    def task(
        self, func: None = None, /, *, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> TaskDecorator: ...
    def task(
        self,
        func: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Make a task of a function (decorator; with or without options).

        Args:
            func: an `async def`, or a plain `def`, which workers run in a thread.
            name: what it is known by; by default ``module.qualname``.
            **options: see `TaskOptions`.

        Raises:
            ConfigError: it cannot be a task, or the name is taken.
            ValidationError: an option is out of its range.
        """
        template = self._template.with_options(options)

        def decorate(func: Callable[..., Any]) -> TaskFunction[..., Any]:
            if isinstance(func, TaskFunction):
                raise ConfigError(f"{func!r} is a task already; write @task below @cron and @every")
            task = self.registry.register(func, template, name=name)
            self._declared.forget(task.name)
            return task

        return decorate if func is None else decorate(func)

    def cron(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        **options: Unpack[DeclaredOptions],
    ) -> TaskDecorator:
        """Make a task of a function and run it by the clock (decorator).

        Workers of this application store the schedule when they start, see `save_schedules`. Of a
        function that is a task already, it only declares the schedule.

        Args:
            expression: five fields (``0 9 * * mon-fri``), or ``@daily`` and the like.
            timezone: IANA name of the time zone the expression is read in.
            name: as for `task`.
            **options: see `TaskOptions` and `ScheduleOptions`.

        Raises:
            ValidationError: the expression, the time zone or an option is bad, or the function
                needs arguments that `args` and `kwargs` do not give.
        """
        _refuse_bare("cron", expression, '"0 9 * * *"')
        return self._declaring(Timing(cron=expression, timezone=timezone), name, options)

    def every(
        self, interval: Duration, *, name: str | None = None, **options: Unpack[DeclaredOptions]
    ) -> TaskDecorator:
        """Make a task of a function and run it every so many seconds; otherwise as `cron`."""
        _refuse_bare("every", interval, "60")
        return self._declaring(Timing(every=interval), name, options)

    def _declaring(
        self, timing: Timing, name: str | None, options: DeclaredOptions
    ) -> TaskDecorator:
        of_task, of_schedule = split_options(options)

        def decorate(func: Callable[..., Any]) -> TaskFunction[..., Any]:
            if isinstance(func, TaskFunction):
                task = cast("TaskFunction[..., Any]", func).options(**of_task)
            else:
                task = func = self.task(name=name, **of_task)(func)
            schedule = schedule_of(task, timing, of_schedule)
            self._declared.declare(schedule, is_named="schedule_id" in of_schedule)
            return cast("TaskFunction[..., Any]", func)

        return cast("TaskDecorator", decorate)

    async def save_schedules(self) -> None:
        """Store the declared schedules; workers do so when they start.

        One stored before with the same definition stays as it is, paused or not. A changed
        definition replaces the stored one; if that is paused, it stays paused.
        """
        await self._declared.save(self.schedule_storage)

    async def schedule(
        self,
        target: Target,
        *,
        cron: str | None = None,
        timezone: str = "UTC",
        every: Duration | None = None,
        at: datetime | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Store a schedule, replacing one of the same id; return it with its next fire time.

        Its tasks get the options of `target`, see `TaskFunction.options`.

        Args:
            target: whose tasks to make.
            cron: fire times as for `cron`, read in `timezone`.
            timezone: IANA name of a time zone.
            every: or one each so many seconds;
            at: or once at this moment.
            **options: see `ScheduleOptions`; without `schedule_id`, the id is a fresh one.

        Raises:
            ValidationError: as for `cron`.
        """
        timing = Timing(cron=cron, timezone=timezone, every=every, at=at)
        options.setdefault("schedule_id", new_id())
        schedule = schedule_of(self.task_function(target), timing, options)
        return await self.schedule_storage.save_schedule(schedule)

    # Enqueueing

    def task_function(self, target: Target) -> TaskFunction[..., Any]:
        """Return the task function of a function, or of a name.

        A name that is not registered here is taken to be known to the workers; its arguments are
        not checked.
        """
        if isinstance(target, TaskFunction):
            return cast("TaskFunction[..., Any]", target)
        if not isinstance(target, str):
            return self.registry.of_function(target, self._template)
        return self.registry.get(target) or remote_function(self, target, self._template)

    @overload
    async def enqueue(
        self, target: TaskFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...
    @overload
    async def enqueue(self, target: Target, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...
    async def enqueue(self, target: Target, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Store a task that calls `target` with these arguments; return its handle.

        The same as ``target.enqueue(…)``, for a function or name that need not be registered here.
        For options: ``app.task_function(target).options(…).enqueue(…)``.

        Raises:
            ValidationError: the function does not take these arguments, or they cannot be stored.
        """
        return await self.task_function(target).enqueue(*args, **kwargs)

    @overload
    def enqueue_sync(
        self, target: TaskFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...
    @overload
    def enqueue_sync(self, target: Target, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...
    def enqueue_sync(self, target: Target, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Block until `await enqueue(…)` is done and return its result."""
        call = partial(self.task_function(target).enqueue, *args, **kwargs)
        return run_blocking(call, "OmniQ.enqueue")

    async def enqueue_task(self, task: Task, *, connection: object = None) -> TaskHandle[Any]:
        """Store a task made by hand; return the handle of the one that now stands for it.

        Args:
            task: whose function may be known to the workers only.
            connection: in whose transaction it is stored, see `CallOptions`.

        Raises:
            ValidationError: a field is bad; nothing is stored.
            TaskExistsError: the id is taken.
            NotFoundError: a task in `depends_on` does not exist.
        """
        if connection is not None:
            return (await self.enqueue_tasks([task], connection=connection))[0]
        return TaskHandle(self, await self.enqueuing.store(task, is_fresh=False))

    async def enqueue_tasks(
        self, tasks: Iterable[Task], *, connection: object = None
    ) -> list[TaskHandle[Any]]:
        """Store tasks made by hand in one batch; return a handle for each, in order.

        Raises as `enqueue_task`; a bad field is found before anything is stored.
        """
        if connection is not None:
            ids = await self.enqueuing.store_within(connection, list(tasks))
        else:
            ids = await self.enqueuing.store_many(list(tasks))
        return [TaskHandle(self, task_id) for task_id in ids]

    def enqueue_task_sync(self, task: Task, *, connection: object = None) -> TaskHandle[Any]:
        """Block until `await enqueue_task(…)` is done and return its result."""
        if connection is None:
            return run_blocking(partial(self.enqueue_task, task), "OmniQ.enqueue_task")
        return self.enqueue_tasks_sync([task], connection=connection)[0]

    def enqueue_tasks_sync(
        self, tasks: Iterable[Task], *, connection: object = None
    ) -> list[TaskHandle[Any]]:
        """Block until `await enqueue_tasks(…)` is done and return its result."""
        if connection is None:
            return run_blocking(partial(self.enqueue_tasks, tasks), "OmniQ.enqueue_tasks")
        ids = self.enqueuing.store_within_sync(connection, list(tasks))
        return [TaskHandle(self, task_id) for task_id in ids]

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """Return a handle of a task enqueued at any time, anywhere; nothing is looked up yet."""
        return TaskHandle(self, check_name("task_id", task_id))

    async def get_result(self, task_id: str, timeout: float | None = 0.0) -> Any:
        """Return what a task returned, by default without waiting; see `TaskHandle.result`."""
        return await self.handle(task_id).result(timeout)

    # Running

    def worker(self, **options: Any) -> Worker:
        """Return a worker for this application; `options` are those of `omniq.worker.Worker`.

        Raises:
            TypeError: there is no option of that name.
        """
        from omniq.worker import Worker

        known = [name for name in signature(Worker).parameters if name != "app"]
        for name in options:
            if name not in known:
                raise TypeError(f"there is no option {name!r} of a worker; {nearest(name, known)}")
        return Worker(self, **options)

    async def _open(self) -> None:
        self.registry.register_types()
        await super()._open()

    save_schedules_sync = blocking(save_schedules)
    get_result_sync = blocking(get_result)
    schedule_sync = blocking(schedule)


def _refuse_bare(decorator: str, given: object, example: str) -> None:
    """Refuse a decorator without its argument: the function stands in its place."""
    if callable(given):
        raise ConfigError(f"@{decorator} needs its argument: @{decorator}({example})")
