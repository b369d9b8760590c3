"""Overruns and isolated handlers, as the command line shows them."""

import json
import secrets
from collections.abc import Iterator

import pytest
from applications import wait_for
from cli_program import CommandLine, serving, settings_for

APP = """
from cronexec import Cronexec

cron = Cronexec.from_env()

@cron.job("rebuild", cron="0 0 1 1 *", isolation="process", kill_after="3s")
def rebuild(run):
    print("rebuilding", run.params["index"])
    raise ConnectionRefusedError("no index")
"""
LONG = {
    "name": "long",
    "schedule": {"cron": "0 0 1 1 *"},
    "target": {"type": "shell", "command": "sleep 60", "kill_after": "1s"},
    "expected": "1s",
}


@pytest.fixture(scope="module")
def cronexec(
    amqp_url: str, mongo_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CommandLine]:
    directory = tmp_path_factory.mktemp("app")
    (directory / "endings_app.py").write_text(APP)
    environment = settings_for(amqp_url, mongo_url, f"t{secrets.token_hex(4)}") | {
        "CRONEXEC_ALLOW_SHELL": "true",
        "PYTHONPATH": str(directory),
    }
    with serving(environment, "--app", "endings_app:cron") as served:
        served.wait_for("term.first_commit")
        yield CommandLine(environment)


def test_a_run_that_overruns_is_marked_in_list_and_show(cronexec: CommandLine) -> None:
    assert cronexec("job", "put", "-", stdin=json.dumps(LONG)).code == 0
    assert cronexec("job", "trigger", "long", "--key", "k").code == 0

    def overrun() -> str | None:
        found: str | None = cronexec("run", "show", "long#k", "--json").json["overrun_at"]
        return found

    assert wait_for(overrun, "the mark")
    (line,) = [line for line in cronexec("run", "list").lines if "long#k" in line]
    assert "running, overrun" in line
    assert any("overrun_at" in line for line in cronexec("run", "show", "long#k").lines)
    assert cronexec("run", "cancel", "long#k").code == 0

    def ended() -> bool:
        return bool(cronexec("run", "show", "long#k", "--json").json["state"] == "cancelled")

    assert wait_for(ended, "the end")
    (line,) = [line for line in cronexec("run", "list").lines if "long#k" in line]
    assert "running" not in line


def test_an_isolated_handler_of_an_application_runs_and_fails_there(cronexec: CommandLine) -> None:
    params = json.dumps({"index": 7})
    assert cronexec("job", "trigger", "rebuild", "--key", "k", "--params", params).code == 0

    def ended() -> bool:
        return bool(cronexec("run", "show", "rebuild#k", "--json").json["state"] == "failed")

    assert wait_for(ended, "the end")
    assert cronexec("run", "show", "rebuild#k", "--json").json["error"] == "ConnectionRefusedError: no index"
    output = cronexec("run", "logs", "rebuild#k").out
    assert output.startswith("rebuilding 7\nTraceback")
