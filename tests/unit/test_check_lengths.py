"""The length check itself: a limit that is measured wrongly is worse than none."""

from pathlib import Path

import check_lengths
import pytest


def write(folder: Path, source: str) -> Path:
    path = folder / "module.py"
    path.write_text(source, encoding="utf-8")
    return path


def body(lines: int, *, indent: int = 4) -> str:
    return (" " * indent + "x = 1\n") * lines


def test_function_at_the_limit_passes(tmp_path: Path) -> None:
    """The limit is inclusive: 50 lines are allowed."""
    path = write(tmp_path, "def f():\n" + body(49))

    assert list(check_lengths.violations(path)) == []


def test_function_over_the_limit_is_reported_with_its_place(tmp_path: Path) -> None:
    """The report names file, line, function and length, so that an editor can jump there."""
    path = write(tmp_path, "import os\n\n\nasync def f():\n" + body(50))

    assert list(check_lengths.violations(path)) == [f"{path}:4 f 51 lines (at most 50)"]


def test_decorators_do_not_move_the_reported_line(tmp_path: Path) -> None:
    """A function starts at its `def`: what decorates it is not its body."""
    path = write(tmp_path, "@decorate\n@again\ndef f():\n" + body(50))

    assert list(check_lengths.violations(path)) == [f"{path}:3 f 51 lines (at most 50)"]


def test_docstring_lines_do_not_count(tmp_path: Path) -> None:
    """Nobody shortens a docstring to please the check."""
    docstring = '    """First.\n' + "    more\n" * 30 + '    """\n'
    path = write(tmp_path, "def f():\n" + docstring + body(49))

    assert list(check_lengths.violations(path)) == []


def test_a_string_that_is_not_a_docstring_counts(tmp_path: Path) -> None:
    """Long SQL in a function makes the function long."""
    text = '    sql = """\n' + "    more\n" * 48 + '    """\n'
    path = write(tmp_path, "def f():\n" + text)

    assert list(check_lengths.violations(path)) == [f"{path}:1 f 51 lines (at most 50)"]


def test_methods_and_inner_functions_are_named_in_full(tmp_path: Path) -> None:
    """An inner function makes the outer one long too: both are reported."""
    inner = "class A:\n    def f(self):\n        def g():\n" + body(50, indent=12)
    path = write(tmp_path, inner)

    assert list(check_lengths.violations(path)) == [
        f"{path}:2 A.f 52 lines (at most 50)",
        f"{path}:3 A.f.g 51 lines (at most 50)",
    ]


def test_docstrings_of_inner_functions_do_not_count_for_the_outer(tmp_path: Path) -> None:
    """A decorator with a documented wrapper is not longer than its code."""
    inner = '    def g():\n        """First.\n' + "        more\n" * 20 + '        """\n'
    path = write(tmp_path, "def f():\n" + inner + body(48))

    assert list(check_lengths.violations(path)) == []


def test_functions_behind_conditions_are_found(tmp_path: Path) -> None:
    """A definition for one platform only is checked like any other."""
    path = write(tmp_path, "if True:\n    def f():\n" + body(50, indent=8))

    assert list(check_lengths.violations(path)) == [f"{path}:2 f 51 lines (at most 50)"]


def test_long_file_is_reported_and_its_last_allowed_line_is_not(tmp_path: Path) -> None:
    """400 lines pass, 401 do not."""
    path = write(tmp_path, "x = 1\n" * 400)
    assert list(check_lengths.violations(path)) == []

    path = write(tmp_path, "x = 1\n" * 401)
    assert list(check_lengths.violations(path)) == [f"{path}:1 file 401 lines (at most 400)"]


@pytest.mark.parametrize(
    ("source", "accepted"),
    [
        pytest.param("# length: one table\n" + "x = 1\n" * 400, True, id="reason at the top"),
        pytest.param("x = 1\n" * 19 + "# length: a\n" + "x = 1\n" * 400, True, id="line 20"),
        pytest.param("x = 1\n" * 20 + "# length: a\n" + "x = 1\n" * 400, False, id="line 21"),
        pytest.param("# length:\n" + "x = 1\n" * 400, False, id="no reason"),
        pytest.param('x = "# length: a"\n' + "x = 1\n" * 400, False, id="not a comment"),
    ],
)
def test_long_file_needs_a_reason_near_its_top(
    tmp_path: Path, source: str, *, accepted: bool
) -> None:
    """An exception is visible where a reader starts, and says why."""
    path = write(tmp_path, source)

    assert (list(check_lengths.violations(path)) == []) is accepted


def test_the_reason_does_not_excuse_a_long_function(tmp_path: Path) -> None:
    """A file may be a long table; a function is always splittable."""
    path = write(tmp_path, "# length: one table\ndef f():\n" + body(50))

    assert list(check_lengths.violations(path)) == [f"{path}:2 f 51 lines (at most 50)"]


def test_main_reports_everything_below_the_roots_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run shows all there is to mend."""
    package = tmp_path / "package"
    package.mkdir()
    first = write(package, "def f():\n" + body(50))
    second = write(tmp_path, "x = 1\n" * 401)

    assert check_lengths.main([str(package), str(second), str(tmp_path / "missing")]) == 1

    assert capsys.readouterr().out.splitlines() == [
        f"{first}:1 f 51 lines (at most 50)",
        f"{second}:1 file 401 lines (at most 400)",
    ]


def test_main_passes_when_all_is_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Success says so and exits 0."""
    write(tmp_path, "x = 1\n")

    assert check_lengths.main([str(tmp_path)]) == 0
    assert "short enough" in capsys.readouterr().out
