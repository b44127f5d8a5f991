"""`OmniQBackend`, by the API of Django's tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings

from omniq import OmniQ, RetryPolicy, SyncInAsyncError, TaskStatus
from omniq.integrations.django import OmniQBackend, app_of
from omniq.integrations.django.api import (
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from tests.integrations import shop_tasks

Options = dict[str, Any]


def settings_of(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "default": {
            "BACKEND": "omniq.integrations.django.OmniQBackend",
            "QUEUES": ["default", "mail"],
            "OPTIONS": {"url": f"sqlite:///{folder}/shop.db", **options},
        }
    }


@pytest.fixture(autouse=True)
def backend(tmp_path: Path) -> Iterator[OmniQBackend]:
    shop_tasks.seen.clear()
    with override_settings(TASKS=settings_of(tmp_path)):
        found = task_backends["default"]
        assert isinstance(found, OmniQBackend)
        yield found
        found.app.disconnect_sync()


def work(app: OmniQ | None = None, **options: Any) -> None:
    (app or app_of()).worker(burst=True, queues=["default", "mail"], **options).run_sync()


def test_a_task_runs_and_its_result_comes_back() -> None:
    """What everybody tries first."""
    result = shop_tasks.add.enqueue(2, b=3)
    assert result.status == TaskResultStatus.READY
    assert not result.is_finished
    assert result.enqueued_at is not None
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value

    work()
    result.refresh()

    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == 5
    assert result.attempts == 1
    assert result.started_at is not None
    assert result.finished_at is not None
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert (result.args, result.kwargs) == ([2], {"b": 3})
    assert result.task.func is shop_tasks.add.func


async def test_a_coroutine_runs_and_all_works_within_a_loop() -> None:
    """Async views enqueue too."""
    result = await shop_tasks.add_async.aenqueue(2, 3)

    await app_of().worker(burst=True).run()
    await result.arefresh()

    assert result.return_value == 5
    assert (await shop_tasks.add_async.aget_result(result.id)).status == "SUCCESSFUL"
    with pytest.raises(SyncInAsyncError, match="await"):
        shop_tasks.add.enqueue(1, 2)


def test_a_failure_tells_class_and_traceback() -> None:
    """As the API promises."""
    result = shop_tasks.fail.enqueue("no stamps")

    work()
    result.refresh()

    assert result.status == TaskResultStatus.FAILED
    (error,) = result.errors
    assert error.exception_class is ValueError
    assert "no stamps" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_the_context_knows_result_and_attempt() -> None:
    """`takes_context` is part of the API."""
    result = shop_tasks.with_context.enqueue("hello")

    work()
    result.refresh()

    assert result.return_value == {"word": "hello", "attempt": 1, "id": result.id}


def test_priority_queue_and_delay_are_kept() -> None:
    """All three `supports_…` that are said to be true."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    shop_tasks.note.using(priority=-5).enqueue("last")
    shop_tasks.note.using(priority=50).enqueue("first")
    shop_tasks.note.using(queue_name="mail").enqueue("mail")
    late = shop_tasks.note.using(run_after=soon).enqueue("late")

    work(concurrency=1)

    assert shop_tasks.seen == ["first", "last", "mail"]
    stored = app_of().get_task_sync(late.id)
    assert stored is not None
    assert (stored.status, stored.run_at) == (TaskStatus.SCHEDULED, soon)
    late.refresh()
    assert late.status == TaskResultStatus.READY
    assert late.task.run_after == soon


def test_a_task_enqueued_on_commit_exists_if_and_only_if_it_commits() -> None:
    """The way Django documents for tasks that need rows of the transaction."""
    with transaction.atomic():
        transaction.on_commit(partial(shop_tasks.note.enqueue, "committed"))
        assert not app_of().list_tasks_sync()
    with transaction.atomic():
        transaction.on_commit(partial(shop_tasks.note.enqueue, "rolled back"))
        transaction.set_rollback(True)

    work()

    assert shop_tasks.seen == ["committed"]


def test_signals_are_sent_where_things_happen() -> None:
    """Monitoring of Django listens to them."""
    heard: list[tuple[str, Any]] = []
    receivers: list[tuple[Any, Any]] = []
    for name, signal in (
        ("enqueued", task_enqueued),
        ("started", task_started),
        ("finished", task_finished),
    ):

        def hear(sender: Any, task_result: Any, name: str = name, **kwargs: Any) -> None:
            assert sender is OmniQBackend
            heard.append((name, str(task_result.status)))

        signal.connect(hear)
        receivers.append((signal, hear))
    try:
        shop_tasks.add.enqueue(1, 2)
        work()
        shop_tasks.fail.enqueue("x")
        work()
    finally:
        for signal, hear in receivers:
            signal.disconnect(hear)

    assert heard == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "SUCCESSFUL"),
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "FAILED"),
    ]


def test_retries_are_attempts_of_one_result(tmp_path: Path) -> None:
    """`finished` is said once, and each attempt has a worker."""
    finished: list[Any] = []

    def hear(sender: Any, task_result: Any, **kwargs: Any) -> None:
        finished.append(task_result.status)

    retry = RetryPolicy(max_retries=2, delay_seconds=0)
    task_finished.connect(hear)
    try:
        with override_settings(TASKS=settings_of(tmp_path, retry=retry)):
            result = shop_tasks.fail.enqueue("x")
            work()
            result.refresh()
            app_of().disconnect_sync()
    finally:
        task_finished.disconnect(hear)

    assert result.attempts == 3
    assert finished == [TaskResultStatus.FAILED]


