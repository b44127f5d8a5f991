"""The tree of a log: a copy that one process publishes, cheaply, and that heals."""

from __future__ import annotations

import asyncio

import pytest

from omniq.models.task import Task
from omniq.storage.file.codec import FileCodec
from omniq.storage.file.records import read_record, stem_of
from omniq.storage.objectstore.leaves import TaskLeaves
from omniq.storage.objectstore.tree import SILENCE_SECONDS, published
from omniq.testing.contract.samples import NOW
from tests.unit.object_doubles import DictStore
from tests.unit.object_logs import often
from tests.unit.object_trees import LEAVES, Party, cost, folders, party, shown, store

__all__ = ["often", "party", "store"]


async def test_each_status_of_a_task_is_a_folder(store: DictStore, party: Party) -> None:
    """It moves through them as it goes on, and is in one at a time."""
    await party.insert("a", "b")
    await party.tree.turn()
    assert folders(store) == ["pending a", "pending b"]
    await party.claim()
    await party.tree.turn()
    assert folders(store) == ["pending b", "running a"]
    await party.finish("a")
    await party.tree.turn()
    assert folders(store) == ["completed a", "pending b"]
    await party.purge()
    await party.tree.turn()
    assert folders(store) == ["pending b"]


async def test_names_and_texts_are_those_of_local_files(store: DictStore) -> None:
    """So that what reads the one reads the other: order by name, state and request by line."""
    codec = FileCodec(Task, ("args", "kwargs", "metadata"))
    task = Task(func="f", id="a", args=(1, "x"), priority=7, created_at=NOW, queue_name="mail")
    leaves = TaskLeaves(codec)
    row = task, codec.encode(task)

    assert leaves.place(row) == f"mail/pending/{stem_of(task)}.json"
    assert leaves.is_place(leaves.place(row))
    assert read_record("a", leaves.text(row)).whole(codec) == task


async def test_arguments_that_cannot_be_read_are_shown_as_that() -> None:
    """Pickled by another process, say: the others are published all the same."""
    task = Task(func="f", id="a", args=(1,))
    pickles = FileCodec(Task, ("args", "kwargs", "metadata"), format="pickle")

    assert b"pickle" in LEAVES.text((task, pickles.encode(task)))


async def test_what_comes_and_goes_in_between_is_never_written(
    store: DictStore, party: Party
) -> None:
    """A task that is claimed and completed between two publications costs one write."""
    await party.insert("first")
    await party.tree.turn()
    cost(party)

    await party.insert("a")
    await party.claim(2)
    await party.finish("a")
    cost(party)
    await party.tree.turn()

    assert folders(store) == ["completed a", "running first"]
    assert cost(party) == {"put": 2 + 1, "delete": 1}


async def test_a_tree_that_is_settled_costs_nothing(store: DictStore, party: Party) -> None:
    """Nor does a lease that is renewed: nothing a person would look for has changed."""
    await party.insert("a")
    await party.claim()
    await party.tree.turn()
    assert party.tree.is_settled
    cost(party)

    await party.tree.turn()
    assert cost(party) == {}


@pytest.mark.usefixtures("often")
async def test_the_mark_follows_snapshots(store: DictStore, party: Party) -> None:
    """Who starts with one knows all that changed since the mark, and need not compare."""
    await party.insert("a")
    await party.tree.turn()
    for n in range(4):
        await party.log.run(lambda state, n=n: state.set_paused("q", paused=n % 2 == 0))
        await party.log.close()
    assert not party.tree.is_settled
    cost(party)

    await party.tree.turn()

    assert cost(party) == {"put": 1}
    assert await published(party.driver, "tasks") == 5


async def test_one_process_publishes_and_others_keep_away(store: DictStore, party: Party) -> None:
    """They look once whether it has, and forget what it has published."""
    other = Party(store)
    await party.insert("a")
    await party.tree.turn()
    await other.insert("b")
    await other.tree.turn()
    assert folders(store) == ["pending a"]

    await party.log.look()
    await party.tree.turn()
    cost(other)
    await other.tree.turn()

    assert folders(store) == ["pending a", "pending b"]
    assert cost(other) == {"get": 1}
    assert other.tree.is_settled


async def test_a_publisher_that_fell_silent_is_replaced(store: DictStore, party: Party) -> None:
    """After a minute in which there was something to publish and its mark did not change."""
    other = Party(store)
    await party.insert("a")
    await party.tree.turn()
    await other.insert("b")
    await other.tree.turn()
    store.clock.seconds += SILENCE_SECONDS - 1
    await other.tree.turn()
    assert folders(store) == ["pending a"]

    store.clock.seconds += 1
    cost(other)
    await other.tree.turn()

    assert folders(store) == ["pending a", "pending b"]
    assert "list" not in cost(other), "what changed is known from the log"


async def test_a_publisher_that_left_is_replaced_at_once(store: DictStore, party: Party) -> None:
    """A program that ends says so."""
    await party.insert("a")
    await party.tree.turn(is_last=True)
    other = Party(store)
    await other.insert("b")

    await other.tree.turn()

    assert folders(store) == ["pending a", "pending b"]


async def test_only_what_is_committed_is_shown(store: DictStore, party: Party) -> None:
    """While a commit is on its way nobody knows whether it will be."""
    await party.insert("a")
    await party.tree.turn()
    sent, gate = asyncio.Event(), asyncio.Event()

    async def wait(what: str, key: str) -> None:
        if key.startswith("tasks/.log") and what == "put":
            sent.set()
            await gate.wait()

    party.driver.before = wait
    claim = asyncio.create_task(party.claim())
    insert = asyncio.create_task(party.insert("b"))
    await sent.wait()
    assert party.expected().keys() == shown(store).keys()
    await party.tree.turn()
    assert folders(store) == ["pending a"]

    gate.set()
    await asyncio.gather(claim, insert)
    await party.tree.turn()
    assert folders(store) == ["pending b", "running a"]
