"""`cronexec serve` as a process: its signals and exit codes, and an application's handlers."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from cli_program import CommandLine, serving, settings_for
from patience import PATIENCE

APPLICATION = """
import asyncio
from cronexec.app import {flavour}
cron = {flavour}.from_env()

@cron.job("declared", cron="0 3 * * *")
{function} declared(run):
    return None
"""

BROKEN = """
import asyncio, os
from cronexec.app import Cronexec
from cronexec.runtime.{part} import {kind}

async def run(self):
    works = asyncio.ensure_future(right(self))
    while not os.path.exists(os.environ["BREAK_WHEN"]):
        await asyncio.sleep(0.02)
    works.cancel()
    await asyncio.wait([works])
    raise ZeroDivisionError("a bug")

right, {kind}.run = {kind}.run, run
cron = Cronexec.from_env()
"""


@pytest.fixture
def environment(amqp_url: str, mongo_url: str, namespace: str) -> dict[str, str]:
    return settings_for(amqp_url, mongo_url, namespace)


@pytest.fixture
def cronexec(environment: dict[str, str]) -> CommandLine:
    return CommandLine(environment)


def shell_job(name: str, command: str) -> str:
    target = {"type": "shell", "command": command, "kill_after": "1s"}
    return json.dumps({"name": name, "schedule": {"cron": "0 3 * * *"}, "target": target})


def until_in_state(cronexec: CommandLine, run: str, *states: str) -> Any:
    until = time.monotonic() + PATIENCE
    while (record := cronexec("run", "show", run, "--json").json).get("state") not in states:
        assert time.monotonic() < until, record
    return record


def until_written(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < until, f"nothing was written to {path}"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_it_with_0(environment: dict[str, str], number: signal.Signals) -> None:
    with serving(environment) as served:
        assert served.wait_for(" is up ").endswith("datacenter east)")
        served.signal(number)

        assert served.exit_code() == 0
    assert not [line for line in served.lines if "Traceback" in line]


def test_a_signal_lets_runs_finish(
    environment: dict[str, str], cronexec: CommandLine, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with serving(environment) as served:
        cronexec(
            "job", "put", "-", stdin=shell_job("slow", f"until [ -e {go} ]; do sleep 0.05; done; echo done")
        )
        cronexec("job", "trigger", "slow", "--key", "k")
        until_in_state(cronexec, "slow#k", "running")
        served.signal(signal.SIGTERM)
        served.wait_for("handing over the baton")
        go.touch()

        assert served.exit_code() == 0
    record = cronexec("run", "show", "slow#k", "--json").json
    assert (record["state"], record["exit_code"]) == ("succeeded", 0)


def test_a_second_signal_ends_it_at_once_with_1(
    environment: dict[str, str], cronexec: CommandLine, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    with serving(environment, CRONEXEC_SHUTDOWN_GRACE="10m") as served:
        cronexec("job", "put", "-", stdin=shell_job("slow", f"echo $$ > {pid_file}; exec sleep 1000"))
        cronexec("job", "trigger", "slow", "--key", "k")
        until_in_state(cronexec, "slow#k", "running")
        until_written(pid_file)
        served.signal(signal.SIGTERM)
        served.wait_for("handing over the baton")
        served.signal(signal.SIGTERM)

        assert served.exit_code() == 1, "long before the grace is over"
    child = Path("/proc") / pid_file.read_text().strip()
    until = time.monotonic() + PATIENCE
    while child.exists() and "sleep" in (child / "cmdline").read_text():
        assert time.monotonic() < until, f"{child} still runs"
    record = cronexec("run", "show", "slow#k", "--json").json
    assert (record["state"], record["reason"]) == ("abandoned", "shutdown")


@pytest.mark.parametrize(("flavour", "function"), [("Cronexec", "def"), ("AsyncCronexec", "async def")])
def test_an_application_is_served_with_its_handlers_and_declared_jobs(
    environment: dict[str, str], cronexec: CommandLine, tmp_path: Path, flavour: str, function: str
) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION.format(flavour=flavour, function=function))
    with serving(environment, "--app", "shop:cron", cwd=tmp_path) as served:
        served.wait_for("job.declared")
        cronexec("job", "trigger", "declared", "--key", "k")
        record = until_in_state(cronexec, "declared#k", "succeeded", "failed")
        served.signal(signal.SIGTERM)

        assert served.exit_code() == 0
    assert record["state"] == "succeeded"
    assert cronexec("job", "show", "declared", "--json").json["declared"] is True


@pytest.mark.parametrize("part", ["recorder", "dispatcher"])
def test_a_part_that_crashes_ends_it_with_1_after_its_runs(
    environment: dict[str, str], cronexec: CommandLine, tmp_path: Path, part: str
) -> None:
    go = tmp_path / "go"
    (tmp_path / "broken.py").write_text(BROKEN.format(part=part, kind=part.title()))
    with serving(
        environment, "--app", "broken:cron", cwd=tmp_path, BREAK_WHEN=str(tmp_path / "now")
    ) as served:
        cronexec(
            "job", "put", "-", stdin=shell_job("slow", f"until [ -e {go} ]; do sleep 0.05; done; echo done")
        )
        cronexec("job", "trigger", "slow", "--key", "k")
        until_in_state(cronexec, "slow#k", "running")
        (tmp_path / "now").touch()
        served.wait_for("instance.failed")
        assert f"failed ({part}: ZeroDivisionError: a bug)" in served.wait_for("finishing what runs")
        go.touch()

        assert served.exit_code() == 1
    if part == "dispatcher":
        assert cronexec("run", "show", "slow#k", "--json").json["state"] == "succeeded"


def test_without_a_holder_a_command_is_sent_and_applied_later(
    environment: dict[str, str], cronexec: CommandLine
) -> None:
    with serving(environment) as served:
        served.signal(signal.SIGTERM)
        assert served.exit_code() == 0

    sent = cronexec("job", "put", "-", "--wait", "0.5", stdin=shell_job("later", "true"))
    assert sent.code == 3
    assert "no holder answered within 0.5 s" in sent.err
    status = cronexec("baton", "status", "--json")
    assert (status.code, status.json["holder"], status.json["last_holder"]) == (1, None, "holder")
    assert cronexec("baton", "status").code == 1

    with serving(environment) as served:
        served.wait_for("command.applied")
        served.signal(signal.SIGTERM)
        assert served.exit_code() == 0
    assert cronexec("job", "show", "later", "--json").json["version"] == 1


def test_it_waits_for_servers_that_are_not_there_yet(environment: dict[str, str]) -> None:
    with serving(environment, wait=False, CRONEXEC_AMQP_URL="amqp://127.0.0.1:1/") as served:
        assert "nothing listens at 127.0.0.1:1" in served.wait_for("nothing listens")
        served.signal(signal.SIGTERM)

        assert served.exit_code() == 0
    assert not [line for line in served.lines if "Traceback" in line]
