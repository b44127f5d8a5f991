"""What can be wrong with a flow, and with running a node of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from omniq.exceptions import NotFoundError, OmniQError, ValidationError


class Problem(NamedTuple):
    """One thing that is wrong with a flow: where it is, and what to do about it."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


class FlowValidationError(ValidationError):
    """A flow cannot be run; `problems` holds all that is wrong with it, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = "".join(f"\n- {problem}" for problem in problems)
        super().__init__("flow", f"{len(problems)} problem(s):{lines}")
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type, tuple[tuple[Problem, ...]]]:  # type: ignore[override]  # other arguments
        return type(self), (self.problems,)


class MissingOutputError(NotFoundError):
    """A node is to run on the cached output of a node before it, and there is none."""


class NodeFailedError(OmniQError):
    """A node raised; its error is the `__cause__`."""
