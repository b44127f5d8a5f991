"""How long to wait before the next attempt (pure)."""

from __future__ import annotations

from collections.abc import Callable
from random import random

from omniq.models.task import RetryPolicy, exception_name

NO_RETRY = RetryPolicy()


def delay_before_retry(
    policy: RetryPolicy, attempt: int, *, draw: Callable[[], float] = random
) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 1).

    With `policy.jitter`, `draw` (evenly from 0 to 1) scales it: the "full jitter" of
    M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    delay = min(_uncapped(policy, attempt), policy.max_delay_seconds)
    return delay * draw() if policy.jitter else delay


def allows_retry(policy: RetryPolicy, attempt: int, exception_names: tuple[str, ...]) -> bool:
    """Whether attempt number `attempt` that ended so may be followed by another.

    Args:
        exception_names: the raised class and its bases, see `names_of`; empty for an end that
            no exception caused (a task asking for `Retry`): then only the count decides.
    """
    if attempt > policy.max_retries:
        return False
    if not policy.retry_on or not exception_names:
        return True
    return any(name in policy.retry_on for name in exception_names)


def names_of(error: BaseException) -> tuple[str, ...]:
    """Return the stored names of an exception's class and all its bases, nearest first."""
    return tuple(exception_name(kind) for kind in type(error).__mro__[:-1])


def _uncapped(policy: RetryPolicy, attempt: int) -> float:
    match policy.backoff:
        case "fixed":
            return policy.delay_seconds
        case "linear":
            return policy.delay_seconds * attempt
        case "exponential":
            try:
                return policy.delay_seconds * policy.factor ** (attempt - 1)
            except OverflowError:
                return policy.max_delay_seconds
