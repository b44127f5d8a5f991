"""Task functions: their names, what they check, what a worker may find by a name."""

import functools
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypedDict

import msgspec
import pytest

from omniq import OmniQ, RetryPolicy, Task
from omniq.app.options import TaskTemplate
from omniq.exceptions import ConfigError, UnknownTaskError, ValidationError
from omniq.handle import TaskHandle
from omniq.serialization import from_plain, to_plain


@pytest.fixture
def app() -> OmniQ:
    return OmniQ("memory://")


def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


async def add_later(a: int, b: int = 0) -> int:
    """Return the sum, at some time."""
    return a + b


class TestNames:
    """One function, one name, in every process."""

    def test_the_name_is_module_and_qualified_name(self, app: OmniQ) -> None:
        """So two modules may each have a `send`."""
        assert app.task(add).name == f"{__name__}.add"

    def test_a_function_inside_a_function_has_a_name_too(self, app: OmniQ) -> None:
        """Tests and factories define such."""

        @app.task
        def inner() -> None:
            """Do nothing."""

        assert inner.name.endswith(".<locals>.inner")
        assert app.registry.resolve(inner.name) is inner

    def test_a_name_can_be_given(self, app: OmniQ) -> None:
        """Code moves, stored tasks do not."""
        task = app.task(name="math.add")(add)

        assert task.name == "math.add"
        assert app.registry.names() == ["math.add"]
        assert app.registry.get("math.add") is task

    @pytest.mark.parametrize("name", ["a/b", "1a", "a b", "a..b"])
    def test_a_bad_name_is_refused(self, app: OmniQ, name: str) -> None:
        """It would be refused by the store later."""
        with pytest.raises(ValidationError, match="is not a valid task name"):
            app.task(name=name)(add)

    def test_two_functions_cannot_share_a_name(self, app: OmniQ) -> None:
        """One of them would silently never run."""
        app.task(name="same")(add)

        with pytest.raises(ConfigError, match="'same' is taken by"):
            app.task(name="same")(add_later)

    def test_a_definition_run_again_replaces_the_first(self, app: OmniQ) -> None:
        """A cell run twice, a module reloaded."""

        def define(result: int) -> Any:
            @app.task
            def work() -> int:
                return result

            return work

        define(1)
        second = define(2)

        assert app.registry.resolve(second.name)() == 2
        assert len(app.registry) == 1

    def test_a_nameless_callable_needs_a_name(self, app: OmniQ) -> None:
        """Partials have none."""
        partial = functools.partial(add, 1)

        with pytest.raises(ConfigError, match="give it `name=`"):
            app.task(partial)
        assert app.task(name="increment")(partial)(2) == 3

    def test_generators_cannot_be_tasks(self, app: OmniQ) -> None:
        """What they return cannot be stored."""

        def numbers() -> Iterator[int]:
            yield 1

        async def later() -> AsyncIterator[int]:
            yield 1

        for function in (numbers, later):
            with pytest.raises(ConfigError, match="generator function"):
                app.task(function)

    def test_a_task_is_not_made_of_a_task(self, app: OmniQ) -> None:
        """`@task` above `@cron` is in the wrong order."""
        with pytest.raises(ConfigError, match="is a task already"):
            app.task(app.task(add))


class TestCalling:
    """A task function is still the function."""

    def test_a_call_runs_it_here(self, app: OmniQ) -> None:
        """Nothing is stored."""
        assert app.task(add)(2, 3) == 5

    async def test_a_call_of_a_coroutine_function_is_awaited(self, app: OmniQ) -> None:
        """As without the decorator."""
        assert await app.task(add_later)(2, b=3) == 5

    def test_it_looks_like_the_function(self, app: OmniQ) -> None:
        """Help and documentation tools see through it."""
        task = app.task(add)

        assert (task.__doc__, task.func) == (add.__doc__, add)
        assert vars(task)["__name__"] == "add"
        assert repr(task) == f"<task {__name__}.add>"

    def test_it_knows_whether_it_is_asynchronous(self, app: OmniQ) -> None:
        """Workers run the others in threads."""

        class Callable:
            async def __call__(self) -> None: ...

        assert not app.task(add).is_async
        assert app.task(add_later).is_async
        assert app.task(name="p")(functools.partial(add_later, 1)).is_async
        assert app.task(name="c")(Callable()).is_async


