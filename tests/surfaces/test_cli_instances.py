"""`cronexec instance` on real servers, with instances that are processes of their own."""

import json
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cli_program import Answer, CommandLine, Serving, serving, settings_for
from patience import PATIENCE


@pytest.fixture
def environment(amqp_url: str, mongo_url: str, namespace: str) -> dict[str, str]:
    return settings_for(amqp_url, mongo_url, namespace)


@pytest.fixture
def anna(environment: dict[str, str]) -> Iterator[Serving]:
    with serving(environment, CRONEXEC_INSTANCE="anna") as served:
        served.wait_for("term.first_commit")
        yield served


@pytest.fixture
def cronexec(environment: dict[str, str], anna: Serving) -> CommandLine:
    assert anna.lines
    return CommandLine(environment)


def states(cronexec: CommandLine) -> dict[str, str]:
    listed = cronexec("instance", "list", "--json").json["instances"]
    return {each["instance"]: each["state"] for each in listed}


def until_states(cronexec: CommandLine, **expected: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (seen := states(cronexec)) != expected:
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)


def start(cronexec: CommandLine, name: str, seconds: float) -> str:
    """Trigger a shell job that takes so long, and wait until it runs."""
    job = {
        "name": name,
        "schedule": {"cron": "0 3 * * *"},
        "target": {"type": "shell", "command": f"sleep {seconds}"},
    }
    assert cronexec("job", "put", "-", stdin=json.dumps(job)).code == 0
    run: str = cronexec("job", "trigger", name, "--json").json["run"]
    deadline = time.monotonic() + PATIENCE
    while (shown := cronexec("run", "show", run, "--json").json)["state"] == "queued":
        assert time.monotonic() < deadline, shown
    return run


def test_the_list_tells_who_holds_since_when_and_what_each_is(
    cronexec: CommandLine, environment: dict[str, str]
) -> None:
    with serving(environment, CRONEXEC_INSTANCE="bert", CRONEXEC_ALLOW_SHELL="false"):
        until_states(cronexec, anna="holder", bert="standby")
        anna, bert = cronexec("instance", "list", "--json").json["instances"]
        assert (anna["datacenter"], anna["running"], anna["allow_shell"]) == ("east", 0, True)
        assert bert["allow_shell"] is False
        assert {"id", "since", "started_at", "beat_at", "handlers", "clock_offset_ms"} <= anna.keys()
        assert anna["lacks"] in (None, [])  # None: before it has read the jobs
        assert set(anna["versions"]) == {"cronexec", "croniter", "tzdata"}
        table = cronexec("instance", "list")
        assert table.lines[0].split()[:5] == ["INSTANCE", "ID", "DATACENTER", "STATE", "SINCE"]
        assert [line.split()[0] for line in table.lines[1:]] == ["anna", "bert"]


def test_the_list_of_a_namespace_that_never_was_is_refused(cronexec: CommandLine) -> None:
    answer = cronexec("--namespace", f"no{secrets.token_hex(4)}", "instance", "list")
    assert answer.code == 1
    assert "no instance has ever served" in answer.err


def test_a_drained_holder_hands_over_and_finishes_and_can_take_part_again(
    cronexec: CommandLine, environment: dict[str, str], anna: Serving
) -> None:
    with serving(environment, CRONEXEC_INSTANCE="bert"):
        until_states(cronexec, anna="holder", bert="standby")
        run = start(cronexec, "long", 3)
        drained = cronexec("instance", "drain", "anna", "--json").json
        assert (drained["state"], drained["drained"]) == ("draining", False)
        assert [each["run"] for each in drained["running"]] == [run]
        until_states(cronexec, anna="draining", bert="holder")
        waited = cronexec("instance", "drain", "anna", "--wait")
        assert (waited.code, waited.out) == (0, "anna is draining\nnothing runs on anna any more\n")
        assert cronexec("run", "show", run, "--json").json["state"] == "succeeded"
        until_states(cronexec, anna="drained", bert="holder")
        again = cronexec("instance", "undrain", "anna")
        assert (again.code, again.out) == (0, "anna takes part again\n")
        assert cronexec("baton", "release").code == 0
        until_states(cronexec, anna="holder", bert="standby")
        anna.signal(signal.SIGTERM)
        assert anna.exit_code() == 0
        until_states(cronexec, bert="holder")


def test_waiting_ends_with_its_timeout_and_tells_what_is_left(cronexec: CommandLine) -> None:
    usual, unknown = start(cronexec, "usual", 1), start(cronexec, "unknown", 60)
    answer = cronexec("instance", "drain", "anna", "--wait", "--timeout", "4s", "--json")
    assert answer.code == 3
    record = answer.json
    assert (record["state"], record["drained"], record["unknown"]) == ("draining", False, 1)
    assert [(each["run"], each["estimate"]) for each in record["running"]] == [(unknown, None)]
    assert "not finished in time: 1 left" in answer.err
    assert cronexec("run", "show", usual, "--json").json["state"] == "succeeded"


def ended(cronexec: CommandLine, run: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while (shown := cronexec("run", "show", run, "--json").json)["finished_at"] is None:
        assert time.monotonic() < deadline, shown
    return shown


def test_an_estimate_is_told_while_it_lasts(cronexec: CommandLine) -> None:
    for _ in range(2):
        ended(cronexec, start(cronexec, "usual", 1.5))
    start(cronexec, "usual", 1.5)
    told = cronexec("instance", "drain", "anna", "--wait")
    assert told.code == 0
    assert "1 left: usual#" in told.err
    assert "probably" in told.err
    assert "Warning: no other instance is there to hold" in told.err


def test_on_a_terminal_what_is_left_makes_room_for_the_end(cronexec: CommandLine) -> None:
    run = start(cronexec, "long", 60)
    answer = cronexec.on_terminal("instance", "drain", "anna", "--wait", "--timeout", "4s")
    assert answer.code == 3, answer.out
    assert f"\r\x1b[K1 left: {run}; how long it takes is unknown\r\x1b[K" in answer.out
    assert f"\r\x1b[KError: not finished in time: 1 left: {run}" in answer.out


def test_a_wait_for_an_instance_that_ends_meanwhile_is_over(cronexec: CommandLine, anna: Serving) -> None:
    start(cronexec, "long", 3)
    answers: list[Answer] = []
    command = CommandLine(cronexec.environment)
    waiting = threading.Thread(
        target=lambda: answers.append(command.process("instance", "drain", "anna", "--wait"))
    )
    waiting.start()
    anna.wait_for("instance.draining")
    anna.signal(signal.SIGTERM)
    assert anna.exit_code() == 0
    waiting.join(PATIENCE)
    assert [answer.code for answer in answers] == [0], answers


def test_who_does_not_exist_or_is_lost_is_refused(cronexec: CommandLine) -> None:
    answer = cronexec("instance", "drain", "nobody")
    assert (answer.code, answer.err) == (1, "Error: no instance nobody is alive\n")
    assert cronexec("instance", "drain", "anna", "--timeout", "1s").code == 2
