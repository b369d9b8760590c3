"""The Flask example under gunicorn: a preloading master, four workers, each of them an instance."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from applications import EXAMPLES, Application, Namespace, serve, wait_for

from cronexec import Cronexec
from cronexec.dev.processes import LOOPBACK

GUNICORN = ["-m", "gunicorn", "--preload", "-w", "4", "--bind", f"{LOOPBACK}:{{port}}", "ticking_flask:app"]


@pytest.fixture
def watcher(ns: Namespace) -> Iterator[Cronexec]:
    with ns.watcher() as cron:
        yield cron


@pytest.fixture
def flask(ns: Namespace, tmp_path: Path) -> Iterator[Application]:
    with serve(GUNICORN, cwd=EXAMPLES / "flask", environ=ns.environ(), directory=tmp_path) as application:
        wait_for(lambda: len(application.lines()) >= 2, "two runs")
        yield application


def instances(watcher: Cronexec) -> dict[int, str]:
    """Return the states of the instances but the watcher, by process."""
    records = watcher._call(lambda client: client.instances())
    found = [record for record in records if record.executor.name != "watcher"]
    return {int(record.executor.name.rpartition("-")[2]): record.state for record in found}


def holder(flask: Application, watcher: Cronexec, other_than: int = 0) -> int:
    """Wait until a worker holds; returns its process."""

    def holds() -> int | None:
        pid = int((watcher.health().holder or "-0").rpartition("-")[2])
        return pid if pid in flask.workers() and pid != other_than else None

    return wait_for(holds, "a worker that holds")


def assert_each_second_ran_once(flask: Application) -> None:
    lines = flask.lines()
    seconds = sorted(int(slot[17:19]) + 60 * int(slot[14:16]) for _, slot, _ in lines)
    assert set(lines.values()) == {1}
    assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))


def test_every_worker_is_an_instance_and_the_preloading_master_is_none(
    flask: Application, watcher: Cronexec
) -> None:
    assert wait_for(lambda: set(instances(watcher)) == flask.workers(), "an instance for each worker")
    assert len(flask.workers()) == 4
    assert flask.process.pid not in instances(watcher)
    holder(flask, watcher)
    wait_for(lambda: len(flask.lines()) >= 4, "four runs")
    assert_each_second_ran_once(flask)
    assert watcher.jobs.get("tick").version == 1


def test_any_worker_triggers_and_lists(flask: Application, watcher: Cronexec) -> None:
    wait_for(lambda: watcher.jobs.get("tidy-up"), "the declared job")
    run_ids = [flask.post("/jobs/tidy-up/trigger")["run"] for _ in range(8)]

    def all_succeeded() -> bool:
        found = {run["id"]: run["state"] for run in flask.get("/jobs/tidy-up/runs")}
        return all(found.get(run_id) in {"succeeded", "skipped"} for run_id in run_ids)

    assert wait_for(all_succeeded, "the triggered runs")
    assert flask.post("/jobs/nothing/trigger") == {"error": "there is no job nothing"}
    assert flask.get("/health")["database"] == "ok"


def test_another_worker_takes_over_from_one_that_is_killed(flask: Application, watcher: Cronexec) -> None:
    first = holder(flask, watcher)
    os.kill(first, signal.SIGKILL)
    holder(flask, watcher, other_than=first)
    wait_for(lambda: len(flask.workers() - {first}) == 4, "the worker's successor")
    before = len(flask.lines())
    wait_for(lambda: len(flask.lines()) >= before + 3, "three more runs")
    assert set(flask.lines().values()) == {1}
    report = [
        run for run in watcher.runs.list(job="tick") if run.state not in {"succeeded", "running", "queued"}
    ]
    assert all(run.state == "abandoned" and run.executor.name.endswith(f"-{first}") for run in report)


def test_a_graceful_end_leaves_no_process_and_no_instance(flask: Application, watcher: Cronexec) -> None:
    holder(flask, watcher)
    assert flask.end() == 0
    assert flask.processes() == {}
    assert instances(watcher) == {}
    assert_each_second_ran_once(flask)
    assert {run.state for run in watcher.runs.list(job="tick")} <= {"succeeded", "queued"}
