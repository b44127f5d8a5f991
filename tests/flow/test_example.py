"""The example runs as a reader would run it, on real files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.servers.redis import redis_url


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_example_makes_statistics_of_a_folder(tmp_path: Path, kind: str) -> None:
    """Two loops, one queue; what is no text is told, and does not stop the rest."""
    (tmp_path / "below").mkdir()
    (tmp_path / "a.txt").write_text("The quick brown fox. The lazy dog.")
    (tmp_path / "below/b.md").write_text("Über the fox")
    (tmp_path / "empty.txt").write_text("1 2 3")
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    url = redis_url() if kind == "redis" else "memory://"

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/flow_example.py"), str(tmp_path)],
        env={**os.environ, "DATASTORE_URL": url, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    failed, files, words, most = done.stdout.splitlines()
    assert failed.startswith(f"failed   {tmp_path / 'broken.txt'}: UnicodeDecodeError")
    assert files == "files    2 counted, 1 without words"
    assert words == "words    10, 7 different"
    assert most.startswith("most     the 3, fox 2")
