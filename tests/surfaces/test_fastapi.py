"""The FastAPI example under uvicorn: handlers run beside the requests, and cannot hold up the schedule."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applications import (
    EXAMPLES,
    Application,
    Namespace,
    assert_no_slot_waited,
    receiver,
    serve,
    wait_for,
    webhook_every_second,
)

from cronexec import Cronexec
from cronexec.dev.processes import LOOPBACK

UVICORN = ["-m", "uvicorn", "--host", LOOPBACK, "--port", "{port}", "probing_fastapi:app"]


@pytest.fixture
def watcher(ns: Namespace) -> Iterator[Cronexec]:
    with ns.watcher() as cron:
        yield cron


@pytest.fixture
def fastapi(ns: Namespace, tmp_path: Path) -> Iterator[Application]:
    environ = ns.environ(LEASE="3s")
    with serve(UVICORN, cwd=EXAMPLES / "fastapi", environ=environ, directory=tmp_path) as application:
        wait_for(lambda: (application.get("/health") or {}).get("state") == "holder", "a holder")
        yield application


def run_of(fastapi: Application, job: str, run_id: str, state: str) -> str:
    found = {run["id"]: run["state"] for run in fastapi.get(f"/jobs/{job}/runs")}
    return run_id if found.get(run_id) == state else ""


def test_async_handlers_run_on_the_loop_that_serves_the_requests(
    fastapi: Application, watcher: Cronexec
) -> None:
    wait_for(lambda: watcher.jobs.get("probe"), "the declared job")
    run_id = fastapi.post("/jobs/probe/trigger")["run"]
    wait_for(lambda: run_of(fastapi, "probe", run_id, "succeeded"), "the run")
    run = watcher.runs.get(run_id)
    assert run is not None
    assert run.outcome is not None
    assert run.outcome.output is not None
    assert json.loads(run.outcome.output.head) == fastapi.get("/where")


def test_endpoints_put_trigger_and_list(fastapi: Application) -> None:
    document = {"name": "extra", "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "tick"}}
    assert fastapi.get("/jobs", "PUT", document)["version"] == 1
    run_id = fastapi.post("/jobs/extra/trigger")["run"]
    wait_for(lambda: run_of(fastapi, "extra", run_id, "succeeded"), "the run")
    assert [job for job, _, _ in fastapi.lines()] == ["extra"]
    refused = fastapi.get("/jobs", "PUT", document | {"overlp": "skip"})
    assert "did you mean 'overlap'?" in refused["detail"]


def test_a_blocked_application_loop_costs_no_slot_and_not_the_baton(
    fastapi: Application, watcher: Cronexec
) -> None:
    epoch = fastapi.get("/health")["epoch"]
    wait_for(lambda: watcher.jobs.get("block"), "the declared job")
    with receiver() as (url, slots):
        watcher.jobs.put(webhook_every_second(url))
        wait_for(lambda: slots, "the webhook")
        run_id = watcher.jobs.trigger("block", params={"seconds": 8})["run"]
        blocked = wait_for(lambda: finished(watcher, run_id), "the blocking run to end")
        assert_no_slot_waited(watcher, "hook", blocked.started_at, blocked.finished_at)
    assert blocked.duration_s >= 8
    assert set(slots.values()) == {1}
    assert fastapi.get("/health")["epoch"] == epoch


def finished(watcher: Cronexec, run_id: str) -> Any:
    run = watcher.runs.get(run_id)
    return run if run is not None and run.state == "succeeded" else None


def test_a_graceful_end_leaves_no_process_and_no_instance(fastapi: Application, watcher: Cronexec) -> None:
    assert fastapi.end() in {
        0,
        -signal.SIGTERM,
    }  # newer releases of uvicorn end by the signal, once all is done
    assert fastapi.processes() == {}
    assert [each.executor.name for each in watcher._call(lambda client: client.instances())] == ["watcher"]
