"""The line of a queue in files: the smallest first, whatever was added and taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omniq.models.task import STATE_FIELDS, Task, TaskStatus
from omniq.storage.file.lanes import Lane
from omniq.storage.file.line import Line
from omniq.storage.file.records import State, Stored

STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard", "pop"]), st.integers(0, 30)))


@given(st.integers(1, 9), st.sets(st.integers(0, 30)), STEPS)
def test_the_first_of_a_line_is_always_the_smallest(
    unpacked_at_once: int, at_first: set[int], steps: list[tuple[str, int]]
) -> None:
    """Beside a plain set: what was there at first and what came later are one line."""
    line, expected = Line(unpacked_at_once), {f"{number:02d}" for number in at_first}
    line.fill(expected)
    for what, number in steps:
        name = f"{number:02d}"
        if what == "add":
            line.add(name)
            expected.add(name)
        elif what == "discard":
            line.discard(name)
            expected.discard(name)
        elif line.first() is not None:
            line.pop()
            expected.discard(min(expected))
        assert line.first() == min(expected, default=None)


MOMENTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(-(1 << 63), (1 << 63) - 1))
TIMERS = st.lists(
    st.tuples(
        st.sampled_from(["set", "leave", "ring"]),
        st.sampled_from("abcdefgh"),
        st.integers(-3, 3) | st.integers(-(1 << 63), (1 << 63) - 1),
    )
)


@given(MOMENTS, TIMERS)
def test_the_next_timer_is_always_the_earliest(
    at_first: dict[str, int], steps: list[tuple[str, str, int]]
) -> None:
    """Beside a plain dictionary; also of moments before 1970 and far in the future."""
    lane, expected = Lane(), dict(at_first)
    lane.load([], ((micros, stem) for stem, micros in at_first.items()))
    for what, stem, micros in steps:
        if what == "set":
            lane.set_timer(stem, micros)
            expected[stem] = micros
        elif what == "leave":
            lane.leave(stem)
            expected.pop(stem, None)
        elif (first := lane.next_timer()) is not None:
            lane.line_up(first[1])
            expected.pop(first[1])
        assert lane.next_timer() == min(
            ((moment, name) for name, moment in expected.items()), default=None
        )


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
