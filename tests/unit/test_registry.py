"""Task functions: their names, what they check, what a worker may find by a name."""

import functools
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omniq import OmniQ
from omniq.exceptions import ConfigError, UnknownTaskError, ValidationError


@pytest.fixture
def app() -> OmniQ:
    return OmniQ("memory://")


def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


async def add_later(a: int, b: int = 0) -> int:
    """Return the sum, at some time."""
    return a + b


def inside() -> Callable[[], int]:
    """Return a function made inside another."""

    def made() -> int:
        return 1

    return made


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

    @pytest.mark.parametrize("func", [lambda: 1, inside()], ids=["lambda", "local"])
    async def test_one_no_worker_finds_is_refused_when_enqueued(
        self, app: OmniQ, func: Callable[[], int]
    ) -> None:
        """It would be parked for ever."""
        with pytest.raises(ConfigError, match="make a task of it with @task"):
            await app.enqueue(func)

        assert await app.counts() == {}

    async def test_a_parameter_may_be_called_self(self, app: OmniQ) -> None:
        """As those of a ported task that was bound."""

        @app.task
        async def bound(self: int, n: int) -> int:
            return self + n

        handle = await bound.enqueue(self=1, n=2)

        assert (await handle.task()).kwargs == {"self": 1, "n": 2}
        assert bound.make_task(self=1, n=2).kwargs == {"self": 1, "n": 2}
        assert await bound(self=1, n=2) == 3

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


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules an operator may allow."""
    package = tmp_path / "allowed_pkg"
    package.mkdir()
    (package / "__init__.py").write_text("def top(): return 'top'\n")
    (package / "jobs.py").write_text(
        "import os\nfrom os import system\nfrom subprocess import run\n"
        "def work(): return 'work'\ndef _hidden(): ...\nclass Tool:\n    def use(self): ...\n"
        "number = 5\ndef items(): yield 1\n"
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
            ("allowed_pkg.jobs.items", "allowed_pkg.jobs"),
            ("os.system", "allowed_pkg"),
            ("os.system", "os"),
            ("system", "os"),
        ],
    )
    def test_nothing_else_is_reached_by_a_name(self, app: OmniQ, name: str, allowed: str) -> None:
        """No traversal, no imported names, no classes, no generators, nothing private."""
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
