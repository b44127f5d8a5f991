"""Schedules of an application: declared in code, stored without losing their state."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq import OmniQ, RetryPolicy, Schedule, ScheduleStatus, ScheduleType
from omniq.app.schedules import schedule_id_of
from omniq.exceptions import ConfigError, ValidationError
from omniq.ids import check_name
from omniq.registry import TaskFunction
from tests.naming import stable_id

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def app() -> OmniQ:
    return OmniQ("memory://")


async def stored(app: OmniQ) -> dict[str, Schedule]:
    return {item.id: item for item in await app.schedule_storage.list_schedules()}


def report(day: str = "today") -> None:
    """Do nothing."""


class TestDeclaring:
    """The decorators."""

    async def test_cron_makes_a_task_and_a_schedule(self, app: OmniQ) -> None:
        """The id is the task's name: the same in every process and after every restart."""
        task = app.cron("0 9 * * mon-fri", timezone="Europe/Berlin", queue="reports")(report)

        await app.save_schedules()

        (schedule,) = (await stored(app)).values()
        assert (schedule.id, schedule.func) == (task.name, task.name)
        assert (schedule.schedule_type, schedule.timezone) == (ScheduleType.CRON, "Europe/Berlin")
        assert schedule.queue_name == "reports"
        assert schedule.next_run_at is not None
        assert app.registry.resolve(task.name) is task

    async def test_every_takes_seconds_or_a_timedelta(self, app: OmniQ) -> None:
        """Whatever reads better."""
        app.every(90)(report)
        app.every(timedelta(minutes=5), name="other")(report)

        await app.save_schedules()

        assert {item.interval_seconds for item in (await stored(app)).values()} == {90.0, 300.0}

    async def test_options_of_task_and_schedule_go_where_they_belong(self, app: OmniQ) -> None:
        """All in one decorator."""
        policy = RetryPolicy(max_retries=2)
        task = app.cron(
            "@daily",
            name="nightly",
            priority=4,
            timeout=60,
            retry=policy,
            result_ttl=5,
            expires=timedelta(hours=1),
            metadata={"a": 1},
            args=("monday",),
            schedule_id="night",
            start_at=LONG_AGO,
            max_runs=9,
            misfire="all",
            misfire_grace=timedelta(minutes=2),
        )(report)

        await app.save_schedules()

        schedule = (await stored(app))["night"]
        assert (schedule.func, schedule.args, schedule.priority) == ("nightly", ("monday",), 4)
        assert (schedule.timeout_seconds, schedule.retry) == (60.0, policy)
        assert (schedule.result_ttl_seconds, schedule.expires_seconds) == (5.0, 3600.0)
        assert (schedule.metadata, schedule.start_at) == ({"a": 1}, LONG_AGO)
        assert (schedule.max_runs, schedule.misfire) == (9, "all")
        assert schedule.misfire_grace_seconds == 120.0
        assert task.make_task().priority == 4

    async def test_what_is_a_task_already_only_gets_a_schedule(self, app: OmniQ) -> None:
        """Decorators stack; each further schedule of a task is numbered."""
        task = app.task(priority=2)(report)

        same = app.cron("0 9 * * *")(app.cron("0 17 * * *", priority=7)(task))
        app.cron("0 9 * * *")(task)
        await app.save_schedules()

        schedules = await stored(app)
        assert same is task
        assert {key: item.priority for key, item in schedules.items()} == {
            task.name: 7,
            f"{task.name}-2": 2,
        }

    async def test_a_definition_run_again_replaces_its_schedules(self, app: OmniQ) -> None:
        """A cell run twice with another time."""

        def define(expression: str) -> TaskFunction[..., Any]:
            @app.cron(expression)
            def job() -> None: ...

            return job

        define("0 9 * * *")
        define("0 10 * * *")
        await app.save_schedules()

        assert [item.cron_expression for item in (await stored(app)).values()] == ["0 10 * * *"]

    def test_two_schedules_of_one_id_are_refused(self, app: OmniQ) -> None:
        """The first would silently never fire."""
        app.every(5, schedule_id="same", name="one")(report)

        with pytest.raises(ConfigError, match="'same' is taken by one of one; give each its own"):
            app.every(5, schedule_id="same", name="other")(report)

        app.every(5, schedule_id="same", name="one")(report)  # the same definition, run again

    @pytest.mark.parametrize("moment", [{"every": 60}, {"at": LONG_AGO}])
    def test_a_time_zone_that_nothing_is_read_in_is_refused(
        self, app: OmniQ, moment: dict[str, Any]
    ) -> None:
        """Whoever gives one beside a naive moment would be off by hours."""
        with pytest.raises(
            ValidationError, match="`at` takes a datetime with its tzinfo"
        ) as caught:
            app.schedule_sync("f", timezone="Europe/Berlin", **moment)

        assert caught.value.field == "timezone"

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"cron": "61 * * * *"}, "cron_expression"),
            ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "timezone"),
            ({"every": 0}, "every"),
            ({"every": -5}, "every"),
            ({"misfire": "never"}, "misfire"),
            ({"misfire_grace": -1}, "misfire_grace"),
            ({"max_runs": 0}, "max_runs"),
            ({"schedule_id": "a/b"}, "id"),
            ({"kwargs": {"wrong": 1}}, "arguments"),
            ({"args": (1, 2)}, "arguments"),
            ({"queue": "a/b"}, "queue"),
            ({"expires": datetime(2090, 1, 1, tzinfo=UTC)}, "expires"),
        ],
        ids=stable_id,
    )
    def test_a_bad_declaration_is_refused_where_it_is_written(
        self, app: OmniQ, options: dict[str, Any], field: str
    ) -> None:
        """Not in a worker, at night."""
        others = {key: value for key, value in options.items() if key not in ("cron", "every")}

        def declare() -> None:
            if "cron" in options:
                app.cron(options["cron"], **others)(report)
            else:
                app.every(options.get("every", 5), **others)(report)

        with pytest.raises(ValidationError) as caught:
            declare()

        assert caught.value.field == field

    def test_required_arguments_have_to_be_given(self, app: OmniQ) -> None:
        """The clock has none."""

        def work(path: str) -> None: ...

        with pytest.raises(ValidationError, match="missing a required argument: 'path'"):
            app.every(5)(work)

    def test_an_unknown_option_is_a_type_error(self, app: OmniQ) -> None:
        """Of task or schedule."""
        with pytest.raises(TypeError, match="no option 'misfires' of a schedule"):
            app.every(5, misfires="once")(report)  # pyright: ignore[reportCallIssue] - user input


