from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from omniq.storage.base import BaseQueue
from omniq.testing.machine import queue_machine

from .conftest import MakeBackend

STEPS = 30


def explore(new_store: Callable[[], MakeBackend], *, examples: int, derandomize: bool) -> None:
    async def make() -> BaseQueue:
        return new_store()().get_task_queue()

    run_state_machine_as_test(
        queue_machine(make),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            derandomize=derandomize,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            phases=[Phase.generate, Phase.shrink],
        ),
    )


@pytest.mark.timeout(900)
def test_the_queue_agrees_with_the_model(new_store: Callable[[], MakeBackend]) -> None:
    """The same walks each time, so that a failure is the change's."""
    explore(new_store, examples=60, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_queue_agrees_with_the_model_on_many_new_walks(
    new_store: Callable[[], MakeBackend],
) -> None:
    """Other walks each time, to find what nobody thought of."""
    explore(new_store, examples=500, derandomize=False)
