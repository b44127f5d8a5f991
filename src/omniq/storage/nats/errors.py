"""The one place that turns errors of the driver, the server and the network into ours."""

from __future__ import annotations

import ssl
from typing import Any

import msgspec

from omniq.exceptions import CapabilityError, StorageError, StorageUnavailableError


class Problem(msgspec.Struct):
    """Why the server did not do what it was asked."""

    code: int = 0
    err_code: int = 0
    description: str = ""


API_LEVEL = 2
"""That of server 2.12: atomic batches, scheduled messages, expiry of single messages."""
WRONG_SEQUENCE = frozenset({10071, 10164, 10212})
"""Also: the schedule to be replaced has fired meanwhile."""
NOT_FOUND = frozenset({10037, 10043})
STREAM_NOT_FOUND = 10059
NAME_TAKEN = 10058
TOO_MANY_BATCHES = 10210
_LATER = frozenset(
    {
        10008,  # JetStream temporarily unavailable
        10009,  # cluster not leader
        10012,  # clustering: required but no leader
        10023,  # insufficient resources
        10047,  # insufficient storage
        10077,  # maximum of messages or bytes exceeded
        10118,  # stream offline
        10167,  # too many requests
        TOO_MANY_BATCHES,
    }
)
_DISABLED = frozenset({10035, 10039, 10076})


def check_server(info: dict[str, Any], place: str) -> None:
    """Refuse a server that cannot do what this backend needs.

    Raises:
        CapabilityError: it has no JetStream, or is too old.
    """
    if not info.get("jetstream"):
        raise CapabilityError(f"nats server {place}: JetStream is not enabled; start it with -js")
    if int(info.get("api_lvl", 0)) < API_LEVEL:
        raise CapabilityError(
            f"nats server {place}: version {info.get('version')} is too old; 2.12 is needed"
        )


def refused(problem: Problem, place: str, what: str) -> StorageError:
    """Return our error for an error the JetStream API answered."""
    message = f"nats server {place}: {what}: {problem.description or 'no reason given'}"
    code = problem.err_code
    if code in _DISABLED:
        return CapabilityError(f"{message}; start the server with -js, and allow this account it")
    if code in _LATER or problem.code == 503:
        return StorageUnavailableError(message)
    return StorageError(message)


def no_responders(place: str, what: str) -> StorageError:
    """Return the error of a request nobody listens to: no stream, or no leader for it now."""
    return StorageUnavailableError(
        f"nats server {place}: {what}: nobody answers; the stream is gone or has no leader now"
    )


def translated(error: BaseException, place: str) -> StorageError:
    """Return our error for one of the driver's, the network's or a deadline's."""
    text = f"nats server {place}: "
    kind, message = type(error).__name__, str(error)
    lowered = message.lower()
    if "authorization" in lowered or "authentication" in lowered or kind == "AuthorizationError":
        return StorageError(f"{text}it refused the user, password, token or credentials")
    if "permissions violation" in lowered:
        return StorageError(f"{text}{message.removeprefix('nats: ')}")
    if isinstance(error, ssl.SSLError):
        return StorageError(f"{text}TLS failed: {error.reason or message}")
    if isinstance(error, TimeoutError) or kind == "TimeoutError":
        return StorageUnavailableError(f"{text}no answer in time")
    if kind == "NoServersError":
        return StorageUnavailableError(f"{text}it cannot be reached")
    if "expecting INFO" in message:
        return StorageUnavailableError(f"{text}what answers there hung up, or is no NATS server")
    if isinstance(error, OSError) or kind in {"WireLostError", "ConnectionClosedError"}:
        return StorageUnavailableError(f"{text}{message or kind}")
    return StorageError(f"{text}{message or kind}")


def is_lost(error: StorageError) -> bool:
    """Whether the connection broke, so that nobody knows if the request was served."""
    return type(error.__cause__).__name__ == "WireLostError"