def test_a_value_that_is_no_json_fails_the_task_and_bad_arguments_the_call() -> None:
    """The API's results are JSON; nothing is stored that could not be."""
    result = shop_tasks.not_json.enqueue()
    with pytest.raises(TypeError):
        shop_tasks.add.enqueue(cast("int", object()), 1)

    work()
    result.refresh()

    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is TypeError


def test_a_cancelled_task_is_a_failed_one() -> None:
    """Django knows no other end; the class says what happened."""
    result = shop_tasks.add.enqueue(1, 2)
    app_of().cancel_sync(result.id)

    result.refresh()

    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class.__name__ == "TaskCancelledError"


def test_results_that_are_not_there_are_said_to_be(tmp_path: Path) -> None:
    """Unknown, of another program, no id at all, or expired."""
    foreign = app_of().enqueue_sync("other.send", 1)
    with override_settings(TASKS=settings_of(tmp_path, result_ttl=0)):
        expired = shop_tasks.add.enqueue(1, 2)
        work()
        with pytest.raises(TaskResultDoesNotExist, match="expired"):
            expired.refresh()
        app_of().disconnect_sync()

    for result_id in ("nobody", "../x", "", foreign.id):
        with pytest.raises(TaskResultDoesNotExist):
            shop_tasks.add.get_result(result_id)


def test_only_tasks_run_whatever_is_stored() -> None:
    """Who can write to the store must not choose what workers import and call."""
    app = app_of()
    for name in ("tests.integrations.shop_tasks.plain", "antigravity.task", "os.system"):
        app.enqueue_sync(name)

    work()

    assert shop_tasks.seen == []
    tasks = app.list_tasks_sync()
    assert [task.status for task in tasks] == [TaskStatus.SCHEDULED] * 3
    assert "antigravity" not in sys.modules


def test_threads_share_one_application(backend: OmniQBackend) -> None:
    """Django makes a backend for each thread; each must not make connections of its own."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: task_backends["default"]).result()

    assert other is not backend
    assert isinstance(other, OmniQBackend)
    assert other.app is backend.app


def test_a_worker_leaves_no_connection_to_the_database_open() -> None:
    """Each thread has its own, and nothing but the end of a request would close it."""
    shop_tasks.query.enqueue()

    work()

    (connection,) = shop_tasks.seen
    assert connection.connection is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"uri": "x"}, "no option 'uri'"),
        ({"url": "gopher://x"}, "gopher"),
        ({"modules": [1]}, "module names"),
        ({"timeout": -1}, "timeout"),
    ],
)
def test_bad_options_are_told_by_check_and_on_use(options: Options, said: str) -> None:
    """One clear error that names the entry."""
    tasks = {"default": {"BACKEND": "omniq.integrations.django.OmniQBackend", "OPTIONS": options}}
    with override_settings(TASKS=tasks):
        (found,) = task_backends["default"].check()
        with pytest.raises(ImproperlyConfigured, match=said):
            shop_tasks.add.enqueue(1, 2)

    assert "TASKS['default']" in found.msg
    assert said in found.msg


def test_an_entry_of_another_backend_has_no_application() -> None:
    """`app_of` says so instead of failing later."""
    package = OmniQBackend.__mro__[1].__module__.rpartition(".")[0]
    with (
        override_settings(TASKS={"default": {"BACKEND": f"{package}.dummy.DummyBackend"}}),
        pytest.raises(ImproperlyConfigured, match="no OmniQBackend"),
    ):
        app_of()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backend", "reports"), "no TASKS"),
        (("--backend", "other"), "no OmniQBackend"),
        (("--lease", "0.1"), "lease_seconds"),
        (("--queues", "a b"), "queue"),
        (("--metrics-port", "65535", "-p", "2"), "end at 65535"),
        (("--metrics-host", "127.0.0.1"), "give that, too"),
    ],
)
def test_a_worker_command_held_wrong_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    """One line, as every command of Django."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "unused")
    package = OmniQBackend.__mro__[1].__module__.rpartition(".")[0]
    tasks = settings_of(tmp_path) | {"other": {"BACKEND": f"{package}.dummy.DummyBackend"}}

    with override_settings(TASKS=tasks), pytest.raises(CommandError, match=said):
        call_command("omniq_worker", "--burst", *arguments)


def test_the_command_serves_all_queues_of_its_entry(tmp_path: Path) -> None:
    """Each entry of TASKS has workers of its own."""
    second = {**settings_of(tmp_path)["default"], "QUEUES": ["mail", "default"]}
    with override_settings(TASKS=settings_of(tmp_path) | {"second": second}):
        shop_tasks.note.using(backend="second").enqueue("default")
        shop_tasks.note.using(backend="second", queue_name="mail").enqueue("mail")
        call_command("omniq_worker", "--burst", "--backend", "second", "-c", "1")
        app_of("second").disconnect_sync()

    assert shop_tasks.seen == ["mail", "default"]
