"""The one place that turns the answers of object stores, and their silence, into our errors."""

from __future__ import annotations

import re
from typing import NamedTuple

from omniq.exceptions import StorageError, StorageUnavailableError

MAYBE_DONE = "the request may or may not have been carried out"

_USER = re.compile(r"//[^/\s@]+@")
_LATER_CODES = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "OperationAborted",
        "ConditionalRequestConflict",
        "ServerBusy",
        "OperationTimedOut",
        "InternalError",
    }
)
_LATER_STATUSES = frozenset({408, 409, 425, 429})
_CREDENTIALS = "check the credentials and what they are allowed to do with this bucket"
_ADVICE = {
    400: "check the name of the bucket, the region and the options",
    401: _CREDENTIALS,
    403: _CREDENTIALS,
    404: "create the bucket first, or check its name and the account",
    301: "the bucket lies in another region; name it in the options",
    307: "the bucket lies in another region; name it in the options",
    413: "the object is larger than the store takes",
}


class Refusal(NamedTuple):
    """What a store answered instead of doing what it was asked.

    Attributes:
        status: of HTTP.
        code: the store's own word for it, such as ``NoSuchBucket``.
        message: its explanation, without anything secret.
    """

    status: int
    code: str = ""
    message: str = ""


def refused(refusal: Refusal, place: str, what: str) -> StorageError:
    """Return our error for an answer: what failed, where, why, and what to do."""
    status, code, message = refusal
    reason = ": ".join(
        part for part in (f"HTTP {status} {code}".strip(), _first_line(message)) if part
    )
    text = f"{place}: {what} failed: {reason}"
    if status >= 500 or status in _LATER_STATUSES or code in _LATER_CODES:
        return StorageUnavailableError(text)
    advice = _ADVICE.get(status)
    return StorageError(f"{text} ({advice})" if advice else text)


def without_credentials(error: BaseException, place: str, what: str) -> StorageError:
    """Return our error for credentials that could not even be sent."""
    return StorageError(f"{place}: {what} failed: {_first_line(str(error))} ({_CREDENTIALS})")


def unreachable(error: BaseException, place: str, what: str) -> StorageError:
    """Return our error for a connection that could not be made, or broke."""
    reason = _first_line(str(error)) or type(error).__name__
    return StorageUnavailableError(
        f"{place}: {what} failed: the store cannot be reached: {reason} "
        "(check the network and the endpoint)"
    )


def unanswered(place: str, what: str, seconds: float) -> StorageError:
    """Return our error for a request nobody answered."""
    return StorageUnavailableError(
        f"{place}: {what} failed: no answer within {seconds:.3g} s; {MAYBE_DONE}"
    )


def doubtful(error: StorageUnavailableError, what: str) -> StorageUnavailableError:
    """Return the error with what a caller must know of a write that may have happened."""
    text = str(error)
    if what in {"get", "list"} or MAYBE_DONE in text:
        return error
    return StorageUnavailableError(f"{text}; {MAYBE_DONE}")


def _first_line(message: str) -> str:
    """Return an explanation on one line, short enough to be read, without the user of a URL."""
    line = _USER.sub("//***@", message.strip().partition("\n")[0].strip())
    return line if len(line) <= 300 else f"{line[:300]}…"
