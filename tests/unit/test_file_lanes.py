"""The line of a queue in files: the smallest first, whatever was added and taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omniq.models.task import STATE_FIELDS, Task, TaskStatus
from omniq.storage.file.lanes import Lane
from omniq.storage.file.records import State, Stored

STEPS = st.lists(st.tuples(st.sampled_from(["add", "leave", "pop"]), st.integers(0, 30)))


@given(st.sets(st.integers(0, 30)), STEPS)
def test_the_first_of_a_line_is_always_the_smallest(
    at_first: set[int], steps: list[tuple[str, int]]
) -> None:
    """Beside a plain set: what was there at first and what came later are one line."""
    lane, expected = Lane(), {f"{number:02d}" for number in at_first}
    lane.load(expected, [])
    for what, number in steps:
        stem = f"{number:02d}"
        if what == "add":
            lane.line_up(stem)
            expected.add(stem)
        elif what == "leave":
            lane.leave(stem)
            expected.discard(stem)
        elif lane.line.first() is not None:
            lane.line.pop()
            expected.discard(min(expected))
        assert lane.line.first() == min(expected, default=None)


def test_a_record_takes_every_field_of_a_tasks_state() -> None:
    """None is forgotten when a field is added to the state."""
    task = Task(func="f", id="t")
    marks = {name: object() for name in STATE_FIELDS}
    for name, mark in marks.items():
        setattr(task, name, mark)
    stored = Stored(
        "t", State(status=TaskStatus.PENDING, queue="q", stem="s"), b"", was=None, size=0
    )

    stored.put(task)

    assert {name: getattr(stored.state, name) for name in STATE_FIELDS} == marks
