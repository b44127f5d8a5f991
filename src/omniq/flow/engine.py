"""`FlowEngine`: runs a flow here, loop by loop elsewhere, or node by node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

from omniq.blocking import blocking
from omniq.clock import check_seconds
from omniq.datastore import DataStore
from omniq.exceptions import NotFoundError, ValidationError
from omniq.flow.checks import read_flow
from omniq.flow.development import NodeOutput, run_single
from omniq.flow.events import DeadLetter, Listener, LoopReport
from omniq.flow.graph import Source
from omniq.flow.nodes import NodeTypes
from omniq.flow.plan import Loop
from omniq.flow.pools import THREADS, Pools
from omniq.flow.runner import LoopRunner
from omniq.flow.wires import Wires
from omniq.models.checks import check_limit

T = TypeVar("T")


class FlowEngine:
    """A flow, the functions of its nodes, and the store its loops talk through.

    Any number of engines may run the loops of one flow, each loop in one of them: same document,
    same store, same namespace. Every coroutine has its blocking twin: `run_sync`.

    Args:
        flow: the document: JSON text, or the dict it stands for.
        types: the node types it may use.
        store: where queues, dead letters and cached outputs are kept. Yours to close.
        namespace: keeps two flows, or two runs of one, apart in the same store.
        listener: called for each event of a node.
        acknowledged: items stay in their queue until a loop is done with them, so that a crash
            loses none; some may then be worked on twice. False is faster.
        lease: how long after a crash another run gets them (seconds or timedelta).
        cache_ttl: how long outputs of development mode are kept; None for good.
        threads, processes: how many a run starts at most for the nodes of these pools.

    Attributes:
        plan: the flow cut into loops, with the queues between them.

    Raises:
        FlowValidationError: the flow cannot be run; it lists every reason.
        ValidationError: an option makes no sense.
    """

    def __init__(
        self,
        flow: Source,
        types: NodeTypes,
        store: DataStore,
        *,
        namespace: str | None = None,
        listener: Listener | None = None,
        acknowledged: bool = False,
        lease: float | timedelta = 60.0,
        cache_ttl: float | timedelta | None = 3600.0,
        threads: int = THREADS,
        processes: int | None = None,
    ) -> None:
        lease_seconds = check_seconds("lease", lease, least=0.1)
        _check_kind("types", types, NodeTypes)
        _check_kind("store", store, DataStore)
        self.plan = read_flow(flow, types)
        self._wires = Wires(store, namespace, lease_seconds if acknowledged else None)
        self._listener = listener
        self._ttl = None if cache_ttl is None else check_seconds("cache_ttl", cache_ttl, least=1)
        self._threads = check_limit("threads", threads)
        self._processes = None if processes is None else check_limit("processes", processes)

    async def run(self) -> dict[str, LoopReport]:
        """Run all loops here until they have ended; return a report of each.

        A loop whose producer fails ends with an error in its report; the others go on.

        Raises:
            StorageError: the store cannot be opened at the start, or refuses us.
        """
        loops = [asyncio.create_task(self.run_loop(loop_id)) for loop_id in self.plan.loops]
        try:
            reports = await asyncio.gather(*loops)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
        await self.tidy()
        return {report.loop_id: report for report in reports}

    async def run_loop(self, loop_id: str, *, passes_stop: bool = True) -> LoopReport:
        """Run one loop until it has ended; see `LoopRunner.run`.

        Raises:
            NotFoundError: there is no such loop.
            StorageError: the store cannot be opened at the start; later the loop waits for it.
        """
        loop = self.loop(loop_id)
        await self._wires.connect()
        pools = self._pools()
        try:
            runner = LoopRunner(self.plan, loop, self._wires, pools, self._listener)
            return await runner.run(passes_stop=passes_stop)
        finally:
            await pools.close()

    def loop(self, loop_id: str) -> Loop:
        """Return a loop by the id of its first node.

        Raises:
            NotFoundError: there is no such loop.
        """
        return _known(self.plan.loops, loop_id, "loop")

    async def stop(self, *, now: bool = False) -> None:
        """Ask the flow to end, wherever its loops run.

        The producers stop, and the others when they have worked off what is in the queues. With
        `now`, every loop ends after the item it is at; what is in the queues stays there.
        """
        for loop in self.plan.loops.values():
            if now or loop.is_source:
                await self._wires.ask_to_stop(loop.id)

    async def run_development_node(self, node_id: str, *, data: Any = None) -> NodeOutput:
        """Run one node on the cached output of a node before it, and cache what it gives.

        The keys are ``{node_id}_output``. A producer gives its first item, a writer pushes nothing,
        a reader takes what its writer gave. `data` is used instead of a cached output, if given.

        Raises:
            NotFoundError: there is no such node.
            MissingOutputError: no node before it has an output that leads to it.
            NodeFailedError: the node raised.
            SerializationError: its output is not JSON.
        """
        node = _known(self.plan.graph.by_id, node_id, "node")
        pools = self._pools()
        try:
            return await run_single(self.plan, self._wires, pools, node, data, self._ttl)
        finally:
            await pools.close()

    async def take_dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Take out the oldest items that nodes failed on, with their errors."""
        found: list[DeadLetter] = []
        while len(found) < limit and (letter := await self._wires.take_dead_letter()) is not None:
            found.append(letter)
        return found

    async def tidy(self) -> None:
        """Remove the signals of a run that has ended: those that came when a loop had ended.

        `run` does it. After a run of loops in several engines, one of them may.
        """
        for loop_id in self.plan.loops:
            await self._wires.forget_loop(loop_id)

    async def clear(self) -> None:
        """Remove all this flow has in the store: items, signals, dead letters, cached outputs.

        Not while it runs.
        """
        queues = [link.queue for link in self.plan.links]
        nodes = [node.id for node in self.plan.graph.nodes]
        await self._wires.clear(queues, list(self.plan.loops), nodes)

    def _pools(self) -> Pools:
        return Pools(threads=self._threads, processes=self._processes)

    run_sync = blocking(run)
    run_loop_sync = blocking(run_loop)
    stop_sync = blocking(stop)
    run_development_node_sync = blocking(run_development_node)
    take_dead_letters_sync = blocking(take_dead_letters)
    tidy_sync = blocking(tidy)
    clear_sync = blocking(clear)


def _known(things: Mapping[str, T], name: str, kind: str) -> T:
    found = things.get(name)
    if found is None:
        raise NotFoundError(f"this flow has no {kind} {name!r}; it has {', '.join(sorted(things))}")
    return found


def _check_kind(field: str, given: object, kind: type[object]) -> None:
    if not isinstance(given, kind):
        raise ValidationError(field, f"expected {kind.__name__}, got {given!r:.80}")
