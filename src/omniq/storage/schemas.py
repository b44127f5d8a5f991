"""Versions of a store's tables: how they stand, and what a program may do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from omniq.exceptions import SchemaError

Standing = Literal["missing", "older", "current", "newer"]
Progress = Callable[[int, int], None]
"""Told before each step: the version it brings, and the last one."""


class SchemaState(NamedTuple):
    """The version of the tables (0: there are none), and the one this OmniQ works with."""

    found: int
    known: int

    @property
    def standing(self) -> Standing:
        """How the tables compare with what this OmniQ works with."""
        if self.found == self.known:
            return "current"
        if self.found > self.known:
            return "newer"
        return "older" if self.found else "missing"


class VersionedSchema(Protocol):
    """The tables of a store, as `omniq migrate-schema` looks after them."""

    @property
    def tables_shown(self) -> str:
        """What to call the tables in messages; without a password."""
        ...

    async def schema_state(self) -> SchemaState:
        """Look how the tables stand; nothing is made or changed."""
        ...

    async def migration_script(self) -> str:
        """Return all statements still to be run, as a script for the store's own shell."""
        ...

    async def migrate(self, progress: Progress | None = None) -> SchemaState:
        """Bring the tables to this version, all or nothing; return how they stood.

        Any number of processes may do so at once: the first does it.

        Raises:
            SchemaError: they are of a newer version.
        """
        ...

    async def close(self, owner: object, /) -> None:
        """Give back what looking took."""
        ...


def refuse_unfit(state: SchemaState, shown: str, *, migrate: bool) -> None:
    """Refuse tables that cannot be worked with, nor be brought to this version.

    Raises:
        SchemaError: they are of a newer version, or not of this one and may not be touched.
    """
    if state.standing == "newer":
        raise SchemaError(
            f"{shown}: the tables have schema version {state.found}, this OmniQ knows "
            f"{state.known}; upgrade it"
        )
    if state.standing != "current" and not migrate:
        how = "are no tables" if not state.found else f"are tables of version {state.found}"
        raise SchemaError(
            f"{shown}: there {how}, version {state.known} is needed, and migrate=False forbids to "
            "make it; run `omniq migrate-schema <application or URL>` as a user who may"
        )
