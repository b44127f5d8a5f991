"""A log of objects: one order, one winner, and nothing trusted for longer than it may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain, pairwise

import pytest

from omniq.exceptions import NotFoundError, SchemaError, StorageUnavailableError
from omniq.storage.objectstore import log as log_module
from omniq.storage.objectstore.frames import Header, pack
from omniq.storage.objectstore.log import SNAPSHOT_EVERY, TRIM_AGE
from omniq.storage.objectstore.schedulestate import ScheduleLogState
from tests.unit.object_doubles import DictStore, nothing, once, unanswered
from tests.unit.object_logs import Log, count, counted, driver_of, new_log, number, often, put

HOUR = TRIM_AGE.total_seconds()
__all__ = ["often"]


async def test_what_was_committed_is_seen_by_all() -> None:
    """At once: each read learns first that nothing newer is there."""
    store = DictStore()
    one, other = new_log(store), new_log(store)

    await one.run(put("a"))
    assert await other.run(lambda state: state.get("a")) == b"1"
    await other.run(put("a", "2"))
    assert await one.run(lambda state: state.get("a")) == b"2"


async def test_calls_of_one_moment_are_one_commit() -> None:
    """However many they are: one request."""
    store = DictStore()
    log = new_log(store)
    await log.look()
    driver_of(log).requests.clear()

    answers = await asyncio.gather(*(log.run(count) for _ in range(500)))

    assert answers == list(range(1, 501))
    assert driver_of(log).requests == {"put": 1}


async def test_calls_that_write_much_are_several_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No object grows beyond what one request can carry; a single call is never divided."""
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 5_000)
    store = DictStore()
    log = new_log(store)
    text = f'"{"x" * 2_000}"'

    await asyncio.gather(*(log.run(put(f"k{n}", text)) for n in range(8)))
    await log.run(put("large", f'"{"x" * 9_000}"'))

    assert len(store.keys("tasks/.log")) == 5
    assert len(await new_log(store).run(lambda state: state.items())) == 9


async def test_reads_of_one_moment_are_one_request() -> None:
    """Asking whether something newer is there answers all who wait."""
    log = new_log(DictStore())
    await log.run(count)
    driver_of(log).requests.clear()

    assert await asyncio.gather(*(log.run(number) for _ in range(100))) == [1] * 100
    assert driver_of(log).requests == {"get": 1}


@pytest.mark.parametrize("racers", [2, 4])
async def test_racing_logs_lose_nothing(racers: int) -> None:
    """Who loses the race computes anew on what the winner did."""
    store = DictStore()
    logs = [new_log(store) for _ in range(racers)]
    for log in logs:
        driver_of(log).before = _yielding

    async def add(log: Log) -> list[int]:
        return [await log.run(count) for _ in range(40)]

    seen = await asyncio.gather(*map(add, logs))

    assert sorted(chain(*seen)) == list(range(1, 40 * racers + 1))
    assert await counted(store) == 40 * racers
    assert set(store.written.values()) == {1}


async def test_a_lost_race_leaves_no_trace() -> None:
    """What the loser would have done is done by nobody."""
    store = DictStore()
    winner, loser = new_log(store), new_log(store)
    await asyncio.gather(winner.look(), loser.look())

    def take(name: str) -> Callable[[ScheduleLogState], bool]:
        def job(state: ScheduleLogState) -> bool:
            if state.get("taken") is not None:
                return False
            state.put("taken", b"1")
            state.put(name, b"1")
            return True

        return job

    assert await winner.run(take("winner"))
    assert not await loser.run(take("loser"))

    assert await loser.run(lambda state: state.items()) == [("taken", b"1"), ("winner", b"1")]


async def _yielding(what: str, key: str) -> None:
    await asyncio.sleep(0)


async def test_a_job_that_fails_takes_only_itself_back() -> None:
    """The others of its batch are committed."""
    log = new_log(DictStore())

    def fail(state: ScheduleLogState) -> None:
        state.put("a", b"2")
        raise NotFoundError("no")

    results = await asyncio.gather(
        log.run(put("a")), log.run(fail), log.run(put("b")), return_exceptions=True
    )

    assert [type(one) for one in results] == [type(None), NotFoundError, type(None)]
    assert await log.run(lambda state: state.items()) == [("a", b"1"), ("b", b"1")]


async def test_a_caller_that_gave_up_hurts_nobody() -> None:
    """Cancelled while its batch is under way; the batch goes on."""
    store = DictStore()
    log = new_log(store)
    started, gate = asyncio.Event(), asyncio.Event()

    async def wait(what: str, key: str) -> None:
        if what == "put":
            started.set()
            await gate.wait()

    driver_of(log).before = wait
    one, other = asyncio.create_task(log.run(put("a"))), asyncio.create_task(log.run(put("b")))
    await started.wait()
    one.cancel()
    gate.set()

    await other
    assert store.keys("tasks/.log") == [f"{1:012d}"]


async def test_a_lost_request_changes_nothing() -> None:
    """The error says so to its caller alone; the next call finds all as it was."""
    store = DictStore()
    log = new_log(store)
    await log.run(count)
    driver_of(log).before = once(unanswered)

    with pytest.raises(StorageUnavailableError):
        await log.run(count)

    assert await log.run(number) == 1
    assert await log.run(count) == 2


