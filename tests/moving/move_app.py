"""An application that moves: `move_app.py worker | producer COUNT | movers FROM TO [STEPS]`.

Its store is named by OMNIQ_URL. A mover kills itself at its step, as `kill -9` would; after the
last one another mover moves to the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from omniq import OmniQ
from omniq.app.stores import Sources, Stores
from omniq.cli.app import execute
from omniq.moving import crossing, times
from omniq.moving.parking import MOVE
from omniq.storage.base import Component

FIRE_SECONDS = 0.5
STEPS: dict[str, tuple[str, str, Callable[[Any], bool] | None]] = {
    "marked": ("source tasks", "_insert", lambda tasks: tasks[0].id == MOVE),
    "paused copied": ("target tasks", "_set_paused", None),
    "tasks parked": ("target tasks", "_insert", None),
    "stubs left": ("source tasks", "_swap", lambda changes: changes[0].before.id != MOVE),
    "tasks released": ("target tasks", "_swap", None),
    "results copied": ("target results", "_set", None),
    "events copied": ("target events", "_append", None),
    "finished copied": ("target tasks", "_insert", lambda tasks: tasks[0].is_final),
    "done": ("source tasks", "_swap", lambda changes: changes[0].before.id == MOVE),
}
"""After which write the mover dies: the component, the primitive, and what it is called with."""

q = OmniQ()


@q.task
async def note(number: int) -> int:
    return number


@q.every(FIRE_SECONDS, misfire="all")
def tick() -> None: ...


def hurry() -> None:
    """Let everybody notice within moments rather than seconds."""
    times.VALID_SECONDS, times.SETTLE_SECONDS, times.LEASE_SECONDS = 0.3, 0.8, 2.0


def die_after(step: str, source: str, target: str) -> None:
    """Make the write of this step the last thing this process does."""
    crossing.PAGE = 20  # so that enough is left for the steps that follow
    what, name, is_it = STEPS[step]
    side, kind_of = what.split()
    stores = Stores(Sources(source if side == "source" else target), {})
    component: Component = getattr(stores, kind_of)
    kind = type(component)
    write: Callable[..., Awaitable[Any]] = getattr(kind, name)

    async def last(self: object, *arguments: Any) -> Any:
        done = await write(self, *arguments)
        if arguments[0] and (is_it is None or is_it(arguments[0])):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(kind, name, last)


async def produce(count: int) -> None:
    """Enqueue, some at once, some later, some after others."""
    size = 10 if count < 1000 else 100
    async with q:
        for number in range(0, count, size):
            first = await note.enqueue(number)
            await asyncio.gather(
                note.options(depends_on=[first.id]).enqueue(number + 1),
                note.options(delay=0.5).enqueue(number + 2),
                note.options(unique_key=f"key-{number}").enqueue(number + 3),
                *(note.enqueue(number + n) for n in range(4, size)),
            )


def movers(source: str, target: str, steps: list[str]) -> int:
    """Move; before that, for each step, let a process of its own do so until it dies there."""
    for step in steps:
        child = os.fork()
        if not child:
            die_after(step, source, target)
            os._exit(execute(["move", source, target]))
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.stdout.write(f"{step}: ended with {status}\n")
            return 99
    return execute(["move", source, target, "--verify", "--json"])


def main(what: str, *arguments: str) -> int:
    hurry()
    match what:
        case "worker":
            q.worker(cleanup=False).run_sync()
        case "producer":
            asyncio.run(produce(int(arguments[0])))
        case _:
            source, target, *steps = arguments
            return movers(source, target, steps)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
