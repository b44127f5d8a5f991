"""The one place that loads the driver and turns its errors into ours."""

from __future__ import annotations

import ssl
from typing import Any

from omniq.exceptions import (
    ConfigError,
    OmniQError,
    SchemaError,
    StorageError,
    StorageUnavailableError,
)

_ADVICE = {
    "28P01": "the user name or password is wrong",
    "28000": "the server refuses this user, host or database; see its pg_hba.conf",
    "3D000": "there is no such database; create it first",
    "42501": "the user lacks a privilege; it must own the tables, or be allowed to create them",
    "25006": "the server is a read-only replica, or the user's default is read-only",
    "53100": "the server's disk is full; nothing was stored",
    "53300": "the server has no connection to spare; raise max_connections or lower pool_size",
    "57P03": "the server is starting up or shutting down",
    "42704": "the URL has an option neither OmniQ nor the server knows",
}
UNIQUE_VIOLATION = "23505"
_LATER_CLASSES = ("08", "53", "57", "58", "40", "55")
_LATER = {"25006"}
_LOST = {"08003", "08006"}
_SCHEMA = {"42P01", "42703", "3F000", "42883"}
_ABORTED = {"40001", "40P01"}


class AnswerLostError(StorageUnavailableError):
    """The connection was lost during a call, or the answer is overdue: it may have been done."""


def load_driver() -> Any:
    """Return the asyncpg module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import asyncpg
    except ModuleNotFoundError as error:
        raise ConfigError(
            "PostgreSQL needs asyncpg; install it with: pip install 'omniq-tasks[postgres]'"
        ) from error
    return asyncpg


def sqlstate_of(error: BaseException) -> str | None:
    """Return the code the server gave an error, or None for one it did not send."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_aborted(error: BaseException) -> bool:
    """Whether the server rolled a transaction back so that it can simply be run again."""
    name = type(error).__name__
    stale = name in {"InvalidCachedStatementError", "OutdatedSchemaCacheError"}
    return stale or sqlstate_of(error) in _ABORTED


def is_drivers(error: BaseException) -> bool:
    """Whether an error comes from the driver or the network, so that `translated` is for it."""
    if isinstance(error, OmniQError):
        return False
    module = type(error).__module__.partition(".")[0]
    return module == "asyncpg" or isinstance(error, OSError | TimeoutError | ssl.SSLError)


def translated(error: BaseException, shown: str) -> StorageError:
    """Return our error for one of the driver's; `shown` is the database without its password."""
    state = sqlstate_of(error)
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return AnswerLostError(f"{shown}: no answer in time; the call may still be carried out")
    if state is None:
        return _without_code(error, f"{shown}: {text}")
    advice = _ADVICE.get(state)
    message = f"{shown}: {text}" + (f" ({advice})" if advice else "")
    if state in _SCHEMA:
        return SchemaError(f"{message}; the schema was changed by another program")
    if state in _LOST:
        return AnswerLostError(message)
    later = state[:2] in _LATER_CLASSES or state in _LATER
    return StorageUnavailableError(message) if later else StorageError(message)


def _without_code(error: BaseException, message: str) -> StorageError:
    if isinstance(error, ssl.SSLError) or "SSL" in message:
        return StorageError(
            f"{message}; for a server without TLS say ?sslmode=disable, for one with a "
            "certificate of its own ?sslrootcert=<file>"
        )
    if isinstance(error, ValueError):
        return StorageError(message)
    if isinstance(error, ConnectionRefusedError):
        return StorageUnavailableError(f"{message} (no server answers there)")
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return AnswerLostError(message)
    return StorageUnavailableError(message)
