"""What type checkers say to users: the samples beside this file, checked by pyright."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SAMPLES = sorted(path.name for path in HERE.glob("sample_*.py"))


@cache
def errors() -> dict[str, list[str]]:
    """What pyright finds in each sample, in one run for all: starting it takes seconds."""
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in SAMPLES)],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] >= len(SAMPLES), done.stderr
    found: dict[str, list[str]] = {name: [] for name in SAMPLES}
    for item in report["generalDiagnostics"]:
        line = item["range"]["start"]["line"] + 1
        found[Path(item["file"]).name].append(f"{line}: {item['message']}")
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_pyright_sees_what_the_sample_says(name: str) -> None:
    """Mistakes are errors before the program runs, the rest is not, results keep their type."""
    assert errors()[name] == []
