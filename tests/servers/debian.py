"""Programs of Debian packages, unpacked into a folder: nothing is installed, nothing started.

For servers that come in no wheel, or as a second implementation beside one that does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

REQUIRED = "OMNIQ_TEST_REQUIRED"
"""Where this variable is set, what cannot be tested fails; elsewhere it is skipped."""
FETCH_SECONDS = 300
NOT_NEEDED = ("libllvm", "libc6")
"""Large and only for just-in-time compilation; and what fits to this machine only as it is."""


class Program(NamedTuple):
    """A program and what it needs to be run."""

    path: Path
    environment: Mapping[str, str]


def program(package: str, path: str) -> Program:
    """Return a program of a package; it is fetched and unpacked unless this machine has it.

    Skips the test that asks for one that cannot be had, or fails it where nothing may be skipped.

    Args:
        package: its name in the release of Debian this machine runs.
        path: where the package keeps the program, such as ``usr/bin/redis-server``.
    """
    found = _found(package, path)
    return found if isinstance(found, Program) else cannot_test(found)


def cannot_test(reason: str) -> NoReturn:
    """Skip the test that runs, with the reason; fail it where nothing may be skipped."""
    import pytest  # the benchmarks start servers without it

    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _found(package: str, path: str) -> Program | str:
    """The program, or why it cannot be had."""
    installed = Path("/", path)
    if installed.exists():
        return Program(installed, {})
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            return f"{package} is not installed, and there is no {tool} to fetch it"
    try:
        root = _unpacked(package)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"{package} is not installed, and cannot be fetched: {said}"
    libraries = sorted({str(found.parent) for found in root.glob("usr/lib/**/lib*.so.*")})
    return Program(root / path, {"LD_LIBRARY_PATH": ":".join(libraries)})


def _unpacked(package: str) -> Path:
    """The folder with the package and the libraries it needs; made once for all processes."""
    kept = _folder()
    with _alone(kept / f"{package}.lock"):
        if not (kept / package).exists():
            _fetch(package, kept)
    return kept / package


def _folder() -> Path:
    """Where everything is unpacked: another user, as which some servers run, must get through."""
    folder = Path(tempfile.gettempdir(), f"omniq-tests-{os.geteuid()}")
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def _fetch(package: str, kept: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f"{package}-", dir=kept))
    folder.chmod(0o755)
    try:
        _download(package, folder)
        for archive in folder.glob("*.deb"):
            _run("dpkg", "-x", archive.name, "root", cwd=folder)
        (folder / "root").rename(kept / package)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(package: str, folder: Path) -> None:
    """Fetch by the machine's package lists, or, where those are missing or old, by new ones."""
    try:
        _run("apt-get", "download", *_needed(package, folder, ()), cwd=folder)
    except subprocess.CalledProcessError:
        (folder / "lists" / "partial").mkdir(parents=True)
        options = ("-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}")
        _run("apt-get", *options, "update", cwd=folder)
        needed = _needed(package, folder, options)
        _run("apt-get", *options, "download", *needed, cwd=folder)


def _needed(package: str, folder: Path, options: tuple[str, ...]) -> set[str]:
    """The package, its parts and the libraries that this machine has not."""
    plan = _run(
        "apt-get", *options, "install", "--simulate", "--no-install-recommends", package, cwd=folder
    )
    missing = {line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")}
    stem = package.partition("-")[0]
    wanted = {name for name in missing if name.startswith((stem, "lib"))}
    return {package} | {name for name in wanted if not name.startswith(NOT_NEEDED)}


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        check=True,
        capture_output=True,
        text=True,
        timeout=FETCH_SECONDS,
    )
    return done.stdout


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Keep other processes out meanwhile."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
