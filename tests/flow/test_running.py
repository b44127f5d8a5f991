"""Production mode: loops that talk through queues, stop one after the other, and fail apart."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from omniq.datastore import DataStore
from omniq.exceptions import NotFoundError, ValidationError
from omniq.flow import FlowEngine, NodeEvent, NodeEventType
from omniq.testing.waiting import wait_until
from tests.flow.collecting import Collector
from tests.flow.documents import flow

TWO_LOOPS: dict[str, Any] = {
    "p": ("numbers", {"count": 20}),
    "d": "double",
    "w": "QueueWriter",
    "r": "QueueReader",
    "k": "keep",
}
TWO_LOOPS_EDGES = ("p -> d", "d -> w", "w -> r", "r -> k")


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture(params=[False, True], ids=["plain", "acknowledged"])
def acknowledged(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def leftovers(store: DataStore, engine: FlowEngine) -> list[str]:
    """Return the queues and keys of a flow that are not empty."""
    queues = [link.queue for link in engine.plan.links]
    queues += ["dead_letters", *(f"control:{loop}" for loop in engine.plan.loops)]
    found = [name for name in queues if await store.queue.length(name)]
    return found + [
        f"{k}_stops" for k in engine.plan.loops if await store.cache.exists(f"{k}_stops")
    ]


async def test_items_go_from_loop_to_loop_in_order_and_all_ends(
    store: DataStore, collector: Collector, acknowledged: bool
) -> None:
    """The producer ends, its stop signal ends the second loop, and nothing stays behind."""
    document = flow(TWO_LOOPS, *TWO_LOOPS_EDGES)
    engine = FlowEngine(document, collector.types, store, acknowledged=acknowledged)

    reports = await engine.run()

    assert collector.numbers() == [2 * n for n in range(20)]
    assert {loop: report.items for loop, report in reports.items()} == {"p": 20, "r": 20}
    assert all(c.completed == 20 for report in reports.values() for c in report.nodes.values())
    assert await leftovers(store, engine) == []


async def test_reader_ends_when_all_its_writers_have(
    store: DataStore, collector: Collector, acknowledged: bool
) -> None:
    """Several writers to one reader, one writer to several readers."""
    nodes = {
        "p": ("numbers", {"count": 5}),
        "q": ("numbers", {"count": 5, "first": 100}),
        **dict.fromkeys(("wp", "wq"), "QueueWriter"),
        **dict.fromkeys(("r", "s"), "QueueReader"),
        "kr": ("keep", {"place": "r"}),
        "ks": ("keep", {"place": "s"}),
    }
    edges = ["p -> wp", "q -> wq", "wp -> r", "wq -> r", "wq -> s", "r -> kr", "s -> ks"]
    engine = FlowEngine(flow(nodes, *edges), collector.types, store, acknowledged=acknowledged)

    await engine.run()

    assert sorted(collector.numbers("r")) == [*range(5), *range(100, 105)]
    assert collector.numbers("s") == list(range(100, 105))
    assert await leftovers(store, engine) == []


async def test_failing_node_ends_its_branch_and_not_the_loop(
    store: DataStore, collector: Collector
) -> None:
    """Its item goes to the dead letters with the error; the branch beside it goes on."""
    nodes = {
        "p": ("numbers", {"count": 10}),
        "f": ("fail_every", {"nth": 5}),
        "k": ("keep", {"place": "after"}),
        "other": ("keep", {"place": "beside"}),
    }
    engine = FlowEngine(flow(nodes, "p -> f", "f -> k", "p -> other"), collector.types, store)

    reports = await engine.run()

    assert collector.numbers("after") == [1, 2, 3, 4, 6, 7, 8, 9]
    assert collector.numbers("beside") == list(range(10))
    assert reports["p"].nodes["f"].failed == 2
    letters = await engine.take_dead_letters()
    assert [(x.loop_id, x.node_id, x.item) for x in letters] == [
        ("p", "f", {"n": 0}),
        ("p", "f", {"n": 5}),
    ]
    assert letters[1].error.type == "builtins.ValueError"
    assert letters[1].error.message == "5 is a multiple of 5"
    assert "in fail_every" in letters[1].error.traceback
    assert await engine.take_dead_letters() == []


async def test_what_cannot_be_stored_is_a_failure_of_the_writer(
    store: DataStore, collector: Collector
) -> None:
    """Neither what is not JSON nor what looks like a stop signal gets into a queue."""
    nodes = {"p": ("numbers", {"count": 1}), "x": "raw", "w": "QueueWriter", "r": "QueueReader"}
    engine = FlowEngine(flow(nodes, "p -> x", "x -> w", "w -> r"), collector.types, store)

    await engine.run()

    (letter,) = await engine.take_dead_letters()
    assert (letter.node_id, letter.item, letter.item_text) == ("w", None, "{'n': {0}}")
    assert letter.error.type == "omniq.exceptions.SerializationError"


async def test_failing_producer_ends_its_loop_with_an_error(
    store: DataStore, collector: Collector
) -> None:
    """What came before goes on, and the loops after it end in the ordinary way."""
    nodes = {**TWO_LOOPS, "p": "broken"}
    engine = FlowEngine(flow(nodes, *TWO_LOOPS_EDGES), collector.types, store)

    reports = await engine.run()

    assert collector.numbers() == [0, 2]
    error = reports["p"].error
    assert error is not None
    assert error.message == "the source is gone"
    assert reports["r"].error is None
    assert [letter.node_id for letter in await engine.take_dead_letters()] == ["p"]
    assert await leftovers(store, engine) == []


async def test_conditional_chooses_the_exit(store: DataStore, collector: Collector) -> None:
    """By name, or by True and False; an exit it does not have is a failure."""
    nodes = {
        "p": ("numbers", {"count": 4, "first": 998}),
        "c": ("size", {"limit": 1000}),
        "s": ("keep", {"place": "small"}),
        "b": ("keep", {"place": "big"}),
    }
    engine = FlowEngine(flow(nodes, "p -> c", "c:small -> s", "c:big -> b"), collector.types, store)

    await engine.run()

    assert collector.numbers("small") == [998, 999]
    assert collector.numbers("big") == [1000]
    (letter,) = await engine.take_dead_letters()
    assert "chose 'huge'; the exits of size are small, big" in letter.error.message


async def test_nothing_goes_on_after_none(store: DataStore, collector: Collector) -> None:
    """A node can filter."""
    nodes = {"p": ("numbers", {"count": 6}), "d": "drop_odd", "k": "keep"}

    await FlowEngine(flow(nodes, "p -> d", "d -> k"), collector.types, store).run()

    assert collector.numbers() == [0, 2, 4]


async def test_branches_do_not_see_each_others_changes(
    store: DataStore, collector: Collector
) -> None:
    """Each follower of a node gets an item of its own."""
    nodes = {"p": ("numbers", {"count": 1}), "m": "mark", "k": "keep"}

    await FlowEngine(flow(nodes, "p -> m", "p -> k"), collector.types, store).run()

    assert collector.got["end"] == [{"n": 0}]


async def test_loop_does_not_wait_for_a_non_blocking_node(
    store: DataStore, collector: Collector
) -> None:
    """All items pass while its branch hangs; the loop ends when the branch has."""
    nodes = {
        "p": ("numbers", {"count": 5}),
        "s": "slow",
        "after": ("keep", {"place": "after"}),
        "k": "keep",
    }
    engine = FlowEngine(flow(nodes, "p -> s", "s -> after", "p -> k"), collector.types, store)

    running = asyncio.create_task(engine.run())
    await wait_until(lambda: len(collector.numbers()) == 5, description="all items have passed")
    assert collector.numbers("after") == []
    assert not running.done()
    collector.gate.set()
    await running

    assert sorted(collector.numbers("after")) == list(range(5))


async def test_stop_travels_from_loop_to_loop(store: DataStore, collector: Collector) -> None:
    """An endless flow ends after `stop`, with all it had begun, and leaves nothing behind."""
    nodes = {**TWO_LOOPS, "p": "endless"}
    engine = FlowEngine(flow(nodes, *TWO_LOOPS_EDGES), collector.types, store)

    running = asyncio.create_task(engine.run())
    await wait_until(lambda: len(collector.numbers()) > 10, description="items flow")
    await engine.stop()
    reports = await running

    assert collector.numbers() == [2 * n for n in range(reports["p"].items)]
    assert await leftovers(store, engine) == []


async def test_stop_now_ends_a_reader_nobody_else_would_stop(
    store: DataStore, collector: Collector, acknowledged: bool
) -> None:
    """A reader that is fed from outside runs until it is told; what it did not get to stays."""
    nodes = {"r": ("QueueReader", {"queue_name": "orders"}), "k": "keep"}
    document = flow(nodes, "r -> k")
    engine = FlowEngine(document, collector.types, store, acknowledged=acknowledged)
    await store.queue.push("orders", {"n": 7})

    running = asyncio.create_task(engine.run())
    await wait_until(lambda: collector.numbers() == [7], description="the item has arrived")
    await engine.stop(now=True)
    await running
    await store.queue.push("orders", {"n": 8})

    assert await store.queue.length("orders") == 1
    await engine.clear()
    assert await leftovers(store, engine) == []


async def test_cycle_through_queues_runs_until_stopped(
    store: DataStore, collector: Collector
) -> None:
    """Items go round as long as a node sends them back."""
    nodes = {
        "p": ("numbers", {"count": 3, "first": 1}),
        **dict.fromkeys(("w", "back"), "QueueWriter"),
        "r": "QueueReader",
        "d": "double",
        "c": ("size", {"limit": 100}),
        "k": "keep",
    }
    edges = ["p -> w", "w -> r", "r -> d", "d -> c", "c:small -> back", "back -> r", "c:big -> k"]
    engine = FlowEngine(flow(nodes, *edges), collector.types, store)

    running = asyncio.create_task(engine.run())
    await wait_until(lambda: len(collector.numbers()) == 3, description="all are big enough")
    await engine.stop()
    await running

    assert sorted(collector.numbers()) == [128, 128, 192]
    assert await leftovers(store, engine) == []


async def test_namespaces_never_mix(store: DataStore) -> None:
    """Two runs of one flow in one store at once."""
    collectors = [Collector(), Collector()]
    runs: list[Any] = []
    for n, collector in enumerate(collectors):
        nodes = {**TWO_LOOPS, "p": ("numbers", {"count": 10, "first": 100 * n})}
        document = flow(nodes, *TWO_LOOPS_EDGES)
        runs.append(FlowEngine(document, collector.types, store, namespace=f"run-{n}").run())

    await asyncio.gather(*runs)

    assert collectors[0].numbers() == [2 * n for n in range(10)]
    assert collectors[1].numbers() == [2 * n for n in range(100, 110)]


async def test_each_node_tells_what_it_does(store: DataStore, collector: Collector) -> None:
    """A listener sees start and end of each node, with the error; one that raises does no harm."""
    heard: list[NodeEvent] = []

    def listen(event: NodeEvent) -> None:
        heard.append(event)
        raise RuntimeError("a bad listener")

    nodes = {"p": ("numbers", {"count": 2}), "f": ("fail_every", {"nth": 2})}
    engine = FlowEngine(flow(nodes, "p -> f"), collector.types, store, listener=listen)

    await engine.run()

    kinds = NodeEventType
    assert [(event.event_type, event.node_id) for event in heard] == [
        (kinds.LOOP_STARTED, "p"),
        (kinds.NODE_COMPLETED, "p"),
        (kinds.NODE_STARTED, "f"),
        (kinds.NODE_FAILED, "f"),
        (kinds.NODE_COMPLETED, "p"),
        (kinds.NODE_STARTED, "f"),
        (kinds.NODE_COMPLETED, "f"),
        (kinds.LOOP_STOPPED, "p"),
    ]
    assert heard[3].error is not None
    assert heard[3].error.message == "0 is a multiple of 2"


async def test_cancelled_run_loses_no_acknowledged_item(
    store: DataStore, collector: Collector
) -> None:
    """The item it was at goes back to its queue; the next run works it off, and the stop too."""
    nodes = {**TWO_LOOPS, "k": "slow", "end": "keep"}
    engine = FlowEngine(
        flow(nodes, *TWO_LOOPS_EDGES, "k -> end"), collector.types, store, acknowledged=True
    )
    heard: list[Any] = []
    engine_2 = FlowEngine(
        flow(nodes, *TWO_LOOPS_EDGES, "k -> end"),
        collector.types,
        store,
        acknowledged=True,
        listener=heard.append,
    )
    await engine.run_loop("p")
    broken_off = asyncio.create_task(engine_2.run_loop("r"))
    await wait_until(
        lambda: any(e.node_id == "k" for e in heard), description="the first item is worked on"
    )
    broken_off.cancel()
    await asyncio.wait({broken_off})
    assert broken_off.cancelled()

    collector.gate.set()
    await engine.run_loop("r")

    assert collector.numbers() == [2 * n for n in range(20)]
    assert await leftovers(store, engine) == []


async def test_item_is_kept_leased_while_it_is_worked_on(
    store: DataStore, collector: Collector
) -> None:
    """A node that takes longer than the lease gets its item once."""
    nodes = {"r": ("QueueReader", {"queue_name": "orders"}), "s": "slow", "k": "keep"}
    document = flow(nodes, "r -> s", "s -> k")
    heard: list[Any] = []
    engine = FlowEngine(
        document, collector.types, store, acknowledged=True, lease=0.15, listener=heard.append
    )
    await store.queue.push("orders", {"n": 7})

    running = asyncio.create_task(engine.run())
    await wait_until(lambda: any(e.node_id == "s" for e in heard), description="it is worked on")
    other = await store.queue.receive("orders", timeout=0.5, lease_seconds=5)
    collector.gate.set()
    await wait_until(lambda: collector.numbers() == [7], description="it was worked off")
    await engine.stop()
    await running

    assert other is None
    assert collector.numbers() == [7]


async def test_bad_options_are_refused(store: DataStore, collector: Collector) -> None:
    """Before anything is read or written."""
    document = flow(TWO_LOOPS, *TWO_LOOPS_EDGES)
    options: list[dict[str, Any]] = [
        *({"namespace": "a.b"}, {"namespace": ""}, {"lease": 0}, {"cache_ttl": 0}),
        *({"threads": 0}, {"processes": 0}),
    ]
    for each in options:
        with pytest.raises(ValidationError):
            FlowEngine(document, collector.types, store, **each)
    for types, place in ((None, store), (collector.types, "memory://"), (collector.types, None)):
        with pytest.raises(ValidationError, match=r"expected (NodeTypes|DataStore), got"):
            FlowEngine(document, cast("Any", types), cast("Any", place))
    engine = FlowEngine(document, collector.types, store)
    with pytest.raises(NotFoundError, match="no loop 'd'; it has p, r"):
        await engine.run_loop("d")
