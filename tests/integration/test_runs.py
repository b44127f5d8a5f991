"""Which run counts: the one that holds the lease, and the result of the one that was accepted."""

from __future__ import annotations

import pytest

from omniq import OmniQ, TaskFailedError
from omniq.exceptions import ResultExpiredError
from omniq.models.result import ErrorInfo, ResultStatus, TaskResult
from omniq.models.task import Task, TaskStatus


async def completed_at_claim_two(app: OmniQ, *results: TaskResult) -> None:
    """Store a task whose second run ended it, and these results."""
    await app.enqueue_task(Task(func="f", id="t", status=TaskStatus.COMPLETED, claim_count=2))
    for result in results:
        await app.result_storage.set(result)


async def test_a_result_of_an_earlier_run_is_not_shown(app: OmniQ) -> None:
    """The first run died between its result and its state; the second one kept no result."""
    await completed_at_claim_two(app, TaskResult(task_id="t", result="stale", claim_count=1))

    with pytest.raises(ResultExpiredError):
        await app.get_result("t", timeout=5)


async def test_a_failure_of_an_earlier_run_is_not_shown(app: OmniQ) -> None:
    """As little as a value."""
    error = ErrorInfo("builtins.OSError", "stale")
    failed = TaskResult(task_id="t", status=ResultStatus.FAILED, error=error, claim_count=1)
    await app.enqueue_task(
        Task(func="f", id="t", status=TaskStatus.FAILED, claim_count=2, error="the last")
    )
    await app.result_storage.set(failed)

    with pytest.raises(TaskFailedError, match="the last") as raised:
        await app.get_result("t", timeout=5)
    assert "stale" not in str(raised.value)


async def test_the_result_of_the_accepted_run_is_shown(app: OmniQ) -> None:
    """And an earlier one, coming late, does not take its place."""
    await completed_at_claim_two(
        app,
        TaskResult(task_id="t", result="accepted", claim_count=2),
        TaskResult(task_id="t", result="stale", claim_count=1),
    )

    assert await app.get_result("t", timeout=5) == "accepted"


async def test_a_claim_leaves_alone_what_is_leased_while_there_is_other_work(app: OmniQ) -> None:
    """That something is claimable does not make everything claimable."""
    queue = app.task_queue
    await queue.enqueue_many([Task(func="f", id="a"), Task(func="f", id="b")])

    taken = [
        [task.id for task in await queue.claim(["default"], worker_id="w", lease_token=t, limit=9)]
        for t in ("first", "second")
    ]
    await queue.enqueue(Task(func="f", id="c"))
    (last,) = await queue.claim(["default"], worker_id="w", lease_token="third", limit=9)

    assert taken == [["a", "b"], []]
    assert last.id == "c"
