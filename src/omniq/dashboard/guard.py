"""Who may ask, and what answers forbid: checks that hold for all pages."""

from __future__ import annotations

import base64
import binascii
import hmac
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omniq.exceptions import ConfigError

SHORTEST_PASSWORD = 8
NO_NAME_OF_OURS = "This dashboard answers only to localhost, 127.0.0.1 and [::1].\n"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with it, browsers send "Origin: null" with the forms of our own pages.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SafeHeaders:
    """Gives each answer the headers that keep browsers from running or keeping anything of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer with our headers."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_safely)


def is_from_our_pages(headers: Headers) -> bool:
    """Whether a request that changes something was sent by a page of this very site.

    Browsers say so in Sec-Fetch-Site, or, where they do not (plain HTTP to another machine), in
    Origin. Who says neither is refused: it costs a program one header, and a forger everything.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    host = headers.get("host")
    return bool(host) and headers.get("origin") in {f"http://{host}", f"https://{host}"}


class LoopbackOnly:
    """Answers only who asks for this machine by a name of its own.

    A page of somebody else whose name leads to 127.0.0.1 would be of the same origin as ours, and
    could read and change everything through the browser of whoever looks at it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or is_loopback(_host_of(scope)):
            await self._app(scope, receive, send)
            return
        await PlainTextResponse(NO_NAME_OF_OURS, 421)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(scope: Scope) -> str:
    """Return the host a request asks for, without its port."""
    host = Headers(scope=scope).get("host", "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def require_password(app: ASGIApp, password: str) -> ASGIApp:
    """Return an application that asks for this password, with any user name (HTTP Basic).

    Passwords travel as they are: over a network, put something that speaks TLS in front.

    Raises:
        ConfigError: there is no password, or it is shorter than 8 characters.
    """
    if not isinstance(password, str):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
        raise ConfigError(f"the dashboard's password is {password!r}; is its variable set?")
    if len(password) < SHORTEST_PASSWORD:
        raise ConfigError(f"the dashboard's password has fewer than {SHORTEST_PASSWORD} characters")
    expected = password.encode()

    async def asking(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif hmac.compare_digest(_password_given(Headers(scope=scope)), expected):
            await app(scope, receive, send)
        else:
            await _who_are_you()(scope, receive, send)

    return SafeHeaders(asking)


def _password_given(headers: Headers) -> bytes:
    """Return the password a request brings; empty where it brings none."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def _who_are_you() -> Response:
    challenge = {"WWW-Authenticate": 'Basic realm="OmniQ", charset="UTF-8"'}
    return PlainTextResponse("This dashboard needs its password.\n", 401, headers=challenge)
