# ruff: noqa: S101 - tests assert; a lease token is no password
"""What an event storage must do."""

from __future__ import annotations

import asyncio
from datetime import timedelta, timezone
from typing import Any

import pytest

from omniq.backend.base import BaseBackend
from omniq.clock import utcnow
from omniq.exceptions import SerializationError, SyncInAsyncError, ValidationError
from omniq.models.event import EventType, TaskEvent
from omniq.storage.base import BaseEventStorage, EventFilter
from omniq.testing.contract.samples import (
    HOSTILE_NAMES,
    MICROSECOND,
    NOW,
    UNSTORABLE,
    VALUES,
    Call,
    at,
    missing_twins,
)


def make_event(task_id: str = "a", seconds: float = 0.0, **fields: Any) -> TaskEvent:
    """Return an event so many seconds after `NOW`."""
    known: dict[str, Any] = {"timestamp": at(seconds), "event_type": EventType.STARTED}
    return TaskEvent(task_id=task_id, **(known | fields))


def messages(events: list[TaskEvent]) -> list[str | None]:
    """Return the messages of events, in order."""
    return [event.message for event in events]


class AppendContract:
    """Writing events."""

    async def test_every_field_comes_back(self, events: BaseEventStorage) -> None:
        """As it was given, in UTC."""
        event = make_event(
            "a",
            0.000001,
            event_type=EventType.FAILED,
            message="ошибка 'x'",
            details={"k": {"n": [1, 2.5, None]}},
            worker_id="w",
        )

        await events.append([event, make_event("b")])

        assert await events.get_events("a") == [event]
        assert await events.get_events("b") == [make_event("b")]

    @pytest.mark.parametrize("kind", VALUES)
    async def test_details_of_every_type_come_back_the_same(
        self, events: BaseEventStorage, kind: str
    ) -> None:
        """They are values like arguments."""
        await events.log_event(make_event(details={"k": VALUES[kind]}))

        ((found,), _) = ([one.details["k"] for one in await events.get_all_events()], None)

        assert (found, type(found)) == (VALUES[kind], type(VALUES[kind]))

    @pytest.mark.parametrize("kind", UNSTORABLE)
    async def test_details_that_cannot_be_stored_stop_the_whole_call(
        self, events: BaseEventStorage, kind: str
    ) -> None:
        """Nothing of the batch is stored."""
        with pytest.raises(SerializationError):
            await events.append([make_event(), make_event(details={"k": UNSTORABLE[kind]})])

        assert await events.get_all_events() == []

    @pytest.mark.parametrize(
        "fields",
        [
            {"event_type": ""},
            {"event_type": "a\nb"},
            {"event_type": "x" * 129},
            {"details": [1]},
            {"details": {1: 2}},
            {"timestamp": "now"},
        ],
    )
    async def test_a_bad_event_stops_the_whole_call(
        self, events: BaseEventStorage, fields: dict[str, Any]
    ) -> None:
        """Input is checked before anything is stored."""
        bad = make_event()
        for name, value in fields.items():
            setattr(bad, name, value)

        calls: list[Call] = [
            lambda: events.append([make_event(), bad]),
            lambda: events.log_event(bad),
        ]
        for call in calls:
            with pytest.raises(ValidationError):
                await call()

        assert await events.get_all_events() == []

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    async def test_hostile_ids_are_refused_everywhere(
        self, events: BaseEventStorage, name: str
    ) -> None:
        """No id ever reaches a path, a key or a statement of the store."""
        bad: Any = HOSTILE_NAMES[name]
        calls: list[Call] = [
            lambda: events.append([make_event(), make_event(bad)]),
            lambda: events.log_event(make_event(bad)),
        ]
        if bad is not None:
            calls.append(lambda: events.get_events(bad))

        for call in calls:
            with pytest.raises(ValidationError):
                await call()

        assert await events.get_all_events() == []

    async def test_a_bad_event_does_not_harm_events_logged_at_the_same_time(
        self, events: BaseEventStorage
    ) -> None:
        """Concurrent calls share a batch, but not their errors."""
        bad = make_event(details={"k": object()})

        answers = await asyncio.gather(
            events.log_event(make_event(message="1")),
            events.log_event(bad),
            events.log_event(make_event(message="2")),
            return_exceptions=True,
        )

        assert [type(answer) for answer in answers] == [type(None), SerializationError, type(None)]
        assert messages(await events.get_all_events()) == ["1", "2"]

    async def test_changing_an_event_changes_nothing_stored(self, events: BaseEventStorage) -> None:
        """Neither the one given nor one got."""
        event = make_event(details={"k": [1]})
        await events.log_event(event)

        event.details["k"].append(2)
        event.message = "changed"
        (await events.get_all_events())[0].details["k"].append(3)

        assert await events.get_all_events() == [make_event(details={"k": [1]})]

    @pytest.mark.parametrize(("name", "value"), [("message", 5), ("worker_id", b"w")])
    async def test_an_event_nobody_could_read_stops_the_whole_call(
        self, events: BaseEventStorage, name: str, value: Any
    ) -> None:
        """Stored, it would stand in the way of all others."""
        with pytest.raises(ValidationError, match=name):
            await events.append([make_event("a"), make_event("a", **{name: value})])

        assert await events.get_all_events() == []

    async def test_a_message_may_hold_any_text(self, events: BaseEventStorage) -> None:
        """A file name that is no Unicode, and NUL; shown so that every store can hold it."""
        await events.append([make_event("a", message="no file \ud800\0")])

        assert messages(await events.get_events("a")) == [r"no file \ud800\0"]

    async def test_events_that_are_alike_are_all_stored(self, events: BaseEventStorage) -> None:
        """Nobody said that something happens only once."""
        event = make_event("a", message="again")

        await events.append([event] * 3)
        await events.append([event])

        assert await events.get_events("a") == [event] * 4

    async def test_append_of_nothing_is_nothing(self, events: BaseEventStorage) -> None:
        """An empty batch is no error."""
        await events.append([])

        assert await events.get_all_events() == []


