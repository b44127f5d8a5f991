"""Node types the tests share; importable, so that other processes find their functions."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from omniq.flow import NodeTypes

Data = dict[str, Any]
types = NodeTypes()


@types.producer("numbers")
def numbers(*, count: int, first: int = 0) -> Iterator[Data]:
    """Yield so many numbers, from a thread."""
    for n in range(first, first + count):
        yield {"n": n}


@types.producer("endless")
async def endless() -> AsyncIterator[Data]:
    """Yield numbers for ever."""
    n = 0
    while True:
        yield {"n": n}
        n += 1


@types.producer("listed", pool="process")
def listed(*, count: int) -> list[Data]:
    """Return numbers, made in another process."""
    return [{"n": n, "made_by": os.getpid()} for n in range(count)]


@types.producer("broken")
def broken() -> Iterator[Data]:
    """Yield two numbers, then raise."""
    yield {"n": 0}
    yield {"n": 1}
    raise OSError("the source is gone")


@types.blocking("double")
def double(data: Data) -> Data:
    """Return twice the number."""
    return {"n": data["n"] * 2}


@types.blocking("fail_every")
async def fail_every(data: Data, *, nth: int) -> Data:
    """Raise for each nth number."""
    if data["n"] % nth == 0:
        raise ValueError(f"{data['n']} is a multiple of {nth}")
    return data


@types.blocking("drop_odd")
async def drop_odd(data: Data) -> Data | None:
    """Let only even numbers on."""
    return data if data["n"] % 2 == 0 else None


@types.conditional("size", handles=("small", "big"))
async def size(data: Data, *, limit: int = 10) -> str | bool:
    """Choose the exit by the number; one above 1000 has none."""
    return "huge" if data["n"] > 1000 else data["n"] < limit


@types.blocking("thread_of", pool="thread")
def thread_of(data: Data) -> Data:
    """Say which thread this is."""
    return {**data, "thread": threading.current_thread().name}


@types.blocking("process_of", pool="process")
def process_of(data: Data) -> Data:
    """Say which process this is."""
    return {**data, "process": os.getpid()}


@types.blocking("stop_iteration", pool="thread")
def stop_iteration(data: Data) -> Data:
    """Raise what asyncio cannot hand over."""
    raise StopIteration(data["n"])


@types.blocking("raw")
async def raw(data: Data) -> Any:
    """Return what is not JSON."""
    return {"n": {data["n"]}}
