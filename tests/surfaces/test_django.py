"""The Django example: the server process is an instance; the reloader and management commands are none."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from applications import EXAMPLES, Application, Namespace, serve, wait_for

from cronexec import Cronexec
from cronexec.dev.processes import LOOPBACK

DJANGO = EXAMPLES / "django"
RUNSERVER = ["manage.py", "runserver", f"{LOOPBACK}:{{port}}"]
GUNICORN = ["-m", "gunicorn", "-w", "2", "--bind", f"{LOOPBACK}:{{port}}", "shop.wsgi"]
RUN_COMMAND = """
import runpy, sys, threading
sys.argv = ["manage.py", *sys.argv[1:]]
runpy.run_path("manage.py", run_name="__main__")
from shop.cron import cron
print("state", cron.health().state, "threads", threading.active_count(), "driver", "pymongo" in sys.modules)
"""


@pytest.fixture
def environ(ns: Namespace, tmp_path: Path) -> dict[str, str]:
    return ns.environ() | {"DJANGO_DATABASE": str(tmp_path / "db.sqlite3"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def watcher(ns: Namespace) -> Iterator[Cronexec]:
    with ns.watcher() as cron:
        yield cron


def manage(environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMAND, *arguments],
        cwd=DJANGO,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def instances(watcher: Cronexec) -> set[int]:
    records = watcher._call(lambda client: client.instances())
    names = [record.executor.name for record in records if record.executor.name != "watcher"]
    return {int(name.rpartition("-")[2]) for name in names}


def triggered_run_succeeds(django: Application, watcher: Cronexec) -> None:
    wait_for(lambda: watcher.jobs.get("count-users"), "the declared job")
    run_id = django.post("/jobs/count-users/trigger")["run"]
    wait_for(
        lambda: {"id": run_id, "state": "succeeded"} in django.get("/jobs/count-users/runs")["runs"],
        "the run",
    )
    run = watcher.runs.get(run_id)
    assert run is not None
    assert run.outcome is not None
    assert run.outcome.output is not None
    assert json.loads(run.outcome.output.head) == {"users": 0}


@pytest.mark.parametrize("command", ["migrate", "check", "showmigrations"])
def test_a_management_command_starts_nothing_and_loads_no_driver(
    environ: dict[str, str], command: str
) -> None:
    assert manage(environ, command).splitlines()[-1] == "state stopped threads 1 driver False"


def test_runserver_is_one_instance_and_its_reloader_none(
    environ: dict[str, str], watcher: Cronexec, tmp_path: Path
) -> None:
    manage(environ, "migrate")
    with serve(RUNSERVER, cwd=DJANGO, environ=environ, directory=tmp_path) as django:
        wait_for(lambda: django.get("/health"), "the server")
        served_by = wait_for(lambda: instances(watcher), "an instance")
        assert len(served_by) == 1
        assert served_by == django.workers()  # the reloader's only child
        triggered_run_succeeds(django, watcher)
        assert instances(watcher) == served_by
        child = served_by.pop()
        subprocess.run(["kill", f"-{int(signal.SIGTERM)}", str(child)], check=True)
        wait_for(lambda: not instances(watcher), "the instance to leave")


def test_under_gunicorn_every_worker_is_an_instance_and_a_graceful_end_leaves_none(
    environ: dict[str, str], watcher: Cronexec, tmp_path: Path
) -> None:
    manage(environ, "migrate")
    with serve(GUNICORN, cwd=DJANGO, environ=environ, directory=tmp_path) as django:
        wait_for(lambda: django.get("/health"), "the server")
        wait_for(lambda: instances(watcher) == django.workers(), "an instance for each worker")
        assert len(django.workers()) == 2
        triggered_run_succeeds(django, watcher)
        assert django.end() == 0
        assert django.processes() == {}
        wait_for(lambda: not instances(watcher), "the instances to leave")
