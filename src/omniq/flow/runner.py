"""One loop at work: items in, through its nodes, out into the next queues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from copy import deepcopy
from typing import Any

from omniq.datastore import Delivery
from omniq.exceptions import ValidationError
from omniq.flow.events import Listener, LoopReport, NodeEventType, Observer
from omniq.flow.graph import Node
from omniq.flow.nodes import Kind, NodeType
from omniq.flow.plan import Loop, Plan
from omniq.flow.pools import Pools
from omniq.flow.queues import queues_of_writer
from omniq.flow.sources import produced, received, until_stopped
from omniq.flow.wires import Wires, patiently
from omniq.lifecycle import error_info

logger = logging.getLogger(__name__)
BESIDE = 64
"""How many branches of non-blocking nodes may be under way; then the loop waits."""

Step = tuple[Node, Any]


class LoopRunner:
    """Runs one loop of a flow to its end. Make one for each run.

    A node that raises ends its branch for that item, and the item goes to the dead letters; the
    loop goes on.
    """

    def __init__(
        self, plan: Plan, loop: Loop, wires: Wires, pools: Pools, listener: Listener | None = None
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._wires = wires
        self._pools = pools
        self._observer = Observer(loop.id, loop.nodes, listener)
        self._beside: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(BESIDE)

    async def run(self, *, passes_stop: bool = True) -> LoopReport:
        """Run until the producer has no more, or all loops before this one have stopped.

        Then the stop signal goes on to the loops after it: always if the loop came to its end, and
        after a failed producer only with `passes_stop` (without it, the loop is to run again).
        Cancelled, it stops at once and passes nothing on.
        """
        self._observer.loop(NodeEventType.LOOP_STARTED)
        try:
            await self._take_all()
            await self._finish_beside()
        except BaseException:
            await self._drop_beside()
            await self._wires.break_off(self._loop.id)
            raise
        report = self._observer.report
        if passes_stop or report.error is None:
            await self._pass_stop()
        self._observer.loop(NodeEventType.LOOP_STOPPED)
        return report

    async def _take_all(self) -> None:
        first = self._plan.graph.by_id[self._loop.id]
        kind = self._plan.type_of(first)
        try:
            if kind.kind is Kind.READER:
                await self._take_received(first)
            else:
                await self._take_produced(first, kind)
        except Exception as error:  # noqa: BLE001 - the boundary around user code
            logger.warning("loop %s ends: its first node failed: %r", self._loop.id, error)
            self._observer.report.error = error_info(error)
            await self._bury(first, None, error)

    async def _take_received(self, first: Node) -> None:
        async with aclosing(received(self._loop, self._wires)) as items:
            async for item in items:
                if item.delivery is None:
                    await self._begin(first, item.data)
                else:
                    await self._work_off(first, item.delivery)

    async def _work_off(self, first: Node, delivery: Delivery) -> None:
        """Acknowledge an item when all that it began is done; until then keep it leased."""
        lease = self._wires.lease_seconds or 0.0
        async with delivery:
            work = asyncio.create_task(self._begin_and_finish(first, delivery.data))
            try:
                while not (await asyncio.wait({work}, timeout=lease / 3))[0]:
                    await patiently(lambda: delivery.extend(lease))
                work.result()
            except BaseException:
                work.cancel()
                await asyncio.wait({work})
                await self._drop_beside()
                raise

    async def _begin_and_finish(self, first: Node, data: Any) -> None:
        await self._begin(first, data)
        await self._finish_beside()

    async def _take_produced(self, first: Node, kind: NodeType) -> None:
        made: AsyncGenerator[Any, None] = produced(kind, first.config, self._pools)
        stopped = until_stopped(made, lambda: self._wires.wait_for_stop(self._loop.id))
        async with aclosing(stopped) as items:
            async for item in items:
                await self._begin(first, item)

    async def _begin(self, first: Node, data: Any) -> None:
        """Send one item through the loop."""
        self._observer.report.items += 1
        self._observer.completed(first.id)
        if data is not None:
            await self._follow(self._next(first, data, None), beside=False)

    async def _follow(self, steps: list[Step], *, beside: bool) -> None:
        """Take these steps and all that come after them, depth first, in the order of edges."""
        rest = steps[::-1]
        while rest:
            node, data = rest.pop()
            if self._plan.type_of(node).kind is Kind.NON_BLOCKING and not beside:
                await self._start_beside(node, data)
            else:
                rest += reversed(await self._step(node, data))

    async def _start_beside(self, node: Node, data: Any) -> None:
        await self._gate.acquire()
        task = asyncio.create_task(self._follow([(node, data)], beside=True))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        task.add_done_callback(lambda _: self._gate.release())

    async def _step(self, node: Node, data: Any) -> list[Step]:
        """Run one node; return the steps after it: none if it raised or gave nothing."""
        self._observer.started(node.id)
        try:
            output, handle = await run_node(self._plan.type_of(node), node, data, self._pools)
            await self._push(node, output)
            after = [] if output is None else self._next(node, output, handle)
        except Exception as error:  # noqa: BLE001 - the boundary around user code
            self._observer.failed(node.id, error_info(error))
            await self._bury(node, data, error)
            return []
        self._observer.completed(node.id)
        return after

    async def _push(self, node: Node, data: Any) -> None:
        if self._plan.type_of(node).kind is Kind.WRITER:
            for queue in queues_of_writer(self._plan.links, node.id):
                await self._wires.push(queue, data)

    def _next(self, node: Node, data: Any, handle: str | None) -> list[Step]:
        """Return who gets the output; of several each gets a copy of its own."""
        edges = self._plan.followers(node.id)
        if handle is not None:
            edges = [edge for edge in edges if edge.handle == handle]
        targets = [self._plan.graph.by_id[edge.target] for edge in edges]
        return [(target, deepcopy(data) if n else data) for n, target in enumerate(targets)]

    async def _bury(self, node: Node, data: Any, error: Exception) -> None:
        await self._wires.bury(self._loop.id, node.id, data, error_info(error))

    async def _finish_beside(self) -> None:
        while self._beside:
            await asyncio.gather(*self._beside)

    async def _drop_beside(self) -> None:
        for task in self._beside:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def _pass_stop(self) -> None:
        for queue in self._loop.sends:
            await self._wires.push_stop(queue, self._loop.id)
        await self._wires.forget_loop(self._loop.id)


async def run_node(kind: NodeType, node: Node, data: Any, pools: Pools) -> tuple[Any, str | None]:
    """Return the output of a node for an item, and the exit it leaves by, if it has several.

    Raises:
        Exception: what the function raises.
        ValidationError: a conditional chose an exit it does not have.
    """
    found = await pools.call(kind, data, **node.config)
    if kind.kind is not Kind.CONDITIONAL:
        return found, None
    if isinstance(found, bool) and len(kind.handles) == 2:
        return data, kind.handles[0 if found else 1]
    if found in kind.handles:
        return data, found
    raise ValidationError(
        f"node {node.id}",
        f"chose {found!r}; the exits of {kind.name} are {', '.join(kind.handles)}",
    )
