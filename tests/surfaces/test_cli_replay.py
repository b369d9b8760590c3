"""`command replay` on real servers: what was rejected is sent anew, corrected or thrown away."""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from cli_program import CommandLine, Serving, serving, settings_for
from patience import PATIENCE

SENT = "c-1: sent: run job#c-1, state queued, created True\n"


@pytest.fixture
def environment(amqp_url: str, mongo_url: str) -> dict[str, str]:
    return settings_for(amqp_url, mongo_url, f"t{secrets.token_hex(4)}")


@pytest.fixture
def holder(environment: dict[str, str]) -> Iterator[Serving]:
    with serving(environment) as served:
        served.wait_for("term.first_commit")
        yield served


@pytest.fixture
def cronexec(environment: dict[str, str], holder: Serving) -> CommandLine:
    assert holder.lines
    line = CommandLine(environment)
    document = {
        "name": "job",
        "schedule": {"cron": "0 3 * * *"},
        "target": {"type": "shell", "command": "true"},
    }
    assert line("job", "put", "-", stdin=json.dumps(document)).code == 0
    return line


def publish(cronexec: CommandLine, body: dict[str, Any] | bytes, queue: str = "commands") -> None:
    environment = cronexec.environment
    message = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pika.BlockingConnection(pika.URLParameters(environment["CRONEXEC_AMQP_URL"])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", f"{environment['CRONEXEC_NAMESPACE']}.{queue}", message)


def test_the_rejected_queue_of_a_namespace_that_never_was_is_refused(cronexec: CommandLine) -> None:
    answer = cronexec("--namespace", f"no{secrets.token_hex(4)}", "command", "rejected")
    assert (answer.code, "no instance has ever served" in answer.err) == (1, True)
    assert cronexec("command", "rejected").out == "No message was rejected.\n"


def rejected(cronexec: CommandLine, count: int) -> list[str]:
    """Return the ids in the rejected queue once there are so many."""
    until = time.monotonic() + PATIENCE
    while True:
        found = [each["id"] for each in cronexec("command", "rejected", "--json").json["rejected"]]
        if len(found) == count:
            return found
        assert time.monotonic() < until, f"after {PATIENCE} s: {found}"


def trigger(command_id: str, **fields: Any) -> dict[str, Any]:
    return {"schema": 1, "id": command_id, "type": "job.trigger", "name": "job", "issued_by": "eve"} | fields


def editor(folder: Path, script: str) -> str:
    """Return an $EDITOR that changes the file it is given."""
    program = folder / "editor"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_what_would_be_understood_now_is_sent_under_its_own_id(cronexec: CommandLine) -> None:
    publish(cronexec, trigger("c-1"), "commands.rejected")  # by the broker: it had expired
    publish(cronexec, trigger("c-2"), "commands.rejected")
    assert rejected(cronexec, 2) == ["c-1", "c-2"]
    answer = cronexec("command", "replay", "c-2", "--json")
    assert answer.code == 0
    assert answer.json["replayed"] == [
        {
            "id": "c-2",
            "sent_as": "c-2",
            "removed": True,
            "result": {"run": "job#c-2", "state": "queued", "created": True},
            "error": None,
        }
    ]
    assert rejected(cronexec, 1) == ["c-1"]
    assert (
        cronexec("command", "replay", "--all").out == "c-1: sent: run job#c-1, state queued, created True\n"
    )
    assert rejected(cronexec, 0) == []
    assert cronexec("run", "show", "job#c-1", "--json").json["issued_by"] == "eve"
    assert cronexec("command", "replay", "--all").out == "No message was rejected.\n"


def test_an_id_that_is_another_commands_is_replaced_and_one_of_the_same_command_is_not(
    cronexec: CommandLine,
) -> None:
    publish(cronexec, trigger("c-1", key="first"))
    publish(cronexec, trigger("c-1", key="second"))
    assert rejected(cronexec, 1) == ["c-1"]
    [sent] = cronexec("command", "replay", "--all", "--json").json["replayed"]
    assert sent["result"] == {"run": "job#second", "state": "queued", "created": True}
    assert sent["sent_as"] != "c-1"
    publish(
        cronexec, trigger("c-1", key="first"), "commands.rejected"
    )  # a second copy, whose first was applied
    assert rejected(cronexec, 1) == ["c-1"]
    [again] = cronexec("command", "replay", "--all", "--json").json["replayed"]
    assert (again["sent_as"], again["result"]["created"]) == ("c-1", True)  # the recorded answer
    assert len(cronexec("run", "list", "--job", "job", "--json").json["runs"]) == 2


def test_what_is_still_no_command_stays_until_it_is_corrected(cronexec: CommandLine, tmp_path: Path) -> None:
    publish(cronexec, trigger("c-1", nmae="job"))
    publish(cronexec, b"no JSON at all")
    assert rejected(cronexec, 2)[0] == "c-1"
    stays = cronexec("command", "replay", "--all")
    assert stays.code == 1
    assert stays.err.count("it stays in the rejected queue") == 2
    assert len(rejected(cronexec, 2)) == 2
    untouched = cronexec("command", "replay", "c-1", "--edit", EDITOR=editor(tmp_path, "true"))
    assert (untouched.code, untouched.out) == (0, "c-1: left as it is\n")
    correcting = editor(tmp_path, 'sed -i "/nmae/d; s/\\"eve\\",/\\"eve\\"/" "$1"')
    corrected = cronexec("command", "replay", "c-1", "--edit", EDITOR=correcting)
    assert corrected.out == SENT
    [left] = rejected(cronexec, 1)
    gone = cronexec("command", "replay", left, "--discard")
    assert (gone.code, gone.out) == (0, f"{left}: thrown away\n")
    assert rejected(cronexec, 0) == []


def test_an_unknown_id_and_no_id_are_refused(cronexec: CommandLine) -> None:
    publish(cronexec, trigger("c-1", nmae="job"))
    rejected(cronexec, 1)
    assert "no rejected message has the id c-9" in cronexec("command", "replay", "c-9").err
    assert cronexec("command", "replay").code == 2
    assert cronexec("command", "replay", "--all", "c-1").code == 2
    assert cronexec("command", "replay", "--all", "--edit", "--discard").code == 2
    assert rejected(cronexec, 1) == ["c-1"]


def test_what_no_holder_will_ever_know_can_be_taken_away(cronexec: CommandLine) -> None:
    assert cronexec("command", "kept").out == "No command waits for a newer holder.\n"
    publish(cronexec, {"schema": 9, "id": "n-1", "type": "job.dance"})
    until = time.monotonic() + PATIENCE
    while not (found := cronexec("command", "kept", "--json").json["kept"]):
        assert time.monotonic() < until, f"after {PATIENCE} s: {found}"
    assert found == [{"id": "n-1", "schema": 9}]
    assert cronexec("command", "kept", "--discard", "n-2").code == 1
    assert cronexec("command", "kept", "--discard", "n-1").err == "n-1: moved to the rejected queue\n"
    assert cronexec("command", "kept", "--json").json == {"kept": []}
    assert rejected(cronexec, 1) == ["n-1"]
    assert cronexec("command", "replay", "n-1").code == 1
    assert cronexec("command", "replay", "n-1", "--discard").code == 0
    assert rejected(cronexec, 0) == []
