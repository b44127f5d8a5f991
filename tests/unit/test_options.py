"""Task options: each checked by name, all of them fields of the tasks made."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

from omniq import OmniQ, RetryPolicy, Task
from omniq.app.options import TaskTemplate
from omniq.exceptions import ValidationError
from omniq.handle import TaskHandle
from tests.naming import stable_id


@pytest.fixture
def app() -> OmniQ:
    return OmniQ("memory://")


def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


class TestTemplate:
    """Options become fields of tasks."""

    def made(self, app: OmniQ, **options: Any) -> Task:
        return app.task(add).options(**options).make_task(1, 2)

    def test_each_option_has_its_field(self, app: OmniQ) -> None:
        """All of them."""
        policy = RetryPolicy(max_retries=3, delay_seconds=2)
        made = self.made(
            app,
            queue="math",
            priority=5,
            timeout=timedelta(seconds=9),
            retry=policy,
            result_ttl=60,
            unique_key="k",
            depends_on=["p"],
            on_parent_failure="release",
            metadata={"a": 1},
            task_id="t",
        )

        assert (made.func, made.id, made.queue_name) == (f"{__name__}.add", "t", "math")
        assert (made.priority, made.timeout_seconds, made.retry) == (5, 9.0, policy)
        assert (made.result_ttl_seconds, made.unique_key) == (60.0, "k")
        assert (made.depends_on, made.on_parent_failure) == (("p",), "release")
        assert made.metadata == {"a": 1}

    def test_delays_count_from_each_enqueueing(self, app: OmniQ) -> None:
        """Not from when the options were written."""
        made = self.made(app, delay=60, expires=timedelta(hours=1))

        assert made.run_at == made.created_at + timedelta(seconds=60)
        assert made.expires_at == made.created_at + timedelta(hours=1)

    def test_moments_are_taken_as_they_are(self, app: OmniQ) -> None:
        """Naive ones are read as UTC."""
        made = self.made(app, run_at=datetime(2090, 1, 1), expires=datetime(2091, 1, 1, tzinfo=UTC))  # noqa: DTZ001 - naive on purpose

        assert made.run_at == datetime(2090, 1, 1, tzinfo=UTC)
        assert made.expires_at == datetime(2091, 1, 1, tzinfo=UTC)

    def test_later_options_win_over_earlier_ones(self, app: OmniQ) -> None:
        """Application, function, call: the nearest counts."""
        app = OmniQ("memory://", default_queue="a", timeout=1, max_retries=1)
        task = app.task(queue="b", priority=1)(add)
        call = task.options(queue_name="c").options(delay=5).options(run_at=datetime(2090, 1, 1))  # noqa: DTZ001 - naive on purpose

        assert (task.make_task(1).queue_name, call.make_task(1).queue_name) == ("b", "c")
        assert call.make_task(1).priority == 1
        assert call.make_task(1).run_at == datetime(2090, 1, 1, tzinfo=UTC)
        assert call.make_task(1).timeout_seconds == 1
        assert app.task(name="n")(add).make_task(1).queue_name == "a"

    def test_options_leave_the_original_alone(self, app: OmniQ) -> None:
        """A copy is light; the function stays."""
        task = app.task(add)

        task.options(priority=9, metadata={"a": 1})

        assert task.make_task(1).priority == 0
        assert task.make_task(1).metadata == {}

    def test_tasks_share_nothing_that_changes(self, app: OmniQ) -> None:
        """One task's metadata is not another's."""
        call = app.task(add).options(metadata={"a": 1})
        first, second = call.make_task(1), call.make_task(1)

        first.metadata["a"] = 2

        assert (second.metadata, first.id == second.id) == ({"a": 1}, False)

    def test_retries_combine_as_they_read(self, app: OmniQ) -> None:
        """`retry` replaces the policy, `max_retries` and `retry_on` change one field of it."""
        fixed = RetryPolicy(max_retries=1, delay_seconds=5, backoff="fixed")
        app = OmniQ("memory://", retry=fixed)
        task = app.task(max_retries=4, retry_on=OSError)(add)

        policy = task.make_task(1).retry
        assert policy is not None
        assert (policy.max_retries, policy.delay_seconds) == (4, 5)
        assert policy.retry_on == ("builtins.OSError",)
        assert task.options(max_retries=0).make_task(1).retry is None
        assert task.options(retry=fixed).make_task(1).retry == fixed

    def test_no_retries_is_the_default(self, app: OmniQ) -> None:
        """Running twice is for those who asked for it."""
        assert app.task(add).make_task(1).retry is None

    def test_a_timeout_of_the_application_can_be_lifted(self) -> None:
        """For the one task that takes long."""
        app = OmniQ("memory://", timeout=5)

        assert app.task(add).options(timeout=inf).make_task(1).timeout_seconds is None

    def test_parents_are_ids_or_handles_one_or_many(self, app: OmniQ) -> None:
        """Whatever is at hand."""
        handle = TaskHandle[int](app, "h")

        assert self.made(app, depends_on=handle).depends_on == ("h",)
        assert self.made(app, depends_on="p").depends_on == ("p",)
        assert self.made(app, depends_on=(x for x in ["p", handle, "p"])).depends_on == ("p", "h")

    def test_none_means_not_given(self, app: OmniQ) -> None:
        """Optional values can be passed on as they are."""
        task = app.task(queue="b", priority=3)(add)

        assert task.options(queue=None, priority=None, delay=None).make_task(1).priority == 3

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"queue": "a/b"}, "queue"),
            ({"queue": 5}, "queue"),
            ({"queue": "a", "queue_name": "b"}, "queue"),
            ({"priority": 1.5}, "priority"),
            ({"priority": True}, "priority"),
            ({"priority": 10**9}, "priority"),
            ({"delay": -1}, "delay"),
            ({"delay": "5"}, "delay"),
            ({"delay": inf}, "delay"),
            ({"delay": 1, "run_at": datetime(2090, 1, 1, tzinfo=UTC)}, "delay"),
            ({"run_at": 5}, "run_at"),
            ({"run_at": datetime(1, 1, 1, tzinfo=UTC)}, "run_at"),
            ({"run_at": datetime(9999, 1, 1, tzinfo=UTC)}, "run_at"),
            ({"expires": 0}, "expires"),
            ({"expires": -5}, "expires"),
            ({"expires": 5, "delay": 5}, "expires"),
            (
                {
                    "expires": datetime(2090, 1, 1, tzinfo=UTC),
                    "run_at": datetime(2090, 1, 2, tzinfo=UTC),
                },
                "expires",
            ),
            ({"timeout": 0}, "timeout"),
            ({"timeout": "1"}, "timeout"),
            ({"max_retries": -1}, "retry.max_retries"),
            ({"max_retries": "3"}, "retry.max_retries"),
            ({"retry": 3}, "retry"),
            ({"retry_on": 5}, "retry.retry_on"),
            ({"result_ttl": -1}, "result_ttl"),
            ({"unique_key": ""}, "unique_key"),
            ({"unique_key": "a\0"}, "unique_key"),
            ({"depends_on": ["a/b"]}, "depends_on"),
            ({"depends_on": [5]}, "depends_on"),
            ({"depends_on": [f"p{n}" for n in range(1001)]}, "depends_on"),
            ({"on_parent_failure": "ignore"}, "on_parent_failure"),
            ({"on_parent_failure": []}, "on_parent_failure"),
            ({"metadata": [1]}, "metadata"),
            ({"metadata": {1: 1}}, "metadata"),
            ({"task_id": "../x"}, "task_id"),
        ],
        ids=stable_id,
    )
    def test_a_bad_option_is_refused_by_name(
        self, app: OmniQ, options: dict[str, Any], field: str
    ) -> None:
        """Before anything is stored."""
        with pytest.raises(ValidationError) as caught:
            app.task(add).options(**options)

        assert caught.value.field == field

    def test_an_unknown_option_is_refused_with_the_nearest(self, app: OmniQ) -> None:
        """In the decorator as in the call."""
        with pytest.raises(TypeError, match=r"no task option 'retires'.*did you mean"):
            app.task(retires=3)  # pyright: ignore[reportCallIssue] - user input
        with pytest.raises(TypeError, match="no task option 'colour'; options are queue, "):
            app.task(add).options(colour=3)  # pyright: ignore[reportCallIssue] - user input

    def test_a_bare_template_is_a_plain_task(self) -> None:
        """Nothing is added that nobody asked for."""
        made = TaskTemplate("f").make((1,), {})

        assert made == Task(func="f", args=(1,), id=made.id, created_at=made.created_at)
