"""Retry policies: how long to wait, and whether at all."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq.exceptions import ValidationError
from omniq.models.checks import check_retry
from omniq.models.task import Backoff, RetryPolicy
from omniq.retry import allows_retry, delay_before_retry, names_of
from tests.naming import stable_id

seconds = st.floats(0, 10_000)
policies = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 10_000),
    delay_seconds=seconds,
    backoff=st.sampled_from(["fixed", "linear", "exponential"]),
    factor=st.floats(1, 1000),
    max_delay_seconds=seconds,
    jitter=st.booleans(),
)


class AppError(Exception):
    """An error of the user's."""


class NarrowError(AppError, KeyError):
    """A more special one."""


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        ("fixed", [2, 2, 2, 2, 2]),
        ("linear", [2, 4, 6, 8, 10]),
        ("exponential", [2, 6, 18, 54, 100]),
    ],
)
def test_delays_grow_as_the_backoff_says(backoff: Backoff, delays: list[float]) -> None:
    """The three shapes people know, none over the cap."""
    policy = RetryPolicy(delay_seconds=2, backoff=backoff, factor=3, max_delay_seconds=100)

    assert [delay_before_retry(policy, attempt) for attempt in range(1, 6)] == delays


@given(policies, st.integers(1, 1_000_000), st.floats(0, 1))
def test_no_delay_is_negative_or_over_the_cap(
    policy: RetryPolicy, attempt: int, drawn: float
) -> None:
    """However many attempts: no overflow, no task lost in the far future."""
    delay = delay_before_retry(policy, attempt, draw=lambda: drawn)

    assert 0 <= delay <= policy.max_delay_seconds


@given(policies, st.integers(1, 1000))
def test_delays_never_shrink_from_attempt_to_attempt(policy: RetryPolicy, attempt: int) -> None:
    """Backing off means backing off."""
    policy = msgspec.structs.replace(policy, jitter=False)

    assert delay_before_retry(policy, attempt) <= delay_before_retry(policy, attempt + 1)


@given(policies, st.integers(1, 100), st.floats(0, 1))
def test_jitter_draws_evenly_below_the_full_delay(
    policy: RetryPolicy, attempt: int, drawn: float
) -> None:
    """Full jitter: tasks that failed together come back apart."""
    plain = msgspec.structs.replace(policy, jitter=False)
    jittered = msgspec.structs.replace(policy, jitter=True)

    delay = delay_before_retry(jittered, attempt, draw=lambda: drawn)

    assert delay == delay_before_retry(plain, attempt) * drawn


@given(st.integers(0, 100), st.integers(1, 200))
def test_the_first_attempt_is_not_a_retry(max_retries: int, attempt: int) -> None:
    """`max_retries=3` means four attempts."""
    policy = RetryPolicy(max_retries=max_retries)

    assert allows_retry(policy, attempt, ()) == (attempt <= max_retries)


@pytest.mark.parametrize(
    ("error", "retried"),
    [(AppError(), True), (NarrowError(), True), (KeyError(), False), (OSError(), False)],
)
def test_only_the_exceptions_asked_for_and_their_subclasses_are_retried(
    error: Exception, retried: bool
) -> None:
    """A bug is not repeated where only network errors should be."""
    policy = RetryPolicy(max_retries=1, retry_on=(AppError,))

    assert allows_retry(policy, 1, names_of(error)) is retried


def test_an_end_without_an_exception_is_retried_whatever_is_listed() -> None:
    """A task that raises `Retry` asks for it itself."""
    policy = RetryPolicy(max_retries=1, retry_on=(AppError,))

    assert allows_retry(policy, 1, ())


def test_exception_names_are_full_and_nearest_first() -> None:
    """Two classes of the same name in two modules are not confused; `object` matches nothing."""
    names = names_of(NarrowError())

    assert names[0] == f"{__name__}.NarrowError"
    assert "builtins.KeyError" in names
    assert names[-1] == "builtins.BaseException"


@pytest.mark.parametrize(
    "given_as",
    [OSError, "builtins.OSError", (OSError,), ("builtins.OSError",), [OSError], {OSError}],
    ids=stable_id,
)
def test_one_exception_or_several_in_any_spelling(given_as: object) -> None:
    """`retry_on=OSError` and `retry_on="builtins.OSError"` mean what they say."""
    assert RetryPolicy(retry_on=given_as).retry_on == ("builtins.OSError",)  # pyright: ignore[reportArgumentType] - user input


@pytest.mark.parametrize("given_as", [5, (int,), (None,), OSError()], ids=stable_id)
def test_what_is_no_exception_is_refused(given_as: object) -> None:
    """A policy that silently never matches is worse than an error."""
    with pytest.raises(ValidationError, match="neither an exception class nor a name"):
        RetryPolicy(retry_on=given_as)  # pyright: ignore[reportArgumentType] - user input


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_retries": -1}, "retry.max_retries"),
        ({"max_retries": True}, "retry.max_retries"),
        ({"max_retries": 1.5}, "retry.max_retries"),
        ({"max_retries": 10_001}, "retry.max_retries"),
        ({"delay_seconds": -1}, "retry.delay_seconds"),
        ({"delay_seconds": float("nan")}, "retry.delay_seconds"),
        ({"delay_seconds": "1"}, "retry.delay_seconds"),
        ({"max_delay_seconds": float("inf")}, "retry.max_delay_seconds"),
        ({"backoff": "cubic"}, "retry.backoff"),
        ({"factor": 0.5}, "retry.factor"),
        ({"factor": "2"}, "retry.factor"),
        ({"factor": float("nan")}, "retry.factor"),
    ],
)
def test_a_bad_policy_is_refused_by_field(changes: dict[str, object], field: str) -> None:
    """Before anything is stored, and naming the culprit."""
    policy = msgspec.structs.replace(RetryPolicy(), **changes)

    with pytest.raises(ValidationError) as caught:
        check_retry(policy)

    assert caught.value.field == field


def test_what_is_no_policy_is_refused() -> None:
    """`retry=3` is a frequent slip; `max_retries=3` is meant."""
    with pytest.raises(ValidationError, match="expected a RetryPolicy, got int"):
        check_retry(3)
