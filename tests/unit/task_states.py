"""Tasks in the states that tests of the lifecycle start from."""

from datetime import UTC, datetime, timedelta
from typing import Any

from omniq import lifecycle
from omniq.lifecycle import (
    Failed,
)
from omniq.models.result import ErrorInfo
from omniq.models.task import Task, TaskStatus

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
SOON = NOW + timedelta(seconds=10)
LATER = NOW + timedelta(hours=1)
FAILURE = Failed(ErrorInfo("builtins.OSError", "no"), ("builtins.OSError",))
S = TaskStatus


def task(**fields: Any) -> Task:
    return lifecycle.admit(Task(func="f", id="t", created_at=NOW, **fields), {}, NOW)


def claimed(before: Task | None = None, **fields: Any) -> Task:
    return lifecycle.claim(
        before or task(**fields), worker_id="w", lease_token="k", lease_ends_at=LATER, now=NOW
    )


def assert_sound(after: Task) -> None:
    """What holds in every state, whatever happened."""
    assert (after.finished_at is not None) == after.is_final
    assert (after.status is S.RUNNING) == (after.lease_token is not None)
    assert (after.due_at is not None) == (after.status in {S.RUNNING, S.SCHEDULED})
    assert (after.waiting_for > 0) == (after.status is S.WAITING)
    assert 0 <= after.attempt <= after.claim_count
    assert 0 <= after.lost_leases <= after.claim_count