class OrderContract:
    """Reading events: oldest first."""

    async def test_events_come_in_chronological_order(self, events: BaseEventStorage) -> None:
        """By their moment, not by the order of writing."""
        for second in (3, 1, 2):
            await events.log_event(make_event(seconds=second, message=str(second)))

        assert messages(await events.get_all_events()) == ["1", "2", "3"]
        assert messages(await events.get_events("a")) == ["1", "2", "3"]

    async def test_ties_come_in_the_order_of_appending(self, events: BaseEventStorage) -> None:
        """Within a batch and over batches."""
        await events.append([make_event(message=str(n)) for n in range(20)])
        await events.append([make_event("b", message="b"), make_event(message="20")])
        await events.append([make_event(seconds=-1, message="first")])

        expected = ["first", *map(str, range(20))]
        assert messages(await events.get_all_events()) == [*expected, "b", "20"]
        assert messages(await events.get_events("a")) == [*expected, "20"]

    async def test_moments_of_other_zones_sort_rightly(self, events: BaseEventStorage) -> None:
        """Order is that of moments, not of texts."""
        zone = timezone(timedelta(hours=-11))
        await events.log_event(make_event(message="2", timestamp=at(2).astimezone(zone)))
        await events.log_event(make_event(message="1", timestamp=at(1).replace(tzinfo=None)))

        assert messages(await events.get_all_events()) == ["1", "2"]

    async def test_limit_takes_the_oldest(self, events: BaseEventStorage) -> None:
        """And with `newest` the newest, still oldest first."""
        await events.append([make_event(seconds=n, message=str(n)) for n in range(10)])

        assert messages(await events.query(limit=3)) == ["0", "1", "2"]
        assert messages(await events.query(limit=3, newest=True)) == ["7", "8", "9"]
        assert messages(await events.get_events("a", limit=2)) == ["0", "1"]

    async def test_newest_respects_ties(self, events: BaseEventStorage) -> None:
        """The last appended of one moment are the newest."""
        await events.append([make_event(message=str(n)) for n in range(5)])

        assert messages(await events.query(limit=2, newest=True)) == ["3", "4"]

    async def test_many_events_come_back(self, events: BaseEventStorage) -> None:
        """Far more than a page."""
        for start in range(0, 3000, 1000):
            batch = [make_event(f"t{n % 7}", n, message=str(n)) for n in range(start, start + 1000)]
            await events.append(batch)

        assert messages(await events.get_all_events()) == list(map(str, range(3000)))
        assert len(await events.get_events("t3")) == 429

    async def test_concurrent_logs_lose_nothing(self, events: BaseEventStorage) -> None:
        """Coalescing keeps the order of the calls."""
        calls = [events.log_event(make_event(message=str(n))) for n in range(100)]

        await asyncio.gather(*calls)

        assert messages(await events.get_all_events()) == list(map(str, range(100)))


