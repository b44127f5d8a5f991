"""The tree of a log: a copy that one process publishes, cheaply, and that heals."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from omniq.exceptions import OmniQError, StorageUnavailableError
from omniq.models.task import Task
from omniq.storage.file.codec import FileCodec
from omniq.storage.file.records import read_record, stem_of
from omniq.storage.objectstore import backlog as backlog_module
from omniq.storage.objectstore.leaves import TaskLeaves
from omniq.storage.objectstore.tree import RENEW_SECONDS, SILENCE_SECONDS, published
from omniq.testing.contract.samples import NOW
from tests.unit.object_doubles import DictStore, once, unanswered
from tests.unit.object_logs import often
from tests.unit.object_trees import LEAVES, MARK, Party, folders, shown

__all__ = ["often"]


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def party(store: DictStore) -> Party:
    return Party(store)


def cost(party: Party) -> dict[str, int]:
    """Return the requests since last asked."""
    spent = dict(party.driver.requests)
    party.driver.requests.clear()
    return spent


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


async def test_a_publisher_that_dies_at_any_request_is_made_up_for(store: DictStore) -> None:
    """Whatever it left half done, the next one does again."""
    for dies_after in range(1, 40):
        store = DictStore()
        dead, heir = Party(store), Party(store)
        await dead.insert("a", "b", "c")
        await dead.tree.turn()
        await heir.log.look()
        await dead.claim(2)
        await dead.finish("a")
        store.clock.seconds += RENEW_SECONDS
        left = dies_after

        async def die(what: str, key: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise StorageUnavailableError("dead")

        dead.driver.before = die
        try:
            await dead.tree.turn()
        except StorageUnavailableError:
            await heir.finish("b")
            await _settle(heir)
            assert shown(store) == heir.expected()
            assert folders(store) == ["completed a", "completed b", "pending c"]
        else:
            assert dies_after > 5
            return


async def test_a_zombie_that_writes_late_is_made_up_for(store: DictStore) -> None:
    """Stopped in the middle of a write, it goes on when another has long published."""
    zombie, heir = Party(store), Party(store)
    await zombie.insert("a")
    await zombie.tree.turn()
    await zombie.claim()

    async def sleep(what: str, key: str) -> None:
        await heir.finish("a")
        await _settle(heir)
        assert folders(store) == ["completed a"]

    zombie.driver.before = once(sleep)
    await zombie.tree.turn()
    assert folders(store) == ["completed a", "running a"]

    await heir.insert("b")
    await _settle(heir)
    assert folders(store) == ["completed a", "pending b"]
    assert shown(store) == heir.expected()


async def test_a_write_that_came_late_is_made_up_for(store: DictStore) -> None:
    """No answer came, another took over, and then it was carried out after all."""
    late, heir = Party(store), Party(store)
    await late.insert("a")
    await late.tree.turn()
    await late.claim()
    (place,) = late.expected()
    late.driver.before = once(unanswered)
    with pytest.raises(StorageUnavailableError):
        await late.tree.turn()
    late.driver.before = _nothing
    await heir.finish("a")
    await _settle(heir)
    store.write(f"tasks/{place}", b"late")

    await late.tree.turn()
    await heir.insert("b")
    await _settle(heir)

    assert folders(store) == ["completed a", "pending b"]


async def test_a_long_publication_renews_its_mark(store: DictStore, party: Party) -> None:
    """Or the others would take it for silent."""
    await party.insert(*(f"t{n}" for n in range(500)))

    async def take_time(what: str, key: str) -> None:
        store.clock.seconds += 0.25

    party.driver.before = take_time
    await party.tree.turn()

    assert store.written[MARK] > 500 * 0.25 / SILENCE_SECONDS + 2


async def test_a_tree_that_is_deleted_grows_again(store: DictStore, party: Party) -> None:
    """With the mark, as a whole, at the next change; without it, what changes from then on."""
    await party.insert("a", "b")
    await party.tree.turn()
    for key in [key for key in store.objects if key.startswith(("tasks/default/", MARK))]:
        del store.objects[key]

    await party.insert("c")
    await party.tree.turn()
    await party.tree.turn()

    assert folders(store) == ["pending a", "pending b", "pending c"]


async def test_a_new_tree_leaves_what_is_not_its_own(store: DictStore, party: Party) -> None:
    """What lies there under other names belongs to somebody; what is damaged or old does not."""
    await party.insert("a")
    (place,) = party.expected()
    old = place.replace("pending", "running")
    store.write(f"tasks/{place}", b"damaged")
    store.write(f"tasks/{old}", b"old")
    store.write("tasks/default/pending/notes.json", b"foreign")
    store.write("tasks/readme.txt", b"foreign")
    store.write(MARK, b"damaged")

    await party.tree.turn()

    kept = {"default/pending/notes.json": b"foreign", "readme.txt": b"foreign"}
    assert shown(store) == {**party.expected(), **kept}


async def test_what_stands_already_is_not_written_again(store: DictStore, party: Party) -> None:
    """Comparing costs a read each, a twelfth of a write."""
    await party.insert("a", "b", "c")
    await party.tree.turn()
    del store.objects[MARK]
    late = Party(store)
    await late.log.look()
    cost(late)

    await late.tree.turn()

    assert cost(late) == {"get": 1 + 1 + 3, "list": 1, "put": 2}


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


async def test_a_process_that_fell_far_behind_compares(
    store: DictStore, party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not keep all that ever changed while nobody publishes."""
    monkeypatch.setattr(backlog_module, "MOST_TRACES", 10)
    await party.insert("t")
    await party.tree.turn()
    for n in range(12):
        await party.insert(f"t{n}")
    await party.claim(5)
    cost(party)

    await party.tree.turn()

    assert cost(party)["list"] == 1
    assert shown(store) == party.expected()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_the_tree_is_right_in_the_end(seed: int) -> None:
    """Three processes, requests that fail or answer too late, publishers that sleep: it heals."""
    random, store = Random(seed), DictStore()
    parties = [Party(store) for _ in range(3)]
    for _ in range(60):
        party = random.choice(parties)
        store.clock.seconds += random.choice([0, 1, 20, 70])
        if random.random() < 0.5:
            await _do_something(party, random)
        else:
            await _turn_in_trouble(party, parties, random)
    last = parties[0]
    await last.insert("the-last")
    for _ in range(3):
        for party in parties:
            await party.log.look()
            await _settle(party)
            await party.log.close()
    await last.insert("the-very-last")
    await _settle(last)

    assert shown(store) == last.expected()