class TestSaving:
    """`save_schedules` runs at each start of each worker."""

    async def restarted(self, app: OmniQ, expression: str) -> Schedule:
        """Another process of the same application, declaring this."""
        other = OmniQ("memory://", schedules=app.schedule_storage)
        other.cron(expression, schedule_id="s")(report)
        await other.save_schedules()
        return (await stored(other))["s"]

    async def test_an_unchanged_definition_keeps_its_state(self, app: OmniQ) -> None:
        """A restart neither skips nor repeats a fire time."""
        first = await self.restarted(app, "0 9 * * *")
        due = first.next_run_at
        assert due is not None
        assert await app.schedule_storage.advance("s", due, due + timedelta(days=1))

        again = await self.restarted(app, "0 9 * * *")

        assert again.next_run_at == due + timedelta(days=1)
        assert (again.run_count, again.last_run_at) == (1, due)

    async def test_a_paused_schedule_stays_paused(self, app: OmniQ) -> None:
        """Somebody had a reason."""
        await self.restarted(app, "0 9 * * *")
        await app.schedule_storage.pause_schedule("s")

        assert (await self.restarted(app, "0 9 * * *")).status is ScheduleStatus.PAUSED
        changed = await self.restarted(app, "0 10 * * *")

        assert changed.status is ScheduleStatus.PAUSED
        assert changed.cron_expression == "0 10 * * *"
        resumed = await app.schedule_storage.resume_schedule("s")
        assert resumed.next_run_at is not None
        assert resumed.next_run_at.hour == 10

    async def test_a_changed_definition_fires_by_its_new_time(self, app: OmniQ) -> None:
        """From now on; what it did before stays known."""
        first = await self.restarted(app, "0 9 * * *")
        due = first.next_run_at
        assert due is not None
        await app.schedule_storage.advance("s", due, due + timedelta(days=1))

        changed = await self.restarted(app, "30 10 * * *")

        assert changed.next_run_at is not None
        assert (changed.next_run_at.hour, changed.next_run_at.minute) == (10, 30)
        assert (changed.run_count, changed.last_run_at) == (1, due)
        assert changed.created_at == first.created_at

    async def test_a_completed_schedule_that_is_changed_starts_anew(self, app: OmniQ) -> None:
        """Otherwise the change would do nothing."""
        first = await self.restarted(app, "0 9 * * *")
        assert first.next_run_at is not None
        await app.schedule_storage.advance("s", first.next_run_at, None)
        assert (await self.restarted(app, "0 9 * * *")).status is ScheduleStatus.COMPLETED

        changed = await self.restarted(app, "0 10 * * *")

        assert (changed.status, changed.run_count) == (ScheduleStatus.ACTIVE, 0)

    async def test_other_schedules_are_left_alone(self, app: OmniQ) -> None:
        """Applications may share a store."""
        made = await app.schedule("elsewhere.work", every=60)

        await self.restarted(app, "0 9 * * *")

        assert made.id in await stored(app)


