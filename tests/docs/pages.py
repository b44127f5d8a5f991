"""The pages of the documentation, as code that runs.

What a page shows runs as a reader would run it, from top to bottom, in one namespace and a folder
of its own:

* A ``python`` block is executed; one with a top-level ``await`` in the page's event loop. One
  whose first line is ``# name.py`` is saved under that name instead, and must be used later on.
* An ``sh`` block that begins with a command of ours is executed line by line: ``omniq …`` in this
  process, ``python name.py`` and ``pytest …`` each in a new one. ``name=$(omniq …)`` keeps what a
  command printed. A comment at the end says which exit code is expected: ``# exit code 1``.
* An ``sql`` block is left to `test_sql.py`, which knows the database it is for.
* ``<!-- no-run: reason -->`` above a block leaves it out.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from omniq import OmniQ
from omniq.cli.app import execute
from omniq.exceptions import OmniQError

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = frozenset({"python", "sh", "sql", "text", "toml"})

_FENCE = re.compile(r"^```(\w*)\s*$")
_NO_RUN = re.compile(r"^<!-- no-run: (\S.*) -->$")
_FILE = re.compile(r"# (\w+\.py)$")
_KEPT = re.compile(r"(\w+)=\$\((omniq .*)\)$")
_EXPECTED = re.compile(r"\s+# exit code (\d+)\b.*$")
_SETTINGS = re.compile(r'"DJANGO_SETTINGS_MODULE", "(\w+)"')
_IMPORT = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)
_OURS = re.compile(r"(omniq|pytest|python \w+\.py|\w+=\$\(omniq)\b")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, its first line, why it does not run (if so)."""

    language: str
    text: str
    line: int
    no_run: str | None

    @property
    def file_name(self) -> str | None:
        """The name a Python block is to be saved under, if it says so."""
        found = _FILE.match(self.text.partition("\n")[0])
        return found[1] if found and self.language == "python" else None

    @property
    def runs(self) -> bool:
        """Whether the block is executed (or saved)."""
        if self.no_run is not None:
            return False
        return self.language == "python" or (
            self.language == "sh" and _OURS.match(self.text) is not None
        )


def pages() -> list[Path]:
    """Return all pages people read."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(page for page in found if "template" not in page.name)]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    language, start, before = None, 0, ""
    gathered: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if language is None and fence:
            language, start, gathered = fence[1], number + 1, []
        elif language is not None and fence:
            no_run = _NO_RUN.match(before)
            yield Block(language, "\n".join(gathered), start, no_run[1] if no_run else None)
            language, before = None, ""
        elif language is not None:
            gathered.append(line)
        elif line.strip():
            before = line.strip()
    assert language is None, f"{page}: the block at line {start} has no end"


class Session:
    """Runs the blocks of one page in the current folder. Use it as a context manager."""

    def __init__(self, page: Path) -> None:
        self._shown = str(page.relative_to(ROOT))
        self._module = ModuleType(f"page_{page.stem.replace('-', '_')}")
        self._modules_before = frozenset(sys.modules)
        self._runner = asyncio.Runner()
        self._kept: dict[str, str] = {}
        self._saved: list[Block] = []
        self._used: set[str] = {"conftest.py"}

    def __enter__(self) -> Session:
        sys.modules[self._module.__name__] = self._module
        sys.path.insert(0, str(Path.cwd()))
        self._kept_environment = dict(os.environ)
        return self

    def __exit__(self, *_: object) -> None:
        self._close_apps()
        self._runner.close()
        sys.path.remove(str(Path.cwd()))
        for name in self._new_modules():
            del sys.modules[name]
        os.environ.clear()
        os.environ.update(self._kept_environment)

    def run(self, block: Block) -> None:
        """Run a block. Raises what it raises."""
        if block.file_name is not None:
            Path(block.file_name).write_text(block.text + "\n", encoding="utf-8")
            self._saved.append(block)
        elif block.language == "python":
            self._run_python(block)
        else:
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith("#"):
                    self._run_command(line)

    def unused_files(self) -> list[str]:
        """Return the files that were saved but neither imported nor run."""
        used = self._used | {f"{name}.py" for name in sys.modules}
        for block in self._saved:
            names = _IMPORT.findall(block.text) + _SETTINGS.findall(block.text)
            used |= {f"{name}.py" for name in names}
        return [str(block.file_name) for block in self._saved if block.file_name not in used]

    def _run_python(self, block: Block) -> None:
        """Execute a block under its own file name and lines, so that a traceback leads to it."""
        padded = "\n" * (block.line - 1) + block.text + "\n"
        name = f"{self._shown}:{block.line}"
        linecache.cache[name] = (len(padded), None, padded.splitlines(keepends=True), name)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(padded, name, "exec", flags, dont_inherit=True)
        result: Any = eval(code, self._module.__dict__)
        if result is not None:
            self._runner.run(result)

    def _run_command(self, line: str) -> None:
        expected = _EXPECTED.search(line)
        code = int(expected[1]) if expected else 0
        line = line[: expected.start()] if expected else line
        kept = _KEPT.match(line)
        output = io.StringIO()
        with contextlib.redirect_stdout(output) if kept else contextlib.nullcontext():
            found = self._exit_code(kept[2] if kept else line)
        assert found == code, f"{self._shown}: `{line}` ended with {found}, not {code}"
        if kept:
            self._kept[kept[1]] = output.getvalue().strip()

    def _exit_code(self, line: str) -> int:
        program, *arguments = shlex.split(line, comments=True)
        arguments = [self._expanded(argument) for argument in arguments]
        run = _PROGRAMS[program]
        self._used.update(arguments)
        return run(arguments)

    def _expanded(self, argument: str) -> str:
        return self._kept[argument[1:]] if argument.startswith("$") else argument

    def _new_modules(self) -> list[str]:
        here = str(Path.cwd())
        return [
            name
            for name, module in list(sys.modules.items())
            if name not in self._modules_before
            and (module is self._module or str(getattr(module, "__file__", "")).startswith(here))
        ]

    def _close_apps(self) -> None:
        for name in self._new_modules():
            for thing in list(vars(sys.modules[name]).values()):
                if isinstance(thing, OmniQ):
                    with contextlib.suppress(OmniQError):
                        thing.disconnect_sync()


def _in_new_process(*command: str) -> Callable[[list[str]], int]:
    return lambda arguments: subprocess.run([sys.executable, *command, *arguments]).returncode


_PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "omniq": execute,
    "python": _in_new_process(),
    "pytest": _in_new_process("-m", "pytest", "-q", "-p", "no:cacheprovider"),
}
