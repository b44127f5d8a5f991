"""What can be used is written down."""

from __future__ import annotations

import inspect
import re

import omniq.flow
from omniq.flow import FlowEngine, FlowRun, FlowTasks
from tests.docs.pages import ROOT


def test_every_name_is_documented() -> None:
    """Each public name, and each method of the classes people call."""
    page = (ROOT / "docs/flow.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    methods = {
        name
        for kind in (FlowEngine, FlowTasks, FlowRun)
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and not name.endswith("_sync")
    }

    assert set(omniq.flow.__all__) - {"Graph", "Node", "Edge", "Plan", "Loop"} <= named
    assert methods <= named
    assert {"`Graph`", "`Node`", "`Edge`", "`Plan`", "`Loop`"} <= set(re.findall(r"`\w+`", page))


def test_coroutines_have_blocking_twins() -> None:
    """The rule of the whole library."""
    for kind in (FlowEngine, FlowTasks, FlowRun):
        for name, method in inspect.getmembers(kind, inspect.iscoroutinefunction):
            if not name.startswith("_"):
                twin = getattr(kind, f"{name}_sync")
                assert inspect.signature(twin) == inspect.signature(method)
