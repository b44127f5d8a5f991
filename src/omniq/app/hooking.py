"""The decorators by which an application hooks into its workers and its enqueueing."""

from __future__ import annotations

from typing import TypeVar

from omniq.hooks import Addition, Around, Hooks, Lifespan, Listener

LifespanFunction = TypeVar("LifespanFunction", bound=Lifespan)
AroundFunction = TypeVar("AroundFunction", bound=Around)
ListenerFunction = TypeVar("ListenerFunction", bound=Listener)
AdditionFunction = TypeVar("AdditionFunction", bound=Addition)


class Hooking:
    """What `OmniQ` offers to hook in.

    Attributes:
        hooks: what has been declared.
    """

    hooks: Hooks

    def lifespan(self, func: LifespanFunction) -> LifespanFunction:
        """Open and close what the tasks of a worker share (decorator of an async generator).

        Each worker process enters it before its first claim and leaves it after its last task is
        settled. What it yields is `current_task().state`. If it fails, at its start or later, the
        worker stops, and its `run` raises a `LifespanError`.

        Raises:
            ConfigError: it is something else, or there is a lifespan already.
        """
        self.hooks.declare_lifespan(func)
        return func

    def around(self, func: AroundFunction) -> AroundFunction:
        """Wrap each attempt of each task (decorator of an async generator of a `TaskContext`).

        The task runs at the ``yield``, and what it raises is raised there; if that is held back,
        the task has completed with None. What is declared first is outermost. Its time counts for
        the timeout of the task, and what it raises itself ends the attempt as if the task had.

        Raises:
            ConfigError: it is something else.
        """
        self.hooks.declare_around(func)
        return func

    def on_event(self, func: ListenerFunction) -> ListenerFunction:
        """Be told of each event that a worker logs (decorator of a plain ``f(event, task)``).

        Also when ``log_events`` is off. Called in the worker's event loop after the fact was
        stored, so it must be quick; `task` is as the event leaves it. What it raises is logged. Of
        a worker that is killed, the last events may be told to nobody.

        Raises:
            ConfigError: it is something else.
        """
        self.hooks.declare_listener(func)
        return func

    def before_enqueue(self, func: AdditionFunction) -> AdditionFunction:
        """Add to the metadata of each task enqueued here (decorator of a plain ``f(task)``).

        It returns a dict to add, or None. What it raises keeps the task from being stored. Tasks
        that schedules make are made by workers, without it.

        Raises:
            ConfigError: it is something else.
        """
        self.hooks.declare_addition(func)
        return func
