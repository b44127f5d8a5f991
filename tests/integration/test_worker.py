"""What workers do with tasks, on the stores that need no server."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from omniq import (
    Cancel,
    OmniQ,
    Retry,
    RetryPolicy,
    Snooze,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskStatus,
    current_task,
)
from omniq.storage.base import Change
from omniq.storage.memory import MemoryQueue
from omniq.testing.waiting import wait_until
from omniq.worker import Worker
from tests.integration.conftest import Working, burst, events_of

NOW_AND_THEN = RetryPolicy(max_retries=3, delay_seconds=0.01, backoff="fixed")


async def test_async_and_sync_functions_run_on_one_worker(app: OmniQ) -> None:
    """Both kinds share a worker; plain functions leave the event loop's thread."""

    @app.task
    async def here(n: int) -> tuple[int, int]:
        return n, threading.get_ident()

    @app.task
    def elsewhere(n: int) -> tuple[int, int]:
        return n, threading.get_ident()

    first, second = await here.enqueue(1), await elsewhere.enqueue(2)
    await burst(app)

    assert await first.result(timeout=5) == (1, threading.get_ident())
    number, thread = await second.result(timeout=5)
    assert number == 2
    assert thread != threading.get_ident()


async def test_a_finished_task_has_its_history(app: OmniQ) -> None:
    """Each step is in the event log, in order."""

    @app.task
    async def quiet() -> None:
        return None

    handle = await quiet.enqueue()
    await burst(app)

    assert await events_of(app, handle.id) == ["ENQUEUED", "STARTED", "COMPLETED"]


