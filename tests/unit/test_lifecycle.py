"""All state changes of a task, as pure functions."""

import pickle
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq import lifecycle
from omniq.lifecycle import (
    CRASH_LIMIT,
    Cancelled,
    Completed,
    Expired,
    Failed,
    Outcome,
    Parked,
    Released,
    Snoozed,
)
from omniq.models.task import RetryPolicy, Task, TaskStatus
from tests.unit.task_states import FAILURE, LATER, NOW, SOON, S, assert_sound, claimed, task


class TestClaim:
    """Taking a task."""

    def test_a_claim_counts_and_fences(self) -> None:
        """Every later write of the run is compared with these."""
        after = claimed()

        assert (after.status, after.attempt, after.claim_count) == (S.RUNNING, 1, 1)
        assert (after.lease_token, after.worker_id, after.due_at) == ("k", "w", LATER)
        assert after.started_at == NOW
        assert_sound(after)

    def test_claiming_a_running_task_counts_a_lost_lease(self) -> None:
        """Its holder was heard of no more."""
        after = claimed(claimed())

        assert (after.lost_leases, after.claim_count, after.attempt) == (1, 2, 2)

    def test_a_task_whose_workers_die_is_poisoned_after_three(self) -> None:
        """It must not kill worker after worker."""
        held = claimed()
        for _ in range(CRASH_LIMIT - 1):
            held = claimed(held)
            assert lifecycle.verdict_on_claim(held, NOW) is None
        held = claimed(held)

        verdict = lifecycle.verdict_on_claim(held, NOW)

        assert isinstance(verdict, Failed)
        assert verdict.final
        assert "poisoned: 3 workers" in verdict.error.message
        assert lifecycle.settle(held, verdict, NOW).status is S.FAILED

    def test_a_run_that_speaks_up_starts_the_crash_count_anew(self) -> None:
        """Only deaths in a row make a poison."""
        held = claimed(claimed(retry=RetryPolicy(max_retries=9)))

        assert lifecycle.settle(held, FAILURE, NOW).lost_leases == 0

    def test_a_cancelled_task_does_not_run_again(self) -> None:
        """Its worker died before it saw the request."""
        held = claimed(lifecycle.request_cancel(claimed(), NOW))

        assert isinstance(lifecycle.verdict_on_claim(held, NOW), Cancelled)

    def test_an_expired_task_does_not_run(self) -> None:
        """Exactly at the moment it is too late."""
        held = claimed(expires_at=SOON)

        assert lifecycle.verdict_on_claim(held, NOW) is None
        assert isinstance(lifecycle.verdict_on_claim(held, SOON), Expired)


