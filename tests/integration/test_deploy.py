"""The files of `examples/deploy`: consistent with each other, and as far as possible run."""

from __future__ import annotations

import asyncio
import configparser
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from omniq.cli.app import cli, execute
from omniq.testing.waiting import wait_until
from omniq.worker.health import BEAT_SECONDS, check

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
HEALTH = "/tmp/omniq-health"
SPARE = 10


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def parsed(command: list[str]) -> dict[str, Any]:
    """The arguments of one of our commands, as the command line reads them."""
    assert command[0] == "omniq"
    _, bound, *_ = cli.parse_args(command[1:], exit_on_error=False, print_error=False)
    return dict(bound.arguments)


def exec_form(instruction: str) -> list[str]:
    """The command of a CMD in exec form."""
    lines = text("Dockerfile").replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if re.match(instruction, line.strip())]
    return json.loads(line[line.index("[") :])


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the application, importable, on an SQLite file."""
    for name in ("jobs.py", "web.py"):
        shutil.copy(DEPLOY / name, tmp_path)
    monkeypatch.setenv("OMNIQ_URL", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    kept = {name: sys.modules.pop(name) for name in ("jobs", "web") if name in sys.modules}
    yield tmp_path
    for name in ("jobs", "web"):
        sys.modules.pop(name, None)
    sys.modules.update(kept)


class TestDockerfile:
    """An image that stops in order and says how it is."""

    def test_it_runs_in_exec_form_as_nobody_special(self) -> None:
        """A shell as process 1 would keep SIGTERM from the worker."""
        lines = text("Dockerfile").splitlines()
        users = [line.split()[1] for line in lines if line.startswith("USER ")]

        worker = parsed(exec_form("CMD"))
        probe = parsed(exec_form("HEALTHCHECK"))

        assert users == ["10001"]
        assert worker["health_file"] == str(probe["path"]) == HEALTH
        assert not any(line.startswith("ENTRYPOINT") for line in lines)

    def test_its_commands_work_and_stop_in_order(self, application: Path) -> None:
        """The very lines of the file, in an environment like that of the image."""
        command, probe = exec_form("CMD"), exec_form("HEALTHCHECK")
        health = application / "health"
        there = {HEALTH: str(health)}
        command = [there.get(part, part) for part in command]
        probe = [there.get(part, part) for part in probe]
        environment = {**os.environ, "PATH": sysconfig.get_path("scripts")}

        def probed() -> int:
            return subprocess.run(probe, cwd=application, env=environment).returncode

        assert probed() == 1
        process = subprocess.Popen(command, cwd=application, env=environment)
        try:
            _wait(health.exists)
            assert check(health, 60).is_healthy
            assert probed() == 0
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert probed() == 1

    def test_it_copies_what_is_there(self) -> None:
        """A renamed file would break the build, not a test."""
        copied = re.findall(r"^COPY ([\w. ]+) \./?$", text("Dockerfile"), re.MULTILINE)
        names = [name for line in copied for name in line.split()]

        assert {"jobs.py", "web.py"} <= set(names) | {"requirements.txt"}
        assert all((DEPLOY / name).is_file() for name in names)


class TestCompose:
    """Services that start only when all they need is there."""

    def test_no_variable_can_be_unset(self) -> None:
        """Compose would put in nothing, with a warning nobody reads."""
        variables = re.findall(r"\$\{(\w+)([^}]*)\}", text("compose.yaml"))

        assert variables
        assert all(rest.startswith(":?") and len(rest) > 5 for _, rest in variables)

    def test_services_are_consistent(self) -> None:
        """Probe, file and patience belong together."""
        services = yaml.safe_load(text("compose.yaml"))["services"]
        worker, web = services["worker"], services["web"]
        arguments = parsed(worker["command"])
        patience = int(worker["stop_grace_period"].removesuffix("s"))

        assert arguments["health_file"] == HEALTH
        assert patience >= arguments["grace"] + SPARE
        assert HEALTH.startswith(worker["tmpfs"][0])
        assert worker["read_only"] is True
        for service in (worker, web):
            assert service["depends_on"]["postgres"]["condition"] == "service_healthy"
            assert "OMNIQ_URL" in service["environment"]
        assert web["command"][:2] == ["uvicorn", "web:app"]
        assert all(port.startswith("127.0.0.1:") for port in web["ports"])

    def test_a_variable_that_was_not_replaced_is_told(
        self,
        application: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Where something other than Compose reads the same line."""
        services = yaml.safe_load(text("compose.yaml"))["services"]
        monkeypatch.setenv("OMNIQ_URL", services["worker"]["environment"]["OMNIQ_URL"])

        code = execute(["worker", "jobs:q", "--burst"])

        assert code == 4
        said = " ".join(capsys.readouterr().err.split())
        assert "OMNIQ_URL" in said
        assert "a variable that nothing has replaced" in said