async def _do_something(party: Party, random: Random) -> None:
    what = random.randrange(8)
    if what < 3:
        await party.insert(f"t{random.randrange(12)}")
    elif what < 5:
        await party.claim(random.randrange(1, 3))
    elif what < 7:
        await party.finish(f"t{random.randrange(12)}")
    else:
        await party.purge()


async def _turn_in_trouble(party: Party, parties: list[Party], random: Random) -> None:
    """Take a turn in which one request may fail, or may take so long that others take over."""
    left = random.randrange(12)
    is_slow, is_late = random.random() < 0.5, random.random() < 0.5

    async def strike(what: str, key: str) -> None:
        nonlocal left
        left -= 1
        if left == 0 and is_slow:
            store = party.store
            for other in [one for one in parties if one is not party]:
                await _do_something(other, random)
                await other.tree.turn()
                store.clock.seconds += SILENCE_SECONDS
                await other.tree.turn()
        elif left == 0:
            await unanswered(what, key)

    if is_late:
        party.driver.after = strike
    else:
        party.driver.before = strike
    try:
        await party.tree.turn()
    except OmniQError:
        pass
    finally:
        party.driver.before = party.driver.after = _nothing


async def _nothing(what: str, key: str) -> None: ...


async def _settle(party: Party) -> None:
    """Take turns until there is nothing more to publish, if need be in the place of another."""
    for _ in range(6):
        if party.tree.is_settled:
            return
        await party.tree.turn()
        party.store.clock.seconds += SILENCE_SECONDS
    assert party.tree.is_settled
