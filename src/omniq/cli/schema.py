"""`omniq migrate-schema`: the tables of a store, brought to this version."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Annotated, Any, NamedTuple

from cyclopts import Parameter

from omniq.cli.exits import Exit
from omniq.cli.output import Json, console, print_json, print_table
from omniq.cli.target import Target, open_target
from omniq.core import OmniQ
from omniq.storage.schemas import SchemaState, VersionedSchema, refuse_unfit


class _Found(NamedTuple):
    """The tables of one store, as they stood."""

    store: str
    state: SchemaState
    sql: str


def migrate_schema(
    app: Target = None,
    *,
    check: Annotated[
        bool, Parameter(negative=(), help="Change nothing; exit code 1 if there is work to do.")
    ] = False,
    sql: Annotated[
        bool, Parameter(negative=(), help="Change nothing; print the statements still to be run.")
    ] = False,
    json: Json = False,
) -> int:
    """Create the tables of an application, or bring them to this version.

    PostgreSQL and SQLite have tables; other stores need none. Safe to run by several at once.
    """
    found = asyncio.run(_run(open_target(app), changes=not (check or sql)))
    changed = not (check or sql)
    if json:
        print_json([_told(each, changed=changed) for each in found])
    elif sql:
        sys.stdout.write("\n".join(f"-- {each.store}\n{each.sql}" for each in found if each.sql))
    else:
        _print(found, changed=changed)
    is_due = any(each.state.standing != "current" for each in found)
    return Exit.FAILED if check and is_due else Exit.OK


async def _run(app: OmniQ, *, changes: bool) -> list[_Found]:
    return [await _one(schema, changes=changes) for schema in _schemas(app)]


def _schemas(app: OmniQ) -> list[VersionedSchema]:
    """Return what keeps the tables of the four components, each once."""
    components = (app.task_queue, app.result_storage, app.event_storage, app.schedule_storage)
    found = [component.versioned_schema for component in components]
    by_place = {schema.tables_shown: schema for schema in found if schema is not None}
    return list(by_place.values())


async def _one(schema: VersionedSchema, *, changes: bool) -> _Found:
    try:
        state = await schema.schema_state()
        refuse_unfit(state, schema.tables_shown, migrate=True)
        script = await schema.migration_script()
        if changes:
            state = await schema.migrate(partial(_progress, schema.tables_shown))
        return _Found(schema.tables_shown, state, script)
    finally:
        await schema.close(None)


def _progress(store: str, version: int, last: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{store}: version {version} of {last} …\n")


def _told(found: _Found, *, changed: bool) -> dict[str, Any]:
    return {
        "store": found.store,
        "found": found.state.found,
        "known": found.state.known,
        "standing": found.state.standing,
        "migrated": changed and found.state.standing != "current",
        "sql": found.sql,
    }


def _print(found: list[_Found], *, changed: bool) -> None:
    def verdict(state: SchemaState) -> str:
        return f"{state.standing}, now migrated" if changed else f"{state.standing}: to be migrated"

    print_table(
        ("STORE", "FOUND", "KNOWN", "STATE"),
        (
            (
                each.store,
                each.state.found or "none",
                each.state.known,
                "current" if each.state.standing == "current" else verdict(each.state),
            )
            for each in found
        ),
        empty="nothing to do: none of these stores has tables",
    )
    if found and not changed and any(each.state.standing != "current" for each in found):
        console().print("run `omniq migrate-schema` without --check", markup=False)
