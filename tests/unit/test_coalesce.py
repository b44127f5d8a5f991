"""Natural batching: what happens at once is done at once, and nobody suffers for another."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq.coalesce import Coalescer
from omniq.exceptions import StorageError, ValidationError
from omniq.loops import PerLoop


class Recorder:
    """Doubles numbers, remembers its batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuse: Callable[[int], Exception | None] = lambda _: None

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        await self.gate.wait()
        errors = [error for item in items if (error := self.refuse(item))]
        if errors:
            raise errors[0]
        return [2 * item for item in items]

    async def until_running(self, count: int = 1) -> None:
        """Let the loop turn until so many batches were begun."""
        while len(self.batches) < count:  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)


async def test_calls_of_one_moment_are_one_batch() -> None:
    """A gather of a thousand is one round trip, each caller getting its own answer."""
    run = Recorder()
    coalescer = Coalescer(run)

    results = await asyncio.gather(*(coalescer.submit(n) for n in range(1000)))

    assert results == [2 * n for n in range(1000)]
    assert len(run.batches) == 1


async def test_calls_made_during_a_batch_gather_into_the_next() -> None:
    """That is the group commit: no timer, yet few batches under load."""
    run = Recorder()
    run.gate.clear()
    coalescer = Coalescer(run)
    calls = [asyncio.create_task(coalescer.submit(0))]
    await run.until_running()
    calls += [asyncio.create_task(coalescer.submit(n)) for n in range(1, 10)]
    await asyncio.sleep(0)

    run.gate.set()
    await asyncio.gather(*calls)

    assert run.batches == [[0], list(range(1, 10))]


async def test_a_lone_call_is_not_held_up() -> None:
    """One after the other is one batch each: nothing waits for company."""
    run = Recorder()
    coalescer = Coalescer(run)

    assert [await coalescer.submit(n) for n in (1, 2, 3)] == [2, 4, 6]

    assert run.batches == [[1], [2], [3]]


async def in_a_lone_call(run: Recorder, coalescer: Coalescer[int, int]) -> asyncio.Task[int]:
    """Return a task in its second call, which is held up and no other task has a part in."""

    async def call_twice() -> int:
        await coalescer.submit(0)
        run.batches.clear()
        run.gate.clear()
        return await coalescer.submit(1)

    caller = asyncio.create_task(call_twice())
    while run.gate.is_set():  # noqa: ASYNC110 - one turn of the loop at a time
        await asyncio.sleep(0)
    await run.until_running()
    return caller


async def test_the_next_call_of_a_lone_task_runs_in_it() -> None:
    """No task, no future and no turn of the loop stand between it and the store."""
    coalescer = Coalescer(Recorder())
    await coalescer.submit(0)

    call = coalescer.submit(1)
    with pytest.raises(StopIteration) as ended:
        call.send(None)

    assert ended.value.value == 2


async def test_calls_of_one_moment_are_one_batch_after_lone_calls_too() -> None:
    """Another task is a sign that more may come."""
    run = Recorder()
    coalescer = Coalescer(run)
    for n in range(3):
        await coalescer.submit(n)

    await asyncio.gather(*(coalescer.submit(n) for n in range(100)))

    assert [len(batch) for batch in run.batches] == [1, 1, 1, 100]


