"""Logs over a store in a dict, and jobs for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omniq.storage.objectstore import log as log_module
from omniq.storage.objectstore.log import ObjectLog
from omniq.storage.objectstore.schedulestate import ScheduleLogState
from tests.unit.object_doubles import DictDriver, DictStore

Log = ObjectLog[ScheduleLogState]


def new_log(store: DictStore, *, is_conditional: bool = True) -> Log:
    driver = DictDriver(store, is_conditional=is_conditional)
    return ObjectLog(driver, "tasks", ScheduleLogState(), clock=store.clock)


def driver_of(log: Log) -> DictDriver:
    driver = log._driver  # pyright: ignore[reportPrivateUsage] - to hurt it
    assert isinstance(driver, DictDriver)
    return driver


def put(key: str, text: str = "1") -> Callable[[ScheduleLogState], None]:
    return lambda state: state.put(key, text.encode())


def count(state: ScheduleLogState) -> int:
    """Add one to a counter; return what it says then."""
    number = int(state.get("n") or b"0") + 1
    state.put("n", str(number).encode())
    return number


def number(state: ScheduleLogState) -> int:
    return int(state.get("n") or b"0")


async def counted(store: DictStore) -> int:
    """Return what a process that starts now sees."""
    log = new_log(store)
    found = await log.run(number)
    await log.close()
    return found


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a snapshot every four commits."""
    monkeypatch.setattr(log_module, "SNAPSHOT_EVERY", 4)
