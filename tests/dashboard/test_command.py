"""`omniq dashboard`: as a process, and held wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from omniq import OmniQ, Task
from omniq.cli.app import execute
from tests.dashboard.programs import program


@pytest.fixture
async def store(tmp_path: Path) -> str:
    """The URL of a store with one task."""
    url = f"sqlite:///{tmp_path}/shop.db"
    async with OmniQ(url) as q:
        await q.enqueue_task(Task(func="shop.pack", id="one"))
    return url


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_shows_a_store_until_it_is_stopped(
    number: int, store: str, tmp_path: Path
) -> None:
    """An open connection does not hold it up; a stop in order is exit code 0."""
    with program(tmp_path, "dashboard", "--app", store, "--port", "0") as running:
        url = await running.url()
        async with httpx.AsyncClient(base_url=url) as browser:
            page = await browser.get("/tasks/one")
            forged = await browser.get("/", headers={"Host": "evil.example"})
            foreign = await browser.post("/tasks/one/cancel")
            own = await browser.post("/tasks/one/cancel", headers={"Origin": url.rstrip("/")})
            code = await running.ends(number)

    assert "shop.pack" in page.text
    assert "uvicorn" not in page.headers.get("server", "")
    assert (forged.status_code, foreign.status_code, own.status_code) == (421, 403, 303)
    assert code == 0
    assert running.said() == f"dashboard: {url}\n"


async def test_it_shows_an_application_by_its_module(tmp_path: Path) -> None:
    """With the classes it knows."""
    (tmp_path / "shop.py").write_text("from omniq import OmniQ\nq = OmniQ('sqlite:///q.db')\n")

    with program(tmp_path, "dashboard", "-a", "shop", "--port", "0", "--read-only") as running:
        page = await running.shows("/", "No tasks yet.")
        assert await running.ends() == 0

    assert "Read only" in page.text


async def test_elsewhere_it_asks_for_the_password(store: str, tmp_path: Path) -> None:
    """Of the file; whoever has it comes in under any name of the machine."""
    (tmp_path / "password").write_text("open sesame\n")
    options = ("--host", "0.0.0.0", "--port", "0", "--password-file", "password")
    with program(tmp_path, "dashboard", "-a", store, *options) as running:
        url = (await running.url()).replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=url, headers={"Host": "queue.example"}) as browser:
            refused = await browser.get("/")
            shown = await browser.get("/", auth=("me", "open sesame"))

    assert (refused.status_code, shown.status_code) == (401, 200)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "0.0.0.0 can be reached from other machines"),
        (["--host", "::"], 2, "needs a password: --password-file FILE"),
        (["--host", "no such host"], 2, "cannot listen at 'no such host'"),
        (["--port", "70000"], 2, "Must be <= 65535"),
        (["--port", "0", "--password-file", "absent"], 2, "--password-file absent: "),
        (["--password", "secret"], 2, "Unknown option"),
        (["--app", "memory://", "--port", "0"], 2, "keeps its tasks in its own process"),
        (["--app", "nosuch", "--port", "0"], 4, "there is no module nosuch"),
        (["--app", "sqlite:///no/x.db", "--port", "0"], 3, "cannot be opened"),
    ],
)
def test_held_wrong_it_says_what_to_do(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the exit code of the other commands, and without a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNIQ_DASHBOARD_PASSWORD", raising=False)

    assert execute(["dashboard", *arguments]) == code

    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("jinja2", "dashboard", "dashboard"),
        ("uvicorn", "dashboard", "dashboard"),
        ("starlette", "dashboard", "dashboard"),
        ("watchfiles", "dev", "dev"),
        ("uvicorn", "dev", "dashboard"),
    ],
)
def test_without_its_extra_it_says_how_to_get_it(
    missing: str, command: str, extra: str, tmp_path: Path
) -> None:
    """`import omniq` and the other commands work without them."""
    arguments = [command, "shop"] if command == "dev" else [command]
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from omniq.cli.app import execute\n"
        "assert execute(['version']) == 0\n"
        f"sys.exit(execute({arguments!r}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert f"needs the module '{missing}'" in done.stderr
    assert f"pip install 'omniq-tasks[{extra}]'" in done.stderr


def test_other_commands_load_none_of_it(tmp_path: Path) -> None:
    """A web server is not paid for by who lists tasks."""
    unwanted = ("starlette", "uvicorn", "jinja2", "watchfiles", "omniq.dashboard")
    script = (
        "import sys\nfrom omniq.cli.app import execute\nexecute(['version'])\n"
        f"print([name for name in {unwanted!r} if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"
