"""Calls held wrong by people who come from elsewhere: one clear error, at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from omniq import ConfigError, OmniQ, ResultTimeoutError, RetryPolicy, ValidationError


@pytest.fixture
def app() -> OmniQ:
    return OmniQ("memory://")


def work() -> None: ...


def declare(app: OmniQ, **options: Any) -> None:
    app.cron("@daily", **options)(work)


WRONG: dict[str, tuple[Callable[[OmniQ], object], type[Exception], str]] = {
    "a bare @cron": (
        lambda app: app.cron(work),  # type: ignore[arg-type]
        ConfigError,
        r'@cron needs its argument: @cron\("0 9 \* \* \*"\)',
    ),
    "a bare @every": (
        lambda app: app.every(work),  # type: ignore[arg-type]
        ConfigError,
        r"@every needs its argument: @every\(60\)",
    ),
    "an option of a schedule misspelt": (
        lambda app: declare(app, time_zone="UTC"),
        TypeError,
        "no option 'time_zone' of a schedule; did you mean 'timezone'",
    ),
    "an option of a worker as on the command line": (
        lambda app: app.worker(grace=5),
        TypeError,
        "there is no option 'grace' of a worker; known are .*grace_seconds",
    ),
    "an interval below the least": (
        lambda app: app.every(0)(work),
        ValidationError,
        r"every: 0 seconds is not between 0\.1 and 315,619,200 \(ten years\)",
    ),
    "parents that are none": (
        lambda app: app.task(work).options(depends_on=3),  # type: ignore[arg-type]
        ValidationError,
        "depends_on: expected ids or handles, got 3",
    ),
    "jitter that is no switch": (
        lambda app: app.task(retry=RetryPolicy(jitter=2))(work),  # type: ignore[arg-type]
        ValidationError,
        r"retry\.jitter: 2 is not True or False",
    ),
    "a timeout as text": (
        lambda app: app.handle("x").result_sync(timeout="5"),  # type: ignore[arg-type]
        ValidationError,
        "timeout: expected seconds or a timedelta, got str",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_it_is_told_at_once(
    call: Callable[[OmniQ], object], error: type[Exception], message: str, app: OmniQ
) -> None:
    """Not by an error of Python deep inside, and not by a schedule that never fires."""
    with pytest.raises(error, match=message):
        call(app)


async def test_a_wait_may_be_given_as_a_timedelta(app: OmniQ) -> None:
    """As all durations; and what is left of another deadline may be less than nothing."""
    handle = await app.enqueue("elsewhere")

    for timeout in (timedelta(milliseconds=1), -1.0, 0):
        with pytest.raises(ResultTimeoutError):
            await handle.result(timeout=timeout)
        with pytest.raises(ResultTimeoutError):
            await handle.wait(timeout=timeout)
