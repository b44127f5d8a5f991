"""Who may ask: names of this machine only, and a password elsewhere."""

from __future__ import annotations

import base64
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from omniq import ConfigError, OmniQ
from omniq.dashboard import dashboard, require_password
from omniq.dashboard.guard import HEADERS, LoopbackOnly
from omniq.dashboard.server import guarded, listen, password_from, url_of

PASSWORD = "correct horse: ünicorn"


@pytest.fixture
def page() -> ASGIApp:
    return PlainTextResponse("secret things")


def asking(app: ASGIApp, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", **options
    )


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8989",
        "LOCALHOST",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.8.9.10",
        "[::1]",
        "[::1]:8989",
    ],
)
async def test_this_machine_is_answered_by_each_of_its_names(host: str, page: ASGIApp) -> None:
    """By a tunnel and another port, too."""
    async with asking(LoopbackOnly(page)) as client:
        assert (await client.get("/", headers={"Host": host})).text == "secret things"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8989",
        "",
        "[::2]",
        "0.0.0.0",
        "[",
        "localhost@evil",
        "192.168.0.1",
    ],
)
async def test_a_foreign_name_that_leads_here_is_refused(host: str, page: ASGIApp) -> None:
    """A page of evil.example, which its owner lets lead to 127.0.0.1, would be of our origin."""
    async with asking(LoopbackOnly(page)) as client:
        response = await client.get("/", headers={"Host": host})

    assert response.status_code == 421
    assert "secret" not in response.text


@pytest.mark.parametrize("user", ["", "anybody", "a@b"])
async def test_the_password_opens_with_any_user_name(user: str, page: ASGIApp) -> None:
    """There are no users, only those who know it; a colon belongs to it."""
    async with asking(require_password(page, PASSWORD)) as client:
        response = await client.get("/", headers={"Authorization": basic(f"{user}:{PASSWORD}")})

    assert response.text == "secret things"


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic bm9jb2xvbg==",
        "Bearer " + base64.b64encode(f":{PASSWORD}".encode()).decode(),
        basic(":"),
        basic(f"{PASSWORD}:"),
        basic(f":{PASSWORD} "),
        basic(f":{PASSWORD[:-1]}"),
        "Basic \xff\xfe",
    ],
)
async def test_nothing_else_opens(given: str | None, page: ASGIApp) -> None:
    """And the browser is asked for it."""
    headers = {} if given is None else {b"Authorization": given.encode("latin-1")}
    async with asking(require_password(page, PASSWORD)) as client:
        response = await client.get("/", headers=headers)

    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Basic realm="OmniQ"')
    assert response.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


async def test_a_websocket_does_not_slip_past_the_password(page: ASGIApp) -> None:
    """Whatever is mounted behind it."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await require_password(page, PASSWORD)({"type": "websocket", "headers": []}, receive, send)

    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize("password", ["", "1234567"])
def test_a_password_worth_nothing_is_refused(password: str, page: ASGIApp) -> None:
    """Rather than an open door that looks closed."""
    with pytest.raises(ConfigError, match="fewer than 8 characters"):
        require_password(page, password)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_an_address_others_can_reach_needs_a_password(address: str, page: ASGIApp) -> None:
    """It is the socket that counts, not what it was called."""
    with closing(listen(address, 0)) as listening:
        guarded(page, listening, PASSWORD)
        if address == "0.0.0.0":
            with pytest.raises(ConfigError, match="needs a password: --password-file"):
                guarded(page, listening, None)
        else:
            guarded(page, listening, None)
            assert url_of(listening).startswith("http://127.0.0.1:") or "[::1]" in url_of(listening)


def test_an_address_in_use_is_told_with_what_to_do(page: ASGIApp) -> None:
    """The second dashboard on one machine."""
    with closing(listen("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ConfigError, match=r"in use.*choose another --host or --port"):
            listen("127.0.0.1", port)


def test_the_password_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never from the command line, which every user of the machine can read."""
    file = tmp_path / "password"
    file.write_text("from the file\n")
    monkeypatch.delenv("OMNIQ_DASHBOARD_PASSWORD", raising=False)
    assert password_from(None) is None
    monkeypatch.setenv("OMNIQ_DASHBOARD_PASSWORD", "from the environment")

    assert password_from(file) == "from the file"
    assert password_from(None) == "from the environment"
    with pytest.raises(ConfigError, match="--password-file"):
        password_from(tmp_path / "absent")


async def test_a_mounted_dashboard_can_ask_for_a_password() -> None:
    """In an application whose own checks do not reach what is mounted."""
    async with OmniQ("memory://") as q, asking(require_password(dashboard(q), PASSWORD)) as client:
        refused = await client.get("/")
        shown = await client.get("/", auth=httpx.BasicAuth("me", PASSWORD))

    assert (refused.status_code, shown.status_code) == (401, 200)


def test_a_variable_that_is_not_set_is_no_password(page: ASGIApp) -> None:
    """As `os.environ.get` has it."""
    missing: Any = None

    with pytest.raises(ConfigError, match="is its variable set"):
        require_password(page, missing)


def test_a_dashboard_of_something_else_is_refused_when_it_is_made() -> None:
    """Not by the first page somebody looks at."""
    url: Any = "sqlite:///shop.db"

    with pytest.raises(ConfigError, match="takes an OmniQ, got str"):
        dashboard(url)
