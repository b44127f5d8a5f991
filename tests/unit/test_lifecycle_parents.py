"""The state a task is stored in, and what its parents make of it."""

from typing import Any

import pytest

from omniq import lifecycle
from omniq.models.task import Task, TaskStatus
from tests.unit.task_states import LATER, NOW, SOON, S, assert_sound, task


class TestAdmit:
    """The state a task is stored in."""

    def test_a_plain_task_is_pending(self) -> None:
        """Claimable at once."""
        assert task().status is S.PENDING

    def test_a_task_for_later_is_scheduled_until_then(self) -> None:
        """It becomes claimable when due."""
        after = task(run_at=LATER)

        assert (after.status, after.due_at) == (S.SCHEDULED, LATER)

    def test_a_moment_that_passed_is_pending(self) -> None:
        """A clock that runs ahead delays nothing."""
        assert task(run_at=NOW).status is S.PENDING

    def test_a_task_waits_for_its_unfinished_parents(self) -> None:
        """Each is counted once, however often it is named."""
        child = Task(func="f", depends_on=("a", "b", "b", "c"))

        after = lifecycle.admit(child, {"a": S.COMPLETED, "b": S.RUNNING, "c": S.WAITING}, NOW)

        assert (after.status, after.waiting_for) == (S.WAITING, 2)

    def test_completed_parents_are_no_reason_to_wait(self) -> None:
        """The child may run at once."""
        child = Task(func="f", depends_on=("a",))

        assert lifecycle.admit(child, {"a": S.COMPLETED}, NOW).status is S.PENDING

    @pytest.mark.parametrize("parent", [S.FAILED, S.CANCELLED, S.EXPIRED, None])
    def test_a_parent_that_did_not_complete_decides_as_the_child_says(
        self, parent: TaskStatus | None
    ) -> None:
        """Cancel by default; release where the child asked for it. A missing one counts so too."""
        parents = {} if parent is None else {"a": parent}
        cautious = Task(func="f", depends_on=("a",))
        brave = Task(func="f", depends_on=("a",), on_parent_failure="release")

        assert lifecycle.admit(cautious, parents, NOW).status is S.CANCELLED
        assert lifecycle.admit(brave, parents, NOW).status is S.PENDING

    def test_a_finished_task_keeps_its_state_and_times(self) -> None:
        """Migration from another store changes nothing."""
        done = Task(func="f", status=S.COMPLETED, finished_at=NOW, attempt=2, claim_count=3)

        after = lifecycle.admit(done, {}, LATER)

        assert (after.status, after.finished_at, after.attempt) == (S.COMPLETED, NOW, 2)

    def test_a_migrated_retry_keeps_its_moment(self) -> None:
        """A task that waits for its retry goes on waiting."""
        waiting = Task(func="f", status=S.SCHEDULED, due_at=SOON, attempt=1, claim_count=1)

        after = lifecycle.admit(waiting, {}, NOW)

        assert (after.status, after.due_at, after.attempt) == (S.SCHEDULED, SOON, 1)


class TestParents:
    """What a parent's end does to a waiting child."""

    def child(self, count: int = 2, **fields: Any) -> Task:
        names = tuple(f"p{n}" for n in range(count))
        parents = dict.fromkeys(names, S.RUNNING)
        return lifecycle.admit(Task(func="f", depends_on=names, **fields), parents, NOW)

    def test_the_last_parent_releases_the_child(self) -> None:
        """Not one earlier."""
        after_one = lifecycle.parent_finished(self.child(), "p0", S.COMPLETED, NOW)
        after_both = lifecycle.parent_finished(after_one, "p1", S.COMPLETED, NOW)

        assert (after_one.status, after_both.status) == (S.WAITING, S.PENDING)

    def test_a_released_child_still_waits_for_its_own_moment(self) -> None:
        """`run_at` and `depends_on` both hold."""
        child = self.child(1, run_at=LATER)

        after = lifecycle.parent_finished(child, "p0", S.COMPLETED, NOW)

        assert (after.status, after.due_at) == (S.SCHEDULED, LATER)

    @pytest.mark.parametrize("end", [S.FAILED, S.CANCELLED, S.EXPIRED])
    def test_a_failed_parent_cancels_and_says_why(self, end: TaskStatus) -> None:
        """People look at the child first."""
        after = lifecycle.parent_finished(self.child(), "p0", end, NOW)

        assert after.status is S.CANCELLED
        assert after.error == f"parent p0 did not complete ({end.value})"
        assert_sound(after)

    def test_a_failed_parent_releases_where_asked(self) -> None:
        """Clean-up tasks run however their parents end."""
        child = self.child(1, on_parent_failure="release")

        assert lifecycle.parent_finished(child, "p0", S.FAILED, NOW).status is S.PENDING