class TestArguments:
    """A call that cannot work is refused where it is written."""

    @pytest.mark.parametrize(
        ("args", "kwargs", "problem"),
        [
            ((), {}, "missing a required argument: 'a'"),
            ((1, 2, 3), {}, "too many positional arguments"),
            ((1,), {"c": 2}, "unexpected keyword argument 'c'"),
            ((1,), {"a": 2}, "multiple values for argument 'a'"),
        ],
    )
    def test_the_error_names_task_and_problem(
        self, app: OmniQ, args: Any, kwargs: Any, problem: str
    ) -> None:
        """Twice: the second check goes the fast way."""
        task = app.task(add)
        task.make_task(1, b=2)

        for _ in range(2):
            with pytest.raises(ValidationError, match=problem) as caught:
                task.make_task(*args, **kwargs)
            assert caught.value.field == "arguments"
            assert f"{__name__}.add(a: int, b: int = 0) -> int" in caught.value.problem

    def test_all_spellings_of_a_call_fit(self, app: OmniQ) -> None:
        """By position, by name, with defaults."""
        task = app.task(add)

        made = [task.make_task(1, 2), task.make_task(1), task.make_task(1, b=2)]
        made.append(task.make_task(b=2, a=1))

        assert [(one.args, one.kwargs) for one in made] == [
            ((1, 2), {}),
            ((1,), {}),
            ((1,), {"b": 2}),
            ((), {"b": 2, "a": 1}),
        ]

    def test_functions_that_take_anything_take_anything(self, app: OmniQ) -> None:
        """However many shapes of calls there are."""

        @app.task
        def gather(*args: int, **kwargs: int) -> None: ...

        for count in range(1000):
            task = gather.make_task(*range(count % 7), **{f"k{count}": 1})
            assert len(task.args) == count % 7

    def test_keyword_only_and_positional_only_parameters_hold(self, app: OmniQ) -> None:
        """As in the language."""

        @app.task
        def work(a: int, /, *, b: int) -> None: ...

        work.make_task(1, b=2)
        for args, kwargs in (((1, 2), {}), ((), {"a": 1, "b": 2}), ((1,), {})):
            with pytest.raises(ValidationError):
                work.make_task(*args, **kwargs)  # pyright: ignore[reportCallIssue, reportArgumentType] - user input

    def test_functions_without_a_signature_are_not_checked(self, app: OmniQ) -> None:
        """Some of those written in C tell nothing."""
        task = app.task(name="iterate")(iter)

        assert task.make_task([1], 2, 3).args == ([1], 2, 3)  # pyright: ignore[reportCallIssue, reportArgumentType] - the point


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
        ids=repr,
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


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules an operator may allow."""
    package = tmp_path / "allowed_pkg"
    package.mkdir()
    (package / "__init__.py").write_text("def top(): return 'top'\n")
    (package / "jobs.py").write_text(
        "import os\nfrom os import system\nfrom subprocess import run\n"
        "def work(): return 'work'\ndef _hidden(): ...\nclass Tool:\n    def use(self): ...\n"
        "number = 5\n"
    )
    (tmp_path / "broken_jobs.py").write_text("import a_module_nobody_has\n")
    (tmp_path / "broken_too.py").write_text("1 / 0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.startswith(("allowed_pkg", "broken_jobs"))]:
        del sys.modules[name]


@pytest.mark.usefixtures("modules")
class TestResolve:
    """From a name in stored data to a function: only what was registered or allowed."""

    def test_a_registered_task_is_found(self, app: OmniQ) -> None:
        """By its name."""
        task = app.task(add)

        assert app.registry.resolve(task.name) is task
        assert task.name in app.registry
        assert list(app.registry) == [task]

    def test_an_unknown_task_is_told_with_the_nearest_names(self, app: OmniQ) -> None:
        """Mostly it was renamed or mistyped."""
        app.task(name="mail.send")(add)

        with pytest.raises(UnknownTaskError, match=r"'mail.sent'.*nearest are mail\.send"):
            app.registry.resolve("mail.sent")
        with pytest.raises(UnknownTaskError, match="import the module that defines it"):
            app.registry.resolve("zzz")

    @pytest.mark.parametrize("name", ["allowed_pkg.jobs.work", "allowed_pkg.jobs:work"])
    @pytest.mark.parametrize("allowed", ["allowed_pkg.jobs", "allowed_pkg"])
    def test_functions_of_allowed_modules_are_found(
        self, app: OmniQ, name: str, allowed: str
    ) -> None:
        """The module or a package above it."""
        assert app.registry.resolve(name, [allowed])() == "work"

    @pytest.mark.parametrize(
        ("name", "allowed"),
        [
            ("allowed_pkg.jobs.work", ""),
            ("allowed_pkg.jobs.work", "allowed"),
            ("allowed_pkg.jobs.work", "allowed_pkg.job"),
            ("allowed_pkg.top", "allowed_pkg.jobs"),
            ("allowed_pkg.jobs.system", "allowed_pkg.jobs"),
            ("allowed_pkg.jobs.run", "allowed_pkg.jobs"),
            ("allowed_pkg.jobs._hidden", "allowed_pkg.jobs"),
            ("allowed_pkg.jobs.Tool", "allowed_pkg.jobs"),
            ("allowed_pkg.jobs.number", "allowed_pkg.jobs"),
            ("allowed_pkg.jobs.missing", "allowed_pkg.jobs"),
            ("os.system", "allowed_pkg"),
            ("os.system", "os"),
            ("system", "os"),
        ],
    )
    def test_nothing_else_is_reached_by_a_name(self, app: OmniQ, name: str, allowed: str) -> None:
        """No traversal, no imported names, no classes, nothing private."""
        with pytest.raises(UnknownTaskError):
            app.registry.resolve(name, [allowed])

    @pytest.mark.parametrize(
        "name",
        ["allowed_pkg.jobs.os.system", "allowed_pkg.jobs:os.system", "allowed_pkg.jobs.Tool.use"],
    )
    def test_a_path_through_an_allowed_module_leads_nowhere(self, app: OmniQ, name: str) -> None:
        """`pkg.mod.os.system` is asked of the module `pkg.mod.os`, which there is not."""
        with pytest.raises(UnknownTaskError):
            app.registry.resolve(name, ["allowed_pkg"])

    def test_what_was_not_allowed_is_not_even_imported(self, app: OmniQ) -> None:
        """Importing runs code."""
        with pytest.raises(UnknownTaskError):
            app.registry.resolve("allowed_pkg.jobs.work")

        assert "allowed_pkg.jobs" not in sys.modules

    @pytest.mark.parametrize(
        ("module", "cause"), [("broken_jobs", ImportError), ("broken_too", ZeroDivisionError)]
    )
    def test_a_module_that_cannot_be_imported_is_told(
        self, app: OmniQ, module: str, cause: type[Exception]
    ) -> None:
        """The worker parks the task and goes on."""
        with pytest.raises(UnknownTaskError, match=f"importing {module} failed: ") as caught:
            app.registry.resolve(f"{module}.work", [module])

        assert isinstance(caught.value.__cause__, cause)


class Mood(Enum):
    GOOD = 1


class Size(Enum):
    BIG = 1


@dataclass
class Inner:
    x: int


@dataclass
class Outer:
    inner: "list[Inner] | None"


class Message(msgspec.Struct):
    mood: Mood


@dataclass
class Later:
    x: int


Alias = NewType("Alias", Later)


class Mapping(TypedDict):
    """No data class: a plain dict."""


@dataclass
class Reply:
    x: int


def storable(value: object) -> bool:
    try:
        return from_plain(to_plain(value)) == value
    except ValidationError:
        return False


class TestTypes:
    """Classes in annotations travel without further ado."""

    def test_annotated_classes_are_registered_however_deep(self, app: OmniQ) -> None:
        """In containers, unions, literals, aliases, fields of others, and as the result."""
        values = [Outer([Inner(1)]), Message(Mood.GOOD), Size.BIG, Later(1), Reply(1)]
        assert not any(map(storable, values))

        @app.task
        def work(
            a: Outer | None,
            b: dict[str, tuple[Message, ...]],
            c: Literal[Size.BIG],
            d: Annotated[Alias, "note"],
            e: Mapping,
            *f: Any,
        ) -> list[Reply]:
            return []

        assert all(map(storable, values))

    def test_annotations_that_cannot_be_read_are_ignored_one_by_one(self, app: OmniQ) -> None:
        """Imports for type checkers only are common; the others still count."""

        @dataclass
        class Here:
            x: int

        def work(a: Any, b: "Here", c: Any) -> Any:
            return Here

        work.__annotations__ |= {"a": "Nowhere", "c": "1 +"}
        app.task(work)

        assert storable(Here(1))

    def test_a_class_defined_after_the_function_is_found_later(self, app: OmniQ) -> None:
        """At the latest when the first task is made, or the application is opened."""
        source = (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            "@app.task\ndef work(a: Below) -> None: ...\n"
        )
        scope: dict[str, Any] = {"app": app, "__name__": __name__}
        exec(source, scope)
        exec("@dataclass\nclass Below:\n    x: int\n", scope)
        below = scope["Below"](1)
        assert not storable(below)

        scope["work"].make_task(below)

        assert storable(below)

    def test_another_class_of_the_same_name_is_not_taken_silently(self, app: OmniQ) -> None:
        """The values would come back as something else."""

        def define() -> Any:
            @dataclass
            class Twin:
                x: int

            Twin.__qualname__ = "Twin"
            return Twin

        for cls, expectation in ((define(), None), (define(), ConfigError)):

            def work(a: Any) -> None: ...

            work.__annotations__["a"] = cls
            if expectation is None:
                app.task(work)
            else:
                with pytest.raises(expectation, match="another class is registered"):
                    app.task(work)


def test_a_script_and_its_worker_agree_on_names(tmp_path: Path) -> None:
    """`python app.py` enqueues what `omniq worker app` runs."""
    (tmp_path / "app.py").write_text(
        "from omniq import OmniQ\nq = OmniQ('memory://')\n@q.task\ndef work(): ...\n"
        "print(work.name, q.registry.names())\n"
    )

    names = {
        subprocess.run(
            [sys.executable, *args], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for args in (["app.py"], ["-m", "app"], ["-c", "import app"])
    }

    assert names == {"app.work ['app.work']\n"}