class TestSettle:
    """How a run leaves its task."""

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [
            (Completed(5), S.COMPLETED),
            (FAILURE, S.FAILED),
            (Cancelled("no more"), S.CANCELLED),
            (Expired(), S.EXPIRED),
            (Released(), S.PENDING),
            (Snoozed(5), S.SCHEDULED),
            (Parked("unknown"), S.SCHEDULED),
        ],
    )
    def test_each_outcome_has_its_status(self, outcome: Outcome, status: TaskStatus) -> None:
        """And leaves a sound task that nobody holds."""
        after = lifecycle.settle(claimed(), outcome, NOW)

        assert after.status is status
        assert after.claim_count == 1
        assert_sound(after)

    def test_a_failure_is_retried_while_the_policy_allows(self) -> None:
        """Two retries are three attempts; the reason stays visible."""
        held = claimed(retry=RetryPolicy(max_retries=2, delay_seconds=10, backoff="fixed"))
        ends: list[TaskStatus] = []

        for _ in range(3):
            after = lifecycle.settle(held, FAILURE, NOW)
            ends.append(after.status)
            held = claimed(lifecycle.promote(after)) if not after.is_final else after

        assert ends == [S.SCHEDULED, S.SCHEDULED, S.FAILED]
        assert held.error == "OSError: no"

    def test_the_retry_waits_by_the_policy(self) -> None:
        """From the end of the run on."""
        held = claimed(retry=RetryPolicy(max_retries=2, delay_seconds=10, backoff="fixed"))

        assert lifecycle.settle(held, FAILURE, NOW).due_at == SOON

    def test_a_failure_may_bring_its_own_delay(self) -> None:
        """A task that raised `Retry(delay)`."""
        held = claimed(retry=RetryPolicy(max_retries=2, delay_seconds=99))

        outcome = Failed(FAILURE.error, delay_seconds=10)

        assert lifecycle.settle(held, outcome, NOW).due_at == SOON

    def test_a_final_failure_is_final_whatever_the_policy(self) -> None:
        """Poison and unstorable results are not tried again."""
        held = claimed(retry=RetryPolicy(max_retries=9))

        assert lifecycle.settle(held, lifecycle.failure("bad", final=True), NOW).is_final

    @pytest.mark.parametrize("outcome", [Released(), Snoozed(5), Parked("?")])
    def test_an_unfinished_run_gives_its_attempt_back(self, outcome: Outcome) -> None:
        """Stopping workers must not use up retries."""
        assert lifecycle.settle(claimed(), outcome, NOW).attempt == 0

    def test_a_parked_task_comes_back_later_and_later(self) -> None:
        """Up to a minute; then each minute, for ever."""
        held, waits = claimed(), list[float]()

        for _ in range(20):
            after = lifecycle.settle(held, Parked("unknown"), NOW)
            assert after.due_at is not None
            waits.append((after.due_at - NOW).total_seconds())
            held = claimed(lifecycle.promote(after))

        assert waits == sorted(waits)
        assert (waits[0], waits[-1]) == (1.0, 60.0)

    def test_a_completed_task_has_no_error_left(self) -> None:
        """The reason of an earlier attempt would mislead."""
        held = claimed(
            lifecycle.promote(
                lifecycle.settle(claimed(retry=RetryPolicy(max_retries=1)), FAILURE, NOW)
            )
        )

        assert lifecycle.settle(held, Completed(), NOW).error is None

    def test_long_errors_are_shortened(self) -> None:
        """A megabyte of message does not go into the task's row."""
        outcome = lifecycle.failure(ValueError("x" * 1_000_000))

        after = lifecycle.settle(claimed(), outcome, NOW)

        assert len(after.error or "") <= lifecycle.ERROR_TEXT_LIMIT
        assert len(outcome.error.message) <= lifecycle.TRACEBACK_LIMIT
        assert len(outcome.error.traceback) <= lifecycle.TRACEBACK_LIMIT


class TestRequests:
    """What people ask for."""

    @pytest.mark.parametrize("fields", [{}, {"run_at": LATER}])
    def test_a_task_that_has_not_started_is_cancelled_at_once(self, fields: Any) -> None:
        """Pending or scheduled."""
        after = lifecycle.request_cancel(task(**fields), NOW, "not needed")

        assert (after.status, after.error) == (S.CANCELLED, "not needed")
        assert_sound(after)

    def test_a_running_task_is_asked_to_stop(self) -> None:
        """It keeps its lease until its worker obeys."""
        after = lifecycle.request_cancel(claimed(), NOW)

        assert (after.status, after.cancel_requested) == (S.RUNNING, True)
        assert_sound(after)

    def test_cancelling_a_finished_task_changes_nothing(self) -> None:
        """It is told by identity, so that no store is written."""
        done = lifecycle.settle(claimed(), Completed(), NOW)

        assert lifecycle.request_cancel(done, NOW) is done

    def test_a_requeued_task_starts_afresh(self) -> None:
        """All but its count of claims, which must never go back."""
        done = lifecycle.settle(claimed(claimed(expires_at=SOON)), FAILURE, LATER)

        after = lifecycle.requeue(done, LATER)

        assert (after.status, after.attempt, after.lost_leases) == (S.PENDING, 0, 0)
        assert (after.claim_count, after.expires_at) == (2, None)
        assert_sound(after)

    def test_a_requeued_task_keeps_an_expiry_that_lies_ahead(self) -> None:
        """The promise still holds."""
        done = lifecycle.settle(claimed(expires_at=LATER), FAILURE, NOW)

        assert lifecycle.requeue(done, NOW).expires_at == LATER


