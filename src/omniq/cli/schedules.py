"""`omniq schedules …`."""

from __future__ import annotations

from cyclopts import App

from omniq.cli.exits import Exit
from omniq.cli.output import Json, print_json, print_table
from omniq.cli.target import Target, on_target
from omniq.exceptions import NotFoundError
from omniq.models.schedule import Schedule, ScheduleStatus
from omniq.readable import ago, timing

schedules = App(name="schedules", help="Look at schedules, pause them, resume them.")
_COLUMNS = ("ID", "TASK", "WHEN", "STATUS", "NEXT", "LAST", "FIRED")


@schedules.default
@schedules.command(name="list")
def list_schedules(*, app: Target = None, json: Json = False) -> None:
    """List schedules with their next fire time."""
    found = on_target(app, lambda target: target.schedule_storage.list_schedules())
    _print(found, json=json)


@schedules.command
def pause(schedule_id: str, *, app: Target = None, json: Json = False) -> None:
    """Let a schedule fire no more until resumed."""
    _print([_turn(app, "pause_schedule", schedule_id)], json=json)


@schedules.command
def resume(schedule_id: str, *, app: Target = None, json: Json = False) -> None:
    """Let a paused schedule fire again, from now on."""
    _print([_turn(app, "resume_schedule", schedule_id)], json=json)


@schedules.command
def delete(schedule_id: str, *, app: Target = None) -> int:
    """Delete a schedule; tasks it made stay. One declared in code comes back with its worker."""
    was_there = on_target(app, lambda target: target.schedule_storage.delete_schedule(schedule_id))
    if not was_there:
        raise NotFoundError(f"there is no schedule {schedule_id}")
    return Exit.OK


def _turn(app: str | None, method: str, schedule_id: str) -> Schedule:
    schedule: Schedule = on_target(
        app, lambda target: getattr(target.schedule_storage, method)(schedule_id)
    )
    return schedule


def _print(found: list[Schedule], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    rows = (
        (
            s.id,
            s.func,
            timing(s),
            s.status.value,
            "-" if s.status is ScheduleStatus.PAUSED else ago(s.next_run_at),
            ago(s.last_run_at),
            s.run_count,
        )
        for s in found
    )
    print_table(_COLUMNS, rows, empty="no schedules")
