"""What is said where the libraries of an extra are not installed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from omniq.exceptions import ConfigError

_MODULES = frozenset({"jinja2", "starlette", "uvicorn", "watchfiles"})


@contextmanager
def needed_for(extra: str) -> Generator[None]:
    """Import in the block what needs this extra.

    Raises:
        ConfigError: one of its libraries is not installed; the message says how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _MODULES:
            raise
        raise ConfigError(
            f"this needs the module {missing!r}; "
            f"install it with: pip install 'omniq-tasks[{extra}]'"
        ) from error
