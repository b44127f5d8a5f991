"""Report functions over 50 lines and files over 400.

Docstrings do not count towards a function's length. A file may be longer if one of its first 20
lines is the comment `# length: <reason>`. A function may not: split it.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400
MARKER_LINES = 20
ROOTS = ("src", "tests", "scripts", "examples", "bench")

_MARKER = re.compile(r"\s*# length: \S")
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Scope = _Function | ast.ClassDef


def main(roots: list[str]) -> int:
    """Print every violation below `roots`; return 1 if there is one, else 0."""
    found = [line for path in python_files(roots) for line in violations(path)]
    print("\n".join(found) if found else "All functions and files are short enough.")
    return 1 if found else 0


def python_files(roots: list[str]) -> Iterator[Path]:
    """Yield the Python files that `roots` (files or directories) name, those that exist."""
    for root in map(Path, roots):
        yield from [root] if root.is_file() else sorted(root.rglob("*.py"))


def violations(path: Path) -> Iterator[str]:
    """Yield `path:line name N lines` for the file itself and each function that is too long."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    if len(lines) > MAX_FILE_LINES and not any(map(_MARKER.match, lines[:MARKER_LINES])):
        yield f"{path}:1 file {len(lines)} lines (at most {MAX_FILE_LINES})"
    for name, function in _functions(ast.parse(source, str(path))):
        length = function_length(function)
        if length > MAX_FUNCTION_LINES:
            yield f"{path}:{function.lineno} {name} {length} lines (at most {MAX_FUNCTION_LINES})"


def function_length(function: _Function) -> int:
    """Count lines from `def` to the end, inner functions included, docstrings not."""
    whole = _line_count(function)
    return whole - sum(map(_docstring_lines, _scopes(function)))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Scope):
            name = prefix + node.name
            if isinstance(node, _Function):
                yield name, node
            yield from _functions(node, f"{name}.")
        else:
            yield from _functions(node, prefix)


def _scopes(function: _Function) -> Iterator[_Scope]:
    return (node for node in ast.walk(function) if isinstance(node, _Scope))


def _docstring_lines(scope: _Scope) -> int:
    return 0 if ast.get_docstring(scope, clean=False) is None else _line_count(scope.body[0])


def _line_count(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(ROOTS)))