class TestScheduling:
    """`schedule` at run time."""

    @pytest.mark.parametrize(
        ("timing", "kind"),
        [
            ({"cron": "0 9 * * *"}, ScheduleType.CRON),
            ({"every": 60}, ScheduleType.INTERVAL),
            ({"at": datetime(2090, 1, 1, tzinfo=UTC)}, ScheduleType.ONCE),
        ],
    )
    async def test_each_kind_is_stored_with_its_next_time(
        self, app: OmniQ, timing: Any, kind: ScheduleType
    ) -> None:
        """Each call makes another schedule, unless it names one."""
        first = await app.schedule(report, args=("monday",), **timing)
        second = await app.schedule(report, **timing)
        named = await app.schedule(report, schedule_id="n", **timing)

        assert (first.schedule_type, first.args) == (kind, ("monday",))
        assert first.next_run_at is not None
        assert set(await stored(app)) == {first.id, second.id, named.id}
        assert named.id == "n"

    @pytest.mark.parametrize("timing", [{}, {"cron": "* * * * *", "every": 5}], ids=stable_id)
    async def test_exactly_one_timing_is_needed(self, app: OmniQ, timing: Any) -> None:
        """None would never fire, two would contradict each other."""
        with pytest.raises(ValidationError, match="give one of cron, every and at"):
            await app.schedule(report, **timing)

    async def test_the_options_of_the_function_are_passed_on(self, app: OmniQ) -> None:
        """As for a single call."""
        urgent = app.task(report).options(priority=9, queue="q")

        schedule = await app.schedule(urgent, every=60)

        assert (schedule.priority, schedule.queue_name) == (9, "q")

    @pytest.mark.parametrize(
        "options",
        [
            {"task_id": "t"},
            {"unique_key": "k"},
            {"depends_on": "p"},
            {"delay": 5},
            {"run_at": datetime(2090, 1, 1, tzinfo=UTC)},
        ],
        ids=stable_id,
    )
    async def test_options_of_a_single_task_are_refused(self, app: OmniQ, options: Any) -> None:
        """Rather than dropped."""
        with pytest.raises(ValidationError, match="cannot be set for the tasks of a schedule"):
            await app.schedule(app.task(report).options(**options), every=60)

    def test_without_a_loop(self, app: OmniQ) -> None:
        """The twins."""
        app.every(60)(report)

        app.save_schedules_sync()
        app.schedule_sync("elsewhere.work", every=5)

        assert len(app.schedule_storage.list_schedules_sync()) == 2


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:<>-]{0,255}", fullmatch=True).filter(
    lambda name: ".." not in name
)


@given(NAMES)
def test_every_task_name_gives_a_valid_schedule_id(name: str) -> None:
    """Also those of lambdas, local functions and long packages."""
    assert check_name("id", schedule_id_of(name))


@given(NAMES, NAMES)
def test_two_task_names_never_share_a_schedule_id(one: str, other: str) -> None:
    """They would overwrite each other's schedule."""
    assert (schedule_id_of(one) == schedule_id_of(other)) == (one == other)


def test_a_plain_name_is_the_id() -> None:
    """People recognise it."""
    assert schedule_id_of("app.report") == "app.report"
