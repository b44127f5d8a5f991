"""The tree of a log heals: after publishers that die, sleep, or are answered too late."""

from __future__ import annotations

from random import Random

import pytest

from omniq.exceptions import OmniQError, StorageUnavailableError
from omniq.storage.objectstore import backlog as backlog_module
from omniq.storage.objectstore import publisher as publisher_module
from omniq.storage.objectstore.publisher import Publisher
from omniq.storage.objectstore.tree import RENEW_SECONDS, SILENCE_SECONDS, Tree
from omniq.testing.waiting import wait_until
from tests.unit.object_doubles import DictStore, nothing, once, unanswered
from tests.unit.object_logs import often
from tests.unit.object_trees import LEAVES, MARK, Party, cost, folders, party, shown, store

__all__ = ["often", "party", "store"]


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


async def test_a_new_publisher_knows_no_less_than_the_last(store: DictStore) -> None:
    """What the last one showed of a later commit would stay, if this one did not know of it."""
    dead, heir = Party(store), Party(store)
    await dead.insert("a")
    await dead.tree.turn()
    await heir.insert("b")
    await dead.claim(2)
    dead.driver.before = _fail_at_the_mark
    with pytest.raises(StorageUnavailableError):
        await dead.tree.turn()
    assert folders(store) == ["running a", "running b"]
    await heir.tree.turn()
    store.clock.seconds += SILENCE_SECONDS
    await heir.tree.turn()
    await heir.finish("a")
    await _settle(heir)

    assert folders(store) == ["completed a", "running b"]


async def _fail_at_the_mark(what: str, key: str) -> None:
    """Die when all is shown, before that is told."""
    if what == "put" and key == MARK:
        raise StorageUnavailableError("dead")


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
    late.driver.before = nothing
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


async def test_the_mark_of_a_log_that_is_gone_says_nothing(store: DictStore) -> None:
    """Somebody deleted the log to begin anew, and overlooked the mark."""
    old = Party(store)
    for name in "abc":
        await old.insert(name)
    await old.tree.turn(is_last=True)
    for key in [key for key in store.objects if key.startswith("tasks/.log")]:
        del store.objects[key]

    new = Party(store)
    await new.insert("d")
    await new.tree.turn()

    assert folders(store) == ["pending d"]


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
        party.driver.before = party.driver.after = nothing


async def _settle(party: Party) -> None:
    """Take turns until there is nothing more to publish, if need be in the place of another."""
    for _ in range(6):
        if party.tree.is_settled:
            return
        await party.tree.turn()
        party.store.clock.seconds += SILENCE_SECONDS
    assert party.tree.is_settled


class Stumbling(Tree):
    """A tree whose first turn fails as nothing foresaw."""

    has_fallen = False

    async def turn(self, *, is_last: bool = False) -> None:
        if not self.has_fallen:
            self.has_fallen = True
            raise LookupError("nobody foresaw this")
        await super().turn(is_last=is_last)


async def test_what_nobody_foresaw_does_not_end_publishing(
    store: DictStore,
    party: Party,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the next turn publishes."""
    for name in ("INTERVAL_SECONDS", "LONGEST_SECONDS"):
        monkeypatch.setattr(publisher_module, name, 0.01)
    party.tree = Stumbling(party.driver, "tasks", party.log, LEAVES, clock=store.clock)
    publisher = Publisher(party.tree)
    await party.insert("a", "b")

    publisher.take_part()
    await wait_until(lambda: shown(store) == party.expected(), description="the tree is published")
    await publisher.close()

    assert "nobody foresaw this" in caplog.text