class TestKubernetes:
    """Deployments whose probes, files and patience belong together."""

    @pytest.fixture
    def documents(self) -> list[Any]:
        return list(yaml.safe_load_all(text("kubernetes.yaml")))

    def test_workers_are_probed_by_their_queues_answers(self, documents: list[Any]) -> None:
        """And given time to stop."""
        pod = documents[0]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        arguments = parsed(container["args"])
        probes = {
            name: parsed(container[f"{name}Probe"]["exec"]["command"])
            for name in ("startup", "liveness", "readiness")
        }

        assert {str(probe["path"]) for probe in probes.values()} == {arguments["health_file"]}
        assert probes["startup"]["within"] > BEAT_SECONDS
        assert probes["liveness"]["within"] > 2 * probes["readiness"]["within"]
        assert pod["terminationGracePeriodSeconds"] >= arguments["grace"] + SPARE

    def test_pods_have_no_rights_and_can_write_where_they_must(self, documents: list[Any]) -> None:
        """The health file lies on the only writable volume."""
        pods = [item["spec"]["template"]["spec"] for item in documents[:2]]
        for pod in pods:
            (container,) = pod["containers"]
            security = container["securityContext"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
            assert pod["volumes"] == [{"name": "tmp", "emptyDir": {}}]

    def test_selectors_find_their_pods(self, documents: list[Any]) -> None:
        """A service that selects nothing is silent."""
        worker, web, service = documents
        for deployment in (worker, web):
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert service["spec"]["selector"] == web["spec"]["template"]["metadata"]["labels"]
        (container,) = web["spec"]["template"]["spec"]["containers"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"


class TestSystemd:
    """A unit systemd accepts, and that stops a worker in order."""

    def test_it_stops_once_and_waits_long_enough(self) -> None:
        """Two signals would mean: give tasks back at once."""
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]  # names in their case
        unit.read_string(text("omniq-worker.service"))
        service = unit["Service"]
        program, *rest = service["ExecStart"].split()
        arguments = parsed([Path(program).name, *rest])

        assert service["KillMode"] == "mixed"
        assert service["KillSignal"] == "SIGTERM"
        assert int(service["TimeoutStopSec"]) >= arguments["grace"] + SPARE
        assert service["Type"] == "notify"
        assert int(service["WatchdogSec"]) > 10 * BEAT_SECONDS

    def test_systemd_accepts_it(self, tmp_path: Path) -> None:
        """Names of settings are only warned about, so any word of complaint fails."""
        program = shutil.which("systemd-analyze")
        if program is None:
            pytest.skip("systemd-analyze is not installed")
        unit = tmp_path / "omniq-worker.service"
        here = text(unit.name).replace("/srv/jobs/.venv/bin/omniq", sys.executable)
        unit.write_text(here)

        done = subprocess.run([program, "verify", unit], capture_output=True, text=True)

        complaints = [line for line in done.stderr.splitlines() if unit.name in line]
        assert not complaints
        assert done.returncode == 0


async def test_the_application_works(application: Path) -> None:
    """What people try before they put their own in its place."""
    web: Any = importlib.import_module("web")
    jobs: Any = importlib.import_module("jobs")

    async with web.app.router.lifespan_context(web.app):
        transport = httpx.ASGITransport(web.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as browser:
            assert (await browser.get("/healthz")).json() == {"ready": True}
            task_id = (await browser.post("/greet?name=Ann")).json()["task"]
            await jobs.q.worker(burst=True).run()
            state = (await browser.get(f"/tasks/{task_id}")).json()
            missing = await browser.get("/tasks/nobody")

        assert state == {"status": "completed"}
        assert missing.status_code == 404
        assert await jobs.q.get_result(task_id) == "Hello, Ann!"


def test_requirements_name_our_distribution_and_its_extras() -> None:
    """A wrong name would install somebody else's package."""
    metadata = (DEPLOY.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    found = re.match(r"([\w-]+)\[([\w,]+)\]", text("requirements.txt"))

    assert found is not None
    name, extras = found.groups()
    assert f'name = "{name}"' in metadata
    assert all(re.search(rf"^{extra} = ", metadata, re.MULTILINE) for extra in extras.split(","))


def _wait(condition: Any) -> None:
    asyncio.run(wait_until(condition, description="the worker works", timeout=60))
