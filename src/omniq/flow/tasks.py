"""The loops of flows as tasks of OmniQ: each is run by whichever worker claims it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from omniq.blocking import blocking
from omniq.datastore import DataStore
from omniq.flow.engine import FlowEngine
from omniq.flow.errors import NodeFailedError
from omniq.flow.events import LoopReport
from omniq.flow.nodes import NodeTypes
from omniq.ids import check_name, new_id
from omniq.models.event import TaskEvent
from omniq.models.task import RetryPolicy, Task
from omniq.worker import current_task

if TYPE_CHECKING:
    from omniq.core import OmniQ
    from omniq.handle import TaskHandle

LOOP_FINISHED = "LOOP_FINISHED"
NODE_FINISHED = "NODE_FINISHED"


class FlowTasks:
    """Declares the task that runs a loop; make it in the module that workers load.

    Items are acknowledged: when a worker dies, the task and what it was at go to another. A
    producer that is run again starts again, so what it makes should bear coming twice.

    Args:
        app: whose workers run the loops; each running loop takes one of their slots.
        types: the node types flows may use.
        store: where loops talk, reachable for all workers.
        name: of the task.
        queue: of the tasks; the app's default queue if left out.
        max_retries: how often a loop whose producer failed is run again;
        retry_delay: after how many seconds the first time, then ever later.
        lease: how long after a crash an item is given out again (seconds or timedelta).
    """

    def __init__(
        self,
        app: OmniQ,
        types: NodeTypes,
        store: DataStore,
        *,
        name: str = "omniq.flow.run_loop",
        queue: str | None = None,
        max_retries: int = 3,
        retry_delay: float = 1.0,
        lease: float | timedelta = 60.0,
    ) -> None:
        self._app = app
        self._types = types
        self._store = store
        self._lease = lease
        retry = RetryPolicy(max_retries=max_retries, delay_seconds=retry_delay)
        declare = app.task(name=name, queue=queue, retry=retry)
        self._task = declare(self._run_loop)

    async def start(self, flow: Mapping[str, Any], *, namespace: str | None = None) -> FlowRun:
        """Enqueue a task for each loop of the flow; return the run.

        Args:
            flow: the document.
            namespace: keeps this run apart from others; a fresh one if left out. Starting a flow
                again in the namespace of a live run gives that run.

        Raises:
            FlowValidationError: the flow cannot be run; nothing was enqueued.
        """
        space = new_id() if namespace is None else check_name("namespace", namespace)
        engine = self.engine(flow, space)
        handles: dict[str, TaskHandle[dict[str, Any]]] = {}
        for loop_id in engine.plan.loops_in_order():
            task = self._task.options(unique_key=f"{space}.{loop_id}")
            handles[loop_id] = await task.enqueue(dict(flow), loop_id, space)
        return FlowRun(space, engine, handles)

    def engine(self, flow: Mapping[str, Any], namespace: str) -> FlowEngine:
        """Return the engine of a run: for its dead letters, to clear up after it."""
        return FlowEngine(
            flow,
            self._types,
            self._store,
            namespace=namespace,
            acknowledged=True,
            lease=self._lease,
        )

    async def _run_loop(self, flow: dict[str, Any], loop_id: str, namespace: str) -> dict[str, Any]:
        task = current_task().task
        retries = 0 if task.retry is None else task.retry.max_retries
        engine = self.engine(flow, namespace)
        report = await engine.run_loop(loop_id, passes_stop=task.attempt > retries)
        await self._log(task, report)
        if report.error is not None:
            raise NodeFailedError(f"loop {loop_id} ended early: {report.error}")
        return dict(msgspec.to_builtins(report))

    async def _log(self, task: Task, report: LoopReport) -> None:
        """Write the counts of the loop and its nodes into the history of the task."""
        if not self._app.log_events:
            return
        for node_id, counts in report.nodes.items():
            details = {"node_id": node_id, **msgspec.structs.asdict(counts)}
            await self._app.event_storage.log_event(
                TaskEvent(task_id=task.id, event_type=NODE_FINISHED, details=details)
            )
        details = {"loop_id": report.loop_id, "items": report.items}
        await self._app.event_storage.log_event(
            TaskEvent(task_id=task.id, event_type=LOOP_FINISHED, details=details)
        )

    start_sync = blocking(start)


class FlowRun:
    """A flow whose loops were given to workers.

    Attributes:
        namespace: what keeps it apart from other runs.
        engine: for its dead letters, and to clear up after it.
        handles: the task of each loop.
    """

    def __init__(
        self, namespace: str, engine: FlowEngine, handles: dict[str, TaskHandle[dict[str, Any]]]
    ) -> None:
        self.namespace = namespace
        self.engine = engine
        self.handles = handles

    async def reports(self, timeout: float | None = None) -> dict[str, LoopReport]:
        """Wait for all loops to end; return their reports.

        Args:
            timeout: seconds to wait for each; None waits for ever.

        Raises:
            ResultError: a loop failed for good, was cancelled, or did not end in time.
        """
        reports = {
            loop_id: msgspec.convert(await handle.result(timeout), LoopReport)
            for loop_id, handle in self.handles.items()
        }
        await self.engine.tidy()
        return reports

    async def stop(self, *, now: bool = False) -> None:
        """Ask the flow to end; see `FlowEngine.stop`."""
        await self.engine.stop(now=now)

    reports_sync = blocking(reports)
    stop_sync = blocking(stop)