class TestMerge:
    """What a store writes over a running task."""

    def test_a_change_that_stays_running_never_moves_the_lease(self) -> None:
        """A heartbeat may have moved it since the copy was read."""
        stored, stale = claimed(), claimed()
        stored.due_at, stale.progress = LATER + timedelta(seconds=30), 0.5

        merged = lifecycle.merge_running(stored, stale)

        assert (merged.due_at, merged.progress) == (stored.due_at, 0.5)

    def test_a_cancel_request_survives_a_retry(self) -> None:
        """It holds until the task is final."""
        held = claimed(retry=RetryPolicy(max_retries=1))
        stored = lifecycle.request_cancel(held, NOW)

        merged = lifecycle.merge_running(stored, lifecycle.settle(held, FAILURE, NOW))

        assert (merged.status, merged.cancel_requested) == (S.SCHEDULED, True)


class TestEdited:
    """A state set by hand."""

    @pytest.mark.parametrize("status", list(S))
    def test_any_status_comes_with_what_it_implies(self, status: TaskStatus) -> None:
        """Spec 001 assigns `task.status`; the store must not hold half a state."""
        stored = task()
        wanted = deepcopy(stored)
        wanted.status = status

        after = lifecycle.edited(stored, wanted, NOW)

        assert (after.finished_at is not None) == after.is_final
        if status is S.RUNNING:
            assert after.due_at is not None
        elif status is S.WAITING or status is S.SCHEDULED:
            assert after.status is S.PENDING
        else:
            assert after.status is status


outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Completed(1)),
    st.just(FAILURE),
    st.builds(Failed, st.just(FAILURE.error), final=st.booleans()),
    st.builds(Snoozed, st.floats(0, 1000)),
    st.just(Released()),
    st.just(Parked("?")),
    st.just(Cancelled()),
    st.just(Expired()),
)
steps = st.lists(st.sampled_from(["claim", "settle", "cancel", "requeue", "promote"]), max_size=30)


@given(steps, st.data(), st.integers(0, 3))
def test_no_sequence_of_events_leaves_an_unsound_task(
    events: list[str], data: st.DataObject, retries: int
) -> None:
    """And no step changes the task it was given, or takes back a claim."""
    current = task(retry=RetryPolicy(max_retries=retries) if retries else None)
    for event in events:
        before, frozen = current, pickle.dumps(current)

        current = _step(current, event, data)

        assert_sound(current)
        assert pickle.dumps(before) == frozen
        assert current.claim_count >= before.claim_count


def _step(current: Task, event: str, data: st.DataObject) -> Task:
    """Apply an event where it can happen."""
    match event:
        case "claim" if not current.is_final:
            return claimed(current)
        case "settle" if current.status is S.RUNNING:
            return lifecycle.settle(current, data.draw(outcomes), NOW)
        case "cancel":
            return lifecycle.request_cancel(current, NOW)
        case "requeue" if current.is_final:
            return lifecycle.requeue(current, NOW)
        case "promote" if current.status is S.SCHEDULED:
            return lifecycle.promote(current)
        case _:
            return current


def test_an_exception_becomes_text_with_its_cause() -> None:
    """Nothing of it is ever rebuilt by name; people read the whole chain."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as cause:
            raise ValueError("outer") from cause
    except ValueError as error:
        info = lifecycle.error_info(error)

    assert (info.type, info.message) == ("builtins.ValueError", "outer")
    assert "KeyError: 'inner'" in info.traceback
    assert str(info) == "ValueError: outer"