class TracedQueue(MemoryQueue):
    """Keeps the order of what a worker asks."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def _claim(self, *args: Any, **kwargs: Any) -> list[Task]:
        claimed = await super()._claim(*args, **kwargs)
        self.asked.append(f"claim {len(claimed)}")
        return claimed

    async def _swap(self, changes: list[Change], now: datetime | None) -> list[bool]:
        self.asked.append("swap")
        return await super()._swap(changes, now)

    async def _wait(self, queues: list[str], timeout: float) -> None:
        self.asked.append("wait")
        await super()._wait(queues, timeout)


async def test_an_idle_worker_asks_no_more_than_it_must() -> None:
    """For a task that comes alone: a claim, its end, and only then whether there is another."""
    queue = TracedQueue()
    app = OmniQ("memory://", tasks=queue)

    @app.task
    async def quiet() -> None:
        return None

    async with app:
        worker = Worker(app, schedules=False, cleanup=False)
        work = asyncio.create_task(worker.run())
        await wait_until(lambda: "wait" in queue.asked, description="the worker to wait")
        await (await quiet.enqueue()).result(timeout=5)
        await wait_until(lambda: len(queue.asked) == 5, description="it to wait again")
        worker.stop()
        await work

    assert queue.asked == ["claim 0", "wait", "claim 1", "swap", "wait"]


async def test_a_failing_task_is_retried_until_its_policy_is_spent(
    app: OmniQ, working: Working
) -> None:
    """Three retries mean four attempts; the error of the last one is kept."""
    attempts: list[int] = []

    @app.task(retry=NOW_AND_THEN)
    async def broken() -> None:
        attempts.append(current_task().attempt)
        raise ValueError("still broken")

    handle = await broken.enqueue()
    async with working():
        with pytest.raises(TaskFailedError, match="still broken") as failure:
            await handle.result(timeout=10)

    assert attempts == [1, 2, 3, 4]
    assert failure.value.error is not None
    assert failure.value.error.type == "builtins.ValueError"
    assert "in broken" in failure.value.error.traceback
    assert "omniq/worker" not in failure.value.error.traceback


async def test_only_the_exceptions_of_the_policy_are_retried(app: OmniQ) -> None:
    """`retry_on` narrows retries to what may pass by itself; subclasses count."""
    calls: list[str] = []

    @app.task(retry=RetryPolicy(max_retries=1, delay_seconds=0, retry_on=(OSError,)))
    async def fetch(kind: str) -> None:
        calls.append(kind)
        raise {"network": ConnectionError, "value": ValueError}[kind]("no")

    await fetch.enqueue("network")
    await fetch.enqueue("value")
    await burst(app)
    await burst(app)

    assert sorted(calls) == ["network", "network", "value"]


async def test_a_task_may_end_itself_in_other_ways(app: OmniQ, working: Working) -> None:
    """Retry counts as an attempt, Snooze does not, Cancel is final."""
    seen: list[tuple[str, int]] = []

    @app.task(max_retries=1)
    async def signalling(how: str) -> str:
        first = all(name != how for name, _ in seen)
        seen.append((how, current_task().attempt))
        if how == "cancel":
            raise Cancel("not needed any more")
        if first:
            raise {"retry": Retry(0.01, "come back"), "snooze": Snooze(timedelta(seconds=0.01))}[
                how
            ]
        return how

    handles = {how: await signalling.enqueue(how) for how in ("retry", "snooze", "cancel")}
    async with working():
        assert await handles["retry"].result(timeout=5) == "retry"
        assert await handles["snooze"].result(timeout=5) == "snooze"
        with pytest.raises(TaskCancelledError, match="not needed any more"):
            await handles["cancel"].result(timeout=5)

    assert [n for how, n in seen if how == "retry"] == [1, 2]
    assert [n for how, n in seen if how == "snooze"] == [1, 1]


async def test_an_unknown_task_is_parked_and_runs_once_a_worker_knows_it(app: OmniQ) -> None:
    """A name no worker knows costs no attempt and is not lost: it waits with its reason."""
    await app.task_queue.enqueue(Task(id="stranger", func="elsewhere.unknown"))

    await burst(app)
    parked = await app.get_task("stranger")

    assert parked is not None
    assert parked.status is TaskStatus.SCHEDULED
    assert parked.attempt == 0
    assert "elsewhere.unknown" in (parked.error or "")
    assert "PARKED" in await events_of(app, "stranger")

    @app.task(name="elsewhere.unknown")
    async def known() -> str:
        return "found"

    async def finished() -> bool:
        await burst(app)
        task = await app.get_task("stranger")
        return task is not None and task.status is TaskStatus.COMPLETED

    await wait_until(finished, description="the parked task ran")
    assert await app.get_result("stranger") == "found"


async def test_a_value_that_cannot_be_stored_fails_its_task_alone(app: OmniQ) -> None:
    """One bad return value does not hold up its neighbours, and is not retried."""

    @app.task(max_retries=3)
    async def returns(good: bool) -> object:
        return "fine" if good else object()

    good = [await returns.enqueue(True) for _ in range(3)]
    bad = await returns.enqueue(False)
    await burst(app)

    assert [await handle.result(timeout=5) for handle in good] == ["fine"] * 3
    with pytest.raises(TaskFailedError, match="not stored"):
        await bad.result(timeout=5)


async def test_a_function_defined_again_is_the_one_that_runs(app: OmniQ, working: Working) -> None:
    """A notebook whose worker runs on in the background must not run what was corrected."""
    scope: dict[str, Any] = {"app": app, "__name__": "cell"}

    async with working():
        for answer in (1, 2):
            exec(f"@app.task\nasync def f(): return {answer}", scope)
            handle = await scope["f"].enqueue()
            assert await handle.result(timeout=10) == answer


async def test_system_exit_ends_the_task_not_the_worker(app: OmniQ) -> None:
    """`sys.exit()` in a task is that task's failure."""

    @app.task
    async def leave() -> None:
        raise SystemExit(3)

    @app.task
    def leave_thread() -> None:
        raise SystemExit(4)

    handles = [await leave.enqueue(), await leave_thread.enqueue()]
    worker = await burst(app)

    assert not worker.running
    for handle in handles:
        with pytest.raises(TaskFailedError, match="SystemExit"):
            await handle.result(timeout=5)