async def test_calls_made_during_a_lone_call_are_the_next_batch() -> None:
    """The lone caller holds up nobody for longer than its own call takes."""
    run = Recorder()
    coalescer = Coalescer(run)
    calls = [await in_a_lone_call(run, coalescer)]
    calls += [asyncio.create_task(coalescer.submit(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)

    run.gate.set()

    assert await asyncio.gather(*calls) == [2, 4, 6, 8]
    assert run.batches == [[1], [2, 3, 4]]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_the_end_of_a_lone_call_harms_nobody_who_waits_behind_it(how: str) -> None:
    """Whoever came meanwhile is served, however the lone call ended."""
    run = Recorder()
    run.refuse = lambda n: StorageError("away") if n == 1 and how == "failed" else None
    coalescer = Coalescer(run)
    lone = await in_a_lone_call(run, coalescer)
    others = [asyncio.create_task(coalescer.submit(n)) for n in (2, 3)]
    await asyncio.sleep(0)

    if how == "cancelled":
        lone.cancel()
        await asyncio.sleep(0)
    run.gate.set()

    with pytest.raises(asyncio.CancelledError if how == "cancelled" else StorageError):
        await lone
    async with asyncio.timeout(20):
        assert await asyncio.gather(*others) == [4, 6]
    assert run.batches == [[1], [2, 3]]


@pytest.mark.parametrize("calls_before", [0, 1, 3], ids=["first", "second", "alone for long"])
async def test_those_who_call_in_a_loop_stay_together(calls_before: int) -> None:
    """Callers that met once do not fall apart into one who goes and many who wait, for ever."""
    run = Recorder()
    coalescer = Coalescer(run)

    async def call_on(times: int) -> None:
        for n in range(times):
            if n == calls_before and times > 10:
                run.gate.clear()
            await coalescer.submit(n)

    early = asyncio.create_task(call_on(calls_before + 11))
    await run.until_running(calls_before + 1)
    others = [asyncio.create_task(call_on(10)) for _ in range(3)]
    await asyncio.sleep(0)
    run.gate.set()
    await asyncio.gather(early, *others)

    assert [len(batch) for batch in run.batches] == [1] * (calls_before + 1) + [4] * 10


async def test_a_batch_has_a_largest_size() -> None:
    """A flood does not become one enormous transaction."""
    run = Recorder()
    coalescer = Coalescer(run, max_batch=100)

    await asyncio.gather(*(coalescer.submit(n) for n in range(250)))

    assert [len(batch) for batch in run.batches] == [100, 100, 50]


async def test_a_failing_store_fails_every_call_of_the_batch() -> None:
    """And is not asked again: whether something was done is unknown."""
    run = Recorder()
    run.refuse = lambda _: StorageError("disk full")
    coalescer = Coalescer(run)

    results = await asyncio.gather(*(coalescer.submit(n) for n in range(3)), return_exceptions=True)

    assert [type(item) for item in results] == [StorageError] * 3
    assert len(run.batches) == 1


async def test_after_a_failure_the_next_call_is_served() -> None:
    """A store that comes back is used again."""
    run = Recorder()
    run.refuse = lambda _: StorageError("away")
    coalescer = Coalescer(run)
    with pytest.raises(StorageError):
        await coalescer.submit(1)

    run.refuse = lambda _: None

    assert await coalescer.submit(1) == 2


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_bad_input_fails_only_the_calls_at_fault(is_bad: list[bool]) -> None:
    """One user's NaN must not lose another's task that happened to come at the same moment."""

    async def main() -> None:
        run = Recorder()
        run.refuse = lambda n: ValidationError("args", f"bad {n}") if is_bad[n] else None
        coalescer = Coalescer(run)
        calls = (coalescer.submit(n) for n in range(len(is_bad)))
        results = await asyncio.gather(*calls, return_exceptions=True)
        for n, result in enumerate(results):
            assert str(result) == (f"args: bad {n}" if is_bad[n] else str(2 * n))

    asyncio.run(main())


async def test_one_bad_call_costs_few_more_batches() -> None:
    """The batch is halved, not taken apart."""
    run = Recorder()
    run.refuse = lambda n: ValidationError("args", "bad") if n == 77 else None
    coalescer = Coalescer(run)

    await asyncio.gather(*(coalescer.submit(n) for n in range(256)), return_exceptions=True)

    assert len(run.batches) <= 2 * 8 + 1


async def test_a_caller_that_gives_up_harms_nobody() -> None:
    """Its item may still be done; the others of the batch get their answers."""
    run = Recorder()
    run.gate.clear()
    coalescer = Coalescer(run)
    calls = [asyncio.create_task(coalescer.submit(n)) for n in range(3)]
    await run.until_running()

    calls[1].cancel()
    run.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert results[0] == 0
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[2] == 4


def test_one_coalescer_serves_several_event_loops() -> None:
    """Built at module level, used by whatever loop runs."""
    batches: list[list[int]] = []

    async def run(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    coalescer = Coalescer(run)

    assert [asyncio.run(coalescer.submit(n)) for n in (1, 2)] == [1, 2]
    assert batches == [[1], [2]]


def test_per_loop_makes_one_value_a_loop_and_can_forget_it() -> None:
    """Network clients belong to the loop that opened them."""
    made: list[object] = []
    holder = PerLoop(lambda: made.append(object()) or made[-1])

    async def twice() -> bool:
        return holder.get() is holder.get()

    async def forget() -> tuple[object, object, object]:
        return holder.get(), holder.pop(), holder.pop()

    assert asyncio.run(twice())
    value, popped, nothing = asyncio.run(forget())

    assert len(made) == 2
    assert value is popped
    assert nothing is None


def test_per_loop_needs_a_running_loop() -> None:
    """There is no sensible value outside of one."""
    with pytest.raises(RuntimeError):
        PerLoop(object).get()


async def test_what_was_begun_is_done_though_nobody_waits() -> None:
    """Two batches of two stores can be begun side by side without a task for each."""
    run = Recorder()
    coalescer = Coalescer(run)

    first, second = coalescer.begin(1), coalescer.begin(2)
    second.cancel()

    assert await first == 2
    assert run.batches == [[1, 2]]