async def test_a_lost_reply_is_found_out_about() -> None:
    """The driver could not tell; the next look can: what was written counts, once."""
    store = DictStore()
    log = new_log(store)
    await log.run(count)
    driver_of(log).after = once(unanswered)

    with pytest.raises(StorageUnavailableError):
        await log.run(count)

    assert await log.run(number) == 2
    assert await log.run(count) == 3
    assert await counted(store) == 3


async def test_a_process_that_dies_at_any_request_leaves_a_whole_state() -> None:
    """Between any two requests, also of a snapshot and of its cleaning up."""
    for dies_after in range(1, 60):
        store = DictStore()
        dead = new_log(store)
        left = dies_after

        async def die(what: str, key: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise RuntimeError("dead")

        driver_of(dead).before = die
        done = 0
        with pytest.raises(RuntimeError):  # noqa: PT012 - until it is dead
            while True:
                store.clock.seconds += HOUR / 3
                done = await dead.run(count)

        assert await counted(store) == done
        assert await new_log(store).run(count) == done + 1


async def test_a_snapshot_is_taken_every_so_often() -> None:
    """By whoever commits that number, so that a start is quick."""
    store = DictStore()
    one, other = new_log(store), new_log(store)
    for n in range(SNAPSHOT_EVERY + 3):
        await (one if n % 2 else other).run(count)
    await one.close()
    await other.close()

    assert store.keys("tasks/.snapshots") == [f"{SNAPSHOT_EVERY:012d}"]
    late = new_log(store)
    assert await late.run(number) == SNAPSHOT_EVERY + 3
    assert driver_of(late).requests == {"list": 1, "get": 1 + 1 + 2 + 4}


async def test_large_commits_are_snapshot_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes; but a large state not for every few of them."""
    monkeypatch.setattr(log_module, "SNAPSHOT_BYTES", 10_000)
    store = DictStore()
    log = new_log(store)
    for n in range(40):
        await log.run(put(f"k{n}", f'"{"x" * 3000}"'))
        await log.close()

    numbers = list(map(int, store.keys("tasks/.snapshots")))
    assert numbers[0] == 4
    steps = [after - before for before, after in pairwise(numbers)]
    assert steps == sorted(steps)
    assert steps[-1] > 4


@pytest.mark.usefixtures("often")
async def test_old_segments_are_deleted_but_not_before_their_time() -> None:
    """What a snapshot covers goes when that snapshot is an hour old; the newest stays."""
    store = DictStore()
    log = new_log(store)
    for _ in range(16):
        await log.run(count)
        await log.close()
    assert len(store.keys("tasks/.log")) == 16

    store.clock.seconds += HOUR + 1
    for _ in range(4):
        await log.run(count)
        await log.close()

    assert store.keys("tasks/.snapshots") == [f"{n:012d}" for n in (16, 20)]
    assert store.keys("tasks/.log") == [f"{n:012d}" for n in (17, 18, 19, 20)]
    assert await counted(store) == 20


async def test_a_damaged_record_hides_no_other() -> None:
    """It is set aside, named, and the rest of its segment counts."""
    store = DictStore()
    log = new_log(store)
    await asyncio.gather(log.run(put("a")), log.run(put("b")), log.run(put("c")))
    key = f"tasks/.log/{1:012d}"
    stored, moment = store.objects[key]
    store.objects[key] = stored._replace(data=stored.data.replace(b'"b"', b'"x"')), moment

    late = new_log(store)
    assert await late.run(lambda state: state.items()) == [("a", b"1"), ("c", b"1")]
    await late.close()

    ((where, line),) = late.damages
    assert where == key
    assert b'"x"' in line
    assert store.keys("tasks/.damaged") == [f"{1:012d}-0001"]


@pytest.mark.usefixtures("often")
async def test_a_damaged_snapshot_is_made_up_for() -> None:
    """By the one before and the segments in between, which are kept for an hour."""
    store = DictStore()
    log = new_log(store)
    for _ in range(9):
        await log.run(count)
        await log.close()
    for seq in (4, 8):
        key = f"tasks/.snapshots/{seq:012d}"
        stored, moment = store.objects[key]
        if seq == 8:
            store.objects[key] = stored._replace(data=stored.data[:-9]), moment

    late = new_log(store)
    assert await late.run(number) == 9
    assert late.damages == []


async def test_a_log_of_a_later_version_is_refused() -> None:
    """Rather than read in part."""
    store = DictStore()
    store.write(f"tasks/.log/{1:012d}", pack(Header(2, "n"), []))

    with pytest.raises(SchemaError, match="update OmniQ"):
        await new_log(store).look()


async def test_who_always_loses_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was changed then."""
    monkeypatch.setattr(log_module, "ATTEMPTS", 5)
    store = DictStore()
    loser, other = new_log(store), new_log(store)

    async def be_faster(what: str, key: str) -> None:
        if what == "put":
            await other.run(count)

    driver_of(loser).before = be_faster
    with pytest.raises(StorageUnavailableError, match="nothing was changed"):
        await loser.run(put("a"))

    driver_of(loser).before = nothing
    assert await loser.run(lambda state: state.get("a")) is None
    assert await loser.run(number) == 5
