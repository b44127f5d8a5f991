"""Exit codes, and how errors become one.

| code | meaning |
| ---- | ------- |
| 0    | done |
| 1    | the thing asked about is not there, not in the right state, or did not end well |
| 2    | the command line is wrong: unknown option, bad name or value |
| 3    | the store cannot be reached or used |
| 4    | the application cannot be loaded |
| 130  | interrupted |
"""

from __future__ import annotations

from enum import IntEnum

from omniq.exceptions import (
    ConfigError,
    OmniQError,
    StaleTaskError,
    StorageError,
    TaskExistsError,
    ValidationError,
)


class Exit(IntEnum):
    """What the process returns."""

    OK = 0
    FAILED = 1
    USAGE = 2
    STORE = 3
    APP = 4
    INTERRUPTED = 130


class AppLoadError(OmniQError):
    """The application named on the command line cannot be loaded."""


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of an error."""
    match error:
        case AppLoadError():
            return Exit.APP
        case ValidationError() | ConfigError():
            return Exit.USAGE
        case TaskExistsError() | StaleTaskError():
            return Exit.FAILED
        case StorageError():
            return Exit.STORE
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case _:
            return Exit.FAILED