class FilterContract:
    """Which events a query returns."""

    async def test_each_filter_and_all_together(self, events: BaseEventStorage) -> None:
        """From `since` on, before `until`."""
        await events.append(
            [
                make_event("a", 0, message="0"),
                make_event("b", 1, message="1"),
                make_event("a", 2, message="2", event_type=EventType.COMPLETED),
                make_event("a", 3, message="3"),
            ]
        )
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({}, ["0", "1", "2", "3"]),
            ({"task_id": "a"}, ["0", "2", "3"]),
            ({"task_id": "ghost"}, []),
            ({"event_type": EventType.STARTED}, ["0", "1", "3"]),
            ({"since": at(1)}, ["1", "2", "3"]),
            ({"since": at(1 + MICROSECOND)}, ["2", "3"]),
            ({"until": at(2)}, ["0", "1"]),
            ({"until": at(2 + MICROSECOND)}, ["0", "1", "2"]),
            ({"since": at(2), "until": at(2)}, []),
            ({"task_id": "a", "event_type": "started", "since": at(1), "until": at(9)}, ["3"]),
        ]

        for fields, expected in cases:
            assert messages(await events.get_events(**fields)) == expected, fields

    async def test_a_filtered_query_is_full(self, events: BaseEventStorage) -> None:
        """The limit counts matches, from either end."""
        await events.append(
            [
                make_event(seconds=n, message=str(n), event_type="rare" if n % 9 == 0 else "other")
                for n in range(50)
            ]
        )
        where = EventFilter(event_type="rare", task_id="a")

        assert messages(await events.query(where, limit=2)) == ["0", "9"]
        assert messages(await events.query(where, limit=2, newest=True)) == ["36", "45"]

    async def test_known_types_read_in_any_case(self, events: BaseEventStorage) -> None:
        """``"started"`` and ``"STARTED"`` are one type."""
        await events.log_event(make_event(event_type="started"))

        (found,) = await events.get_events(event_type="Started")

        assert found.event_type is EventType.STARTED

    async def test_unknown_types_stay_as_they_are(self, events: BaseEventStorage) -> None:
        """Custom types are text, compared exactly."""
        await events.append([make_event(event_type=kind) for kind in ("Custom", "custom", "é ж")])

        assert [one.event_type for one in await events.get_all_events()] == [
            "Custom",
            "custom",
            "é ж",
        ]
        assert len(await events.get_events(event_type="custom")) == 1

    @pytest.mark.parametrize("limit", [0, -1, 1_000_001])
    async def test_a_bad_limit_is_refused(self, events: BaseEventStorage, limit: int) -> None:
        """An answer is bounded."""
        with pytest.raises(ValidationError):
            await events.query(limit=limit)


class KeepingContract:
    """Deleting events, and the two faces."""

    async def test_purge_deletes_what_is_older(self, events: BaseEventStorage) -> None:
        """Strictly; what happened at that very moment stays."""
        for task_id, seconds in (("a", 1 - MICROSECOND), ("a", 1.0), ("b", 0.0), ("a", 2.0)):
            await events.log_event(make_event(task_id, seconds))

        assert await events.purge(at(1)) == 2

        assert await events.get_all_events() == [make_event("a", 1), make_event("a", 2)]
        assert await events.get_events("b") == []
        assert len(await events.get_events("a")) == 2

    async def test_purge_is_bounded(self, events: BaseEventStorage) -> None:
        """It says how many; a full batch means to call again."""
        await events.append([make_event(f"t{n % 3}", n - 100) for n in range(25)])

        assert [await events.purge(NOW, limit=10) for _ in range(4)] == [10, 10, 5, 0]

    async def test_cleanup_deletes_what_is_over_thirty_days_old(
        self, events: BaseEventStorage
    ) -> None:
        """The default; any other moment can be given."""
        for days in (30.1, 29.9):
            moment = utcnow() - timedelta(days=days)
            await events.log_event(make_event(timestamp=moment, message=str(days)))

        assert await events.cleanup_expired_events() == 1
        assert messages(await events.get_all_events()) == ["29.9"]
        assert await events.cleanup_expired_events(utcnow()) == 1

    async def test_every_coroutine_has_a_twin(self, events: BaseEventStorage) -> None:
        """By one rule of names; a twin never blocks a loop."""
        assert missing_twins(events) == []
        with pytest.raises(SyncInAsyncError, match=r"await .*log_event"):
            events.log_event_sync(make_event())

    async def test_the_twins_do_the_same(self, events: BaseEventStorage) -> None:
        """From a thread without a loop, on the same store."""

        def work() -> list[TaskEvent]:
            events.log_event_sync(make_event(message="1"))
            events.append_sync([make_event("b", 1, message="2")])
            assert messages(events.get_events_sync("b")) == ["2"]
            assert messages(events.query_sync(limit=1, newest=True)) == ["2"]
            return events.get_all_events_sync()

        assert await asyncio.to_thread(work) == await events.get_all_events()

    async def test_closing_twice_and_using_again_is_fine(self, events: BaseEventStorage) -> None:
        """Every method opens the store on first use."""
        await events.connect()
        await events.log_event(make_event())
        await events.disconnect()
        await events.disconnect()

        assert await events.get_all_events() == [make_event()]

    async def test_the_other_object_sees_every_event(
        self, events: BaseEventStorage, second: BaseEventStorage
    ) -> None:
        """In one order, whoever wrote them."""
        for n, one in enumerate([events, second, events]):
            await one.log_event(make_event(message=str(n)))

        assert messages(await events.get_all_events()) == ["0", "1", "2"]
        await events.disconnect()
        assert messages(await second.get_all_events()) == ["0", "1", "2"]


@pytest.mark.asyncio
class EventContract(AppendContract, OrderContract, FilterContract, KeepingContract):
    """Subclass this. `events` is new and empty; `second` is another object on the same store."""

    @pytest.fixture
    def events(self, backend: BaseBackend) -> BaseEventStorage:
        """Return the event storage under test."""
        return backend.get_event_storage()

    @pytest.fixture
    def second(self, second_backend: BaseBackend) -> BaseEventStorage:
        """Return another object on the same store, or skip where stores are not shared."""
        return second_backend.get_event_storage()
