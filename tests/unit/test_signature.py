"""What a function's signature tells: which calls fit, which classes travel."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NewType, TypedDict

import msgspec
import pytest

from omniq import OmniQ, TaskFunction
from omniq.exceptions import ConfigError, ValidationError
from omniq.serialization import from_plain, to_plain


@pytest.fixture
def app() -> OmniQ:
    return OmniQ("memory://")


def add(a: int, b: int = 0) -> int:
    """Return the sum."""
    return a + b


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
        silent: Any = iter

        task: TaskFunction[..., Any] = app.task(name="iterate")(silent)

        assert task.make_task([1], 2, 3).args == ([1], 2, 3)


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
