"""The worker: claims tasks, runs them, settles their ends."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from random import uniform
from typing import TYPE_CHECKING, Any

from omniq import lifecycle
from omniq.blocking import refuse_in_loop
from omniq.clock import check_seconds, utcnow
from omniq.exceptions import ConfigError, StorageError
from omniq.ids import new_worker_id
from omniq.models.checks import check_limit, check_queues
from omniq.models.event import EventType, TaskEvent
from omniq.models.task import Task, TaskStatus
from omniq.waits import all_or_first, first_of
from omniq.worker.claims import Claims
from omniq.worker.eventlog import EventLog
from omniq.worker.executor import Callee, Executor
from omniq.worker.health import BEAT_SECONDS, Health
from omniq.worker.leases import LeaseKeeper, checked_lease
from omniq.worker.lifespan import opened
from omniq.worker.options import WorkerOptions, checked_modules
from omniq.worker.runs import Run, StopReason
from omniq.worker.settler import Settler
from omniq.worker.slots import PATIENCE_SECONDS, Slots
from omniq.worker.start import log_start
from omniq.worker.upkeep import upkeep

if TYPE_CHECKING:
    from omniq.core import OmniQ

logger = logging.getLogger(__name__)
WAIT_SECONDS = 5.0
BACKLOG_FACTOR = 4
PAUSES = (0.1, 2.0)
"""First and longest pause between two tries of a store that is away, in seconds."""


class Worker:
    """Runs the tasks of an app until stopped. `await worker.run()`, or `worker.run_sync()`.

    Args:
        app: the `OmniQ` whose tasks it knows and whose stores it uses.
        queues: names in strict order of preference; the app's default queue if left out.
        worker_id: unique name; made from host, process and chance if left out.
        options: see `WorkerOptions` for the rest.

    Raises:
        ValidationError: an option is out of its range.
        ConfigError: the health file cannot be written.
    """

    def __init__(
        self,
        app: OmniQ,
        *,
        queues: Sequence[str] | str | None = None,
        concurrency: int = 32,
        lease_seconds: float | None = None,
        grace_seconds: float = 20.0,
        burst: bool = False,
        schedules: bool = True,
        cleanup: bool = True,
        allow_modules: Sequence[str] | str = (),
        health_file: str | os.PathLike[str] | None = None,
        worker_id: str | None = None,
    ) -> None:
        self.app = app
        self.options = WorkerOptions(
            queues=tuple(check_queues(app.default_queue if queues is None else queues)),
            concurrency=check_limit("concurrency", concurrency),
            lease_seconds=checked_lease(lease_seconds, app.task_queue),
            grace_seconds=check_seconds("grace_seconds", grace_seconds),
            burst=burst,
            schedules=schedules,
            cleanup=cleanup,
            allow_modules=checked_modules(allow_modules),
            health_file=None if health_file is None else os.fspath(health_file),
        )
        self._health = Health(self.options.health_file)
        self.id = worker_id or new_worker_id()
        self.counts = dict.fromkeys(EventType, 0)
        self._runs: dict[str, Run] = {}
        self._queue = app.task_queue
        self._log = EventLog(app.event_storage if app.log_events else None)
        self._claims = Claims(self._queue, self.id, self.options)
        self._slots = Slots(self.options.concurrency)
        self._executor = Executor(self._resolve, self.id, self._slots, app.hooks)
        self._settler = Settler(
            self._queue,
            app.result_storage,
            self._log,
            worker_id=self.id,
            result_ttl_seconds=app.result_ttl_seconds,
            settled=self._settled,
            tell=app.hooks.tell,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._force: asyncio.Event | None = None
        self._freed: asyncio.Event | None = None
        self._stops_asked = 0

    async def run(self) -> None:
        """Work until `stop` is called, or, with `burst`, until nothing is claimable.

        Raises:
            ConfigError: it runs already.
            StorageError: the stores cannot be opened at the start; later the worker waits for
                them to come back.
            LifespanError: the application's `lifespan` failed.
        """
        if self._stop is not None:
            raise ConfigError(f"worker {self.id} runs already")
        self._loop, self._stops_asked = asyncio.get_running_loop(), 0
        self._stop, self._force, self._freed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        try:
            await first_of(self.app.connect(), self._stop.wait())
            if self._stop.is_set():  # before anything was begun
                return
            life = self.app.hooks.life()
            async with opened(life, self._stop, self._force) as self._executor.state:
                if not self._stop.is_set():
                    await self.app.save_schedules()
                    await self._queue.announce(self.id)
                    await self._work()
        finally:
            self._stop = None

    def run_sync(self) -> None:
        """Work in an event loop of its own until stopped; Ctrl-C winds up in order, then raises.

        Raises:
            SyncInAsyncError: called in a thread where an event loop runs.
        """
        refuse_in_loop("Worker.run")
        asyncio.run(self.run())

    def stop(self, *, force: bool = False) -> None:
        """Take no more tasks and end when the running ones have ended.

        After the grace period, or at once with `force` (or when called again), running tasks are
        interrupted and given back to the queue without costing an attempt. Safe from any thread.
        Before `run` has begun it does nothing.
        """
        if self._loop is None or self._stop is None or self._force is None:
            return
        self._stops_asked += 1
        if force or self._stops_asked > 1:
            self._loop.call_soon_threadsafe(self._force.set)
        self._loop.call_soon_threadsafe(self._stop.set)

    @property
    def running(self) -> list[Task]:
        """The tasks this worker holds."""
        return [run.task for run in list(self._runs.values())]

    async def _work(self) -> None:
        keeper = LeaseKeeper(
            self._queue, self._runs, worker_id=self.id, lease_seconds=self.options.lease_seconds
        )
        keeper.start()
        log_start(self)
        assert self._stop is not None  # noqa: S101 - set by `run`
        helpers = [asyncio.create_task(job) for job in upkeep(self.app, self.options, self._stop)]
        try:
            await self._claim_loop()
        finally:
            self._health.end()
            await self._wind_up(helpers)
            await keeper.stop()
            with suppress(StorageError):  # the store is away: the lock falls with the process
                await self._queue.withdraw(self.id)
        logger.info("worker %s stopped", self.id)

    async def _claim_loop(self) -> None:
        assert self._stop is not None  # noqa: S101 - set by `run`
        pause = PAUSES[0]
        while not self._stop.is_set():
            try:
                free = await self._free_slots()
                was_busy = bool(self._runs)
                claimed = await self._claim(free) if free else 0
                if claimed < free and await self._was_all(claimed, was_busy=was_busy):
                    return
                pause = PAUSES[0]
            except StorageError as error:
                logger.warning("worker %s cannot claim: %s; trying again", self.id, error)
                await self._pause(uniform(pause / 2, pause))  # noqa: S311 - jitter
                pause = min(pause * 2, PAUSES[1])

    async def _free_slots(self) -> int:
        """Wait until there is room; return for how many tasks (0 when told to stop)."""
        assert self._stop is not None and self._freed is not None  # noqa: PT018, S101 - set by `run`
        while not self._stop.is_set():
            executing = len([True for run in self._runs.values() if not run.executed])
            free = self._slots.room - executing
            if free > 0 and self._settler.backlog < BACKLOG_FACTOR * self.options.concurrency:
                return min(free, self.options.concurrency)
            self._freed.clear()
            await first_of(self._freed.wait(), self._stop.wait(), *self._busy_beat())
        return 0

    def _busy_beat(self) -> list[Coroutine[Any, Any, None]]:
        """While all slots are busy, nothing is claimed: show in another way that all is well."""

        async def beat() -> None:
            await asyncio.sleep(BEAT_SECONDS)
            await self._queue.paused()
            self._health.beat()

        return [beat()] if self._health.is_watched else []

    async def _was_all(self, claimed: int, *, was_busy: bool) -> bool:
        """Wait for more after a claim that got less than it asked for; True when a burst is over.

        Where waiting begins with a look there is no need to claim once more to see nothing. The
        claimed have a turn first: so the end of a short run is on its way before that look.
        """
        if claimed:
            if self.options.burst or not self._queue.capabilities.wakes:
                return False
            await asyncio.sleep(0)
        return await self._idle(was_busy=was_busy)

    async def _claim(self, free: int) -> int:
        """Claim up to `free` tasks and start them; return how many there were."""
        tasks, trusted_until = await self._claims.send(free)
        self._health.beat()
        started = [run for task in tasks if (run := self._start(task, trusted_until))]
        if self._slots.room > self.options.concurrency:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._begin, started)  # the next claim is sent before these run
            loop.call_later(PATIENCE_SECONDS, self._slots.give_back_waiting, started)
        else:
            self._begin(started)
        self._log.add([self._started(run.task) for run in started], lazily=True)
        return len(tasks)

    def _start(self, task: Task, trusted_until: float) -> Run | None:
        """Take in a claimed task; return its run, unless it ends without running."""
        lost = self._runs.get(task.id)
        if lost is not None:  # our own: its lease ran out, and nobody came before us
            lost.stop(StopReason.LOST)
        run = Run(task, trusted_until)
        self._runs[task.id] = run
        verdict = self._executor.verdict(task)
        if verdict is None and time.monotonic() >= trusted_until:
            verdict = lifecycle.Released("the claim took longer than its lease can be trusted")
        if verdict is not None:
            self._end(run, verdict)
            return None
        return run

    def _end(self, run: Run, outcome: lifecycle.Outcome) -> None:
        """Settle a run that did not begin."""
        run.executed = True
        self._settler.add(run, outcome)

    def _begin(self, runs: list[Run]) -> None:
        for run in runs:
            run.runner = asyncio.create_task(self._execute(run))

    async def _execute(self, run: Run) -> None:
        outcome = await self._executor.execute(run)
        if run.given_up:
            return
        if outcome is None:
            self._settler.lose(run, "its lease was lost, and it was stopped")
        else:
            self._settler.add(run, outcome)
        if self._freed is not None:
            self._freed.set()

    def _settled(self, run: Run, after: Task | None) -> None:
        """Forget a run whose end is written (or refused)."""
        if self._runs.get(run.task.id) is run:
            del self._runs[run.task.id]
        if after is None:
            self.counts[EventType.LEASE_LOST] += 1
        elif after.is_final:
            self.counts[_FINAL_EVENTS[after.status]] += 1
        else:
            self.counts[EventType.RETRYING] += 1
        if self._freed is not None:
            self._freed.set()

    def _started(self, task: Task) -> TaskEvent:
        """Return the event that tells of a start, after telling the listeners."""
        event = TaskEvent(
            task_id=task.id,
            event_type=EventType.STARTED,
            timestamp=task.started_at or utcnow(),
            details={"attempt": task.attempt} if task.attempt > 1 else {},
            worker_id=self.id,
        )
        self.app.hooks.tell(event, task)
        return event

    async def _idle(self, *, was_busy: bool) -> bool:
        """Nothing was claimable: wait for work; True when a burst is over.

        A run that ended during the claim may have made other tasks claimable just after it.
        """
        assert self._stop is not None  # noqa: S101 - set by `run`
        if self.options.burst:
            if not self._runs:
                return not was_busy
            assert self._freed is not None  # noqa: S101 - set by `run`
            self._freed.clear()
            await first_of(self._freed.wait(), self._stop.wait())
            return False
        waiting = self._queue.wait(self.options.queues, WAIT_SECONDS)
        await first_of(waiting, self._stop.wait())
        return False

    async def _wind_up(self, helpers: list[asyncio.Task[None]]) -> None:
        """Let running tasks end within the grace period, then give them back; flush all."""
        assert self._force is not None  # noqa: S101 - set by `run`
        if self._stop is not None:
            self._stop.set()
        await self._give_back_left_over()
        for _ in range(2):  # who was claimed just now begins, and waits for a slot or has one
            await asyncio.sleep(0)
        self._slots.give_back_waiting(self._runs.values())
        runners = [run.runner for run in self._runs.values() if run.runner is not None]
        pending = {runner for runner in runners if not runner.done()}
        if pending:
            forced = asyncio.create_task(self._force.wait())
            await all_or_first(pending, forced, self.options.grace_seconds)
            forced.cancel()
        for run in list(self._runs.values()):
            run.stop(StopReason.RELEASE)
        await self._wait_for_stopped(pending)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await self._settler.drain()
        await self._log.drain()

    async def _give_back_left_over(self) -> None:
        """Give back what a claim got that was under way when this worker was cancelled."""
        try:
            tasks, trusted_until = await self._claims.left_over()
        except StorageError as error:
            logger.warning("worker %s: its last claim: %s", self.id, error)
            return
        for task in tasks:
            run = self._runs[task.id] = Run(task, trusted_until)
            self._end(run, lifecycle.Released("the worker stopped"))

    async def _wait_for_stopped(self, pending: set[asyncio.Task[Any]]) -> None:
        """Wait for interrupted tasks; those of threads stuck in C code are given back after 1 s."""
        pending = {runner for runner in pending if not runner.done()}
        if not pending:
            return
        _, stuck = await asyncio.wait(pending, timeout=1.0)
        for run in list(self._runs.values()):
            if run.runner in stuck:
                logger.warning("task %s does not react; given back", run.task.id)
                run.given_up = True
                self._settler.add(run, lifecycle.Released("the worker stopped; its thread did not"))

    async def _pause(self, seconds: float) -> None:
        assert self._stop is not None  # noqa: S101 - set by `run`
        await first_of(asyncio.sleep(seconds), self._stop.wait())

    def _resolve(self, name: str) -> Callee:
        task = self.app.registry.resolve(name, self.options.allow_modules)
        return Callee(task.func, task.is_async)


_FINAL_EVENTS = {
    TaskStatus.COMPLETED: EventType.COMPLETED,
    TaskStatus.FAILED: EventType.FAILED,
    TaskStatus.CANCELLED: EventType.CANCELLED,
    TaskStatus.EXPIRED: EventType.EXPIRED,
}