async def test_generator_exit_in_a_thread_ends_the_task(app: OmniQ) -> None:
    """Thrown into whoever awaits the thread, it ended that instead, and the task ran for ever."""

    @app.task
    def leave() -> None:
        raise GeneratorExit

    handle = await leave.enqueue()
    await asyncio.wait_for(burst(app), 10)

    with pytest.raises(TaskFailedError, match="GeneratorExit"):
        await handle.result(timeout=5)


async def test_the_concurrency_limit_holds(app: OmniQ) -> None:
    """Coroutines and threads together never exceed the limit."""
    running, most = 0, 0
    lock = threading.Lock()

    def enter(change: int) -> None:
        nonlocal running, most
        with lock:
            running += change
            most = max(most, running)

    @app.task
    async def coroutine() -> None:
        enter(1)
        for _ in range(5):
            await asyncio.sleep(0)  # yields to the other tasks
        enter(-1)

    @app.task
    def thread() -> None:
        enter(1)
        threading.Event().wait(0.002)
        enter(-1)

    for _ in range(20):
        await coroutine.enqueue()
        await thread.enqueue()
    await burst(app, concurrency=3)

    assert most == 3


async def test_queues_are_served_in_strict_order(app: OmniQ) -> None:
    """The first queue named is emptied before the second is touched; others stay."""
    order: list[str] = []

    @app.task
    async def note(name: str) -> None:
        order.append(name)

    for queue in ("low", "high", "other"):
        for _ in range(2):
            await note.options(queue=queue).enqueue(queue)
    await burst(app, queues=["high", "low"], concurrency=1)

    assert order == ["high", "high", "low", "low"]
    assert await app.queue_size("other") == 2


async def test_children_wait_for_their_parents(app: OmniQ) -> None:
    """`depends_on` releases a child when all its parents completed."""
    order: list[str] = []

    @app.task
    async def step(name: str) -> None:
        order.append(name)

    parents = [await step.enqueue("parent"), await step.enqueue("parent")]
    child = await step.options(depends_on=parents, priority=9).enqueue("child")
    assert await child.status() is TaskStatus.WAITING
    await burst(app, concurrency=1)

    assert order == ["parent", "parent", "child"]


async def test_two_workers_share_the_work(app: OmniQ) -> None:
    """Two workers on one store run each of many tasks exactly once."""
    ran: list[int] = []

    @app.task
    async def once(n: int) -> None:
        ran.append(n)

    await once.enqueue_many([(n,) for n in range(500)])
    await asyncio.gather(burst(app, concurrency=7), burst(app, concurrency=11))

    assert sorted(ran) == list(range(500))


async def test_worker_sync_twin_serves_a_sync_program(app: OmniQ) -> None:
    """`run_sync` blocks a thread without a loop until the burst is over."""

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    def program() -> int:
        handle = double.enqueue_sync(21)
        Worker(app, burst=True, cleanup=False, schedules=False).run_sync()
        return handle.result_sync(timeout=5)

    assert await asyncio.to_thread(program) == 42


async def test_the_first_line_says_where_everything_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that looks into another store than the producer's is seen at a glance."""
    caplog.set_level(logging.INFO, "omniq.worker")
    file = f"sqlite:///{tmp_path}/q.db"
    apps = [
        OmniQ(file),
        OmniQ(file, results="memory://", events=f"file://{tmp_path}/e"),
        OmniQ(file, results="memory://", log_events=False),
    ]

    for app in apps:
        async with app:
            await app.worker(burst=True, schedules=app is not apps[2]).run()

    starts = [line for line in caplog.messages if " serves " in line]
    assert [line.partition(" serves ")[2] for line in starts] == [
        f"default; tasks, results, events, schedules in sqlite {tmp_path}/q.db",
        f"default; tasks, schedules in sqlite {tmp_path}/q.db; results in memory; "
        f"events in files {tmp_path}/e/events",
        f"default; tasks in sqlite {tmp_path}/q.db; results in memory",
    ]
