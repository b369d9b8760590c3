"""Round trips of the verbs on real servers, with a `cronexec serve` as the holder."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from cli_program import Answer, CommandLine
from patience import PATIENCE
from pymongo import MongoClient


@pytest.fixture
def name() -> str:
    return f"j-{secrets.token_hex(3)}"


def shell_job(name: str, command: str = "true", **fields: Any) -> str:
    schedule = {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"}
    return json.dumps(
        {"name": name, "schedule": schedule, "target": {"type": "shell", "command": command}} | fields
    )


def eventually(ask: Callable[[], Answer], holds: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as expected."""
    until = time.monotonic() + PATIENCE
    while not holds(answer := ask().json):
        assert time.monotonic() < until, f"after {PATIENCE} s: {answer}"
    return answer


def ended(cronexec: CommandLine, run: str) -> Any:
    return eventually(
        lambda: cronexec("run", "show", run, "--json"), lambda record: record["finished_at"] is not None
    )


def test_a_job_is_created_left_alone_updated_shown_and_deleted(cronexec: CommandLine, name: str) -> None:
    created = cronexec("job", "put", "-", stdin=shell_job(name))
    assert (created.code, created.err) == (0, "")
    assert created.out.startswith(f"{name}: created (version 1); next 20")

    unchanged = cronexec("job", "put", "-", "--json", stdin=shell_job(name)).json
    assert unchanged["jobs"][0]["state"] == "unchanged"

    updated = cronexec("job", "put", "-", "--json", stdin=shell_job(name, "false")).json
    assert (updated["updated"], updated["jobs"][0]["version"]) == (1, 2)

    shown = cronexec("job", "show", name, "--json").json
    assert shown["document"] == json.loads(shell_job(name, "false"))
    assert shown["version"] == 2
    assert shown["updated_by"].endswith(" (cli)")
    assert shown["next"].endswith("Z")
    history = cronexec("job", "show", name, "--history", "--json").json["versions"]
    assert [version["version"] for version in history] == [1, 2]

    assert cronexec("job", "delete", name).out == f"{name}: deleted\n"
    assert cronexec("job", "show", name).code == 1


def test_what_show_prints_can_be_put_again(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name, params={"league": 7}))

    again = cronexec("job", "put", "-", "--json", stdin=cronexec("job", "show", name).out)

    assert again.json["jobs"][0]["state"] == "unchanged"


def test_a_dry_run_shows_what_would_change_and_sends_nothing(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name))
    other = f"{name}-other"

    answer = cronexec(
        "job", "put", "--dry-run", "-", stdin=f"[{shell_job(name, 'false')}, {shell_job(other)}]"
    )

    assert answer.code == 0
    assert answer.lines[0] == f"{name}: would be updated"
    assert "  -  command: 'true'" in answer.lines
    assert "  +  command: 'false'" in answer.lines
    assert answer.lines[-1] == f"{other}: would be created"
    assert cronexec("job", "show", name, "--json").json["version"] == 1
    assert cronexec("job", "show", other).code == 1


def test_if_version_refuses_what_is_not_based_on_the_current_version(
    cronexec: CommandLine, name: str
) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name))

    stale = cronexec("job", "put", "--if-version", "0", "-", stdin=shell_job(name, "false"))
    assert stale.code == 1
    assert "is at version 1" in stale.err
    assert cronexec("job", "put", "--if-version", "1", "-", stdin=shell_job(name, "false")).code == 0


def test_many_jobs_are_put_and_counted(cronexec: CommandLine, name: str) -> None:
    lines = "\n".join(shell_job(f"{name}-{number}") for number in range(1200))

    answer = cronexec("job", "put", "-", stdin=lines)

    assert answer.code == 0
    assert answer.lines[-1] == "1200 created"
    assert len(answer.lines) == 1201
    listed = [job["name"] for job in cronexec("job", "list", "--json").json["jobs"]]
    assert len([each for each in listed if each.startswith(f"{name}-")]) == 1200
    deleted = cronexec("job", "delete", *(f"{name}-{number}" for number in range(1200)))
    assert deleted.code == 0


def test_crontabs_are_put_under_their_prefix(cronexec: CommandLine, name: str, tmp_path: Path) -> None:
    user, system = tmp_path / "user", tmp_path / "etc" / "cron.d" / "tool"
    system.parent.mkdir(parents=True)
    user.write_text("0 3 * * * /bin/true\n")
    system.write_text("CRON_TZ=Asia/Tokyo\n30 4 * * * root /bin/false\n")

    answer = cronexec(
        "job", "put", "--prefix", f"{name}-", "--run-as", "root", "--json", str(user), str(system)
    )

    assert answer.code == 0
    names = [job["name"] for job in answer.json["jobs"]]
    assert all(each.startswith(f"{name}-") for each in names)
    schedule = cronexec("job", "show", names[1], "--json").json["document"]["schedule"]
    assert schedule == {"cron": "30 4 * * *", "timezone": "Asia/Tokyo"}


def test_a_job_is_paused_and_resumed(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name))

    assert cronexec("job", "pause", name).out == f"{name}: paused\n"
    assert cronexec("job", "pause", name).out == f"{name}: was paused already\n"
    shown = cronexec("job", "show", name, "--json").json
    assert (shown["paused"], shown["next"]) == (True, None)
    assert [job["name"] for job in cronexec("job", "list", "--paused", "--json").json["jobs"]] == [name]
    assert cronexec("job", "resume", name).out.startswith(f"{name}: resumed; next 20")
    assert cronexec("job", "resume", name).out == f"{name}: was not paused\n"


def test_some_that_are_refused_do_not_keep_the_others_from_being_done(
    cronexec: CommandLine, name: str
) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name))

    answer = cronexec("job", "delete", "no-such-job", name, "--json")

    assert answer.code == 1
    assert answer.json["jobs"][0]["error"]["code"] == "not_found"
    assert answer.json["jobs"][1]["deleted"] is True


def test_a_trigger_runs_with_its_parameters_once_for_its_key(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name, 'echo "got $CRONEXEC_PARAMS"', params={"a": 1}))

    first = cronexec(
        "job", "trigger", name, "--param", "league=8", "--param", "who=me", "--key", "k", "--json"
    )
    assert first.json == {"run": f"{name}#k", "state": "queued", "created": True}
    assert "was triggered already" in cronexec("job", "trigger", name, "--key", "k").out

    record = ended(cronexec, f"{name}#k")
    assert (record["state"], record["exit_code"], record["cause"]) == ("succeeded", 0, "trigger")
    assert record["params"] == {"a": 1, "league": 8, "who": "me"}
    assert record["instance"] == "holder"
    assert record["datacenter"] == "east"
    logs = cronexec("run", "logs", f"{name}#k").out
    assert logs.startswith("got ")
    assert json.loads(logs.removeprefix("got ")) == {"a": 1, "league": 8, "who": "me"}
    assert cronexec("run", "logs", f"{name}#k", "--json").json["text"] == logs


def test_runs_are_listed_by_job_and_state(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name, "exit 3"))
    cronexec("job", "trigger", name, "--key", "k")
    ended(cronexec, f"{name}#k")

    listed = cronexec("run", "list", "--job", name, "--state", "failed", "--since", "1h", "--json").json[
        "runs"
    ]
    assert [(run["run"], run["exit_code"]) for run in listed] == [(f"{name}#k", 3)]
    assert cronexec("run", "list", "--job", name, "--state", "succeeded", "--json").json == {"runs": []}
    assert cronexec("run", "list", "--job", name, "--state", "succeeded").out == "No runs.\n"
    table = cronexec("run", "list", "--job", name).lines
    assert table[0].split() == ["RUN", "STATE", "ATTEMPT", "LATENESS", "DURATION", "INSTANCE", "REASON"]
    assert table[1].split()[:3] == [f"{name}#k", "failed", "1"]


def test_a_running_run_is_cancelled(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name, "sleep 100"))
    cronexec("job", "trigger", name, "--key", "k")
    eventually(
        lambda: cronexec("run", "show", f"{name}#k", "--json"), lambda record: record["state"] == "running"
    )

    assert "its instance was asked" in cronexec("run", "cancel", f"{name}#k").out
    record = ended(cronexec, f"{name}#k")
    assert record["state"] == "cancelled"
    assert record["cancel_requested_by"].endswith("(cli)")
    again = cronexec("run", "cancel", f"{name}#k")
    assert again.code == 1
    assert "it is cancelled" in again.err


def test_what_is_not_there_is_refused_with_1_and_a_document(cronexec: CommandLine) -> None:
    for command in (
        ("run", "show", "none@2026-01-01T00:00:00Z"),
        ("run", "logs", "none"),
        ("job", "show", "none"),
        ("job", "next", "none"),
        ("job", "show", "none", "--history"),
    ):
        answer = cronexec(*command, "--json")
        assert (answer.code, answer.json["error"]["code"]) == (1, "not_found"), command
        assert answer.err.count("\n") == 1


def test_what_is_misspelt_is_told_what_it_may_mean(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(f"{name}-league"))

    for command in (("job", "show"), ("job", "next"), ("run", "watch")):
        misspelt = cronexec(*command, f"{name}-leage")
        assert misspelt.err == f"Error: there is no job {name}-leage; did you mean {name}-league?\n"
    for verb in ("cancel", "show", "logs", "retry"):
        refused = cronexec("run", verb, f"{name}-league")
        assert f"'cronexec run list --job {name}-league' shows those of a job\n" in refused.err, verb


def test_the_next_slots_of_a_job_are_shown_in_its_zone(cronexec: CommandLine, name: str) -> None:
    cronexec("job", "put", "-", stdin=shell_job(name))

    assert len(cronexec("job", "next", name, "-n", "7", "--json").json["slots"]) == 7
    table = cronexec("job", "next", name).lines
    assert table[0].split() == ["Europe/Amsterdam", "SLOT", "IN"]
    assert all(" 03:00:00 CE" in line for line in table[1:])


def test_slots_that_will_be_skipped_are_marked(cronexec: CommandLine, name: str) -> None:
    schedule = {"every": "1h", "exclude": ["2026-01-01/2126-01-01"], "jitter": "30m"}
    cronexec("job", "put", "-", stdin=shell_job(name, schedule=schedule))

    lines = cronexec("job", "next", name, "-n", "3").lines[1:]
    assert [line.endswith("  skipped: excluded (2026-01-01/2126-01-01)") for line in lines] == [True] * 3
    cronexec("job", "pause", name)
    assert all("  skipped: paused (by " in line for line in cronexec("job", "next", name).lines[1:])


def test_the_baton_has_a_holder_and_a_bounded_lag(cronexec: CommandLine) -> None:
    answer = cronexec("baton", "status", "--max-lag", "60s", "--json")

    assert answer.code == 0
    status = answer.json
    assert (status["holder"], status["datacenter"], status["consumers"]) == ("holder", "east", 1)
    assert status["epoch"] >= 1
    assert 0 <= status["lag_s"] < 60
    assert {"since", "watermark", "ready"} <= set(status)
    assert "holder" in cronexec("baton", "status").out
    assert cronexec("baton", "status", "--max-lag", "0s").code == 1


def test_an_inserted_baton_changes_no_term_and_a_release_begins_another(cronexec: CommandLine) -> None:
    def status() -> Answer:
        return cronexec("baton", "status", "--json")

    epoch = status().json["epoch"]

    assert cronexec("baton", "reinsert").out.startswith("inserted the baton ")
    assert eventually(status, lambda now: now["ready"] == 0)["epoch"] == epoch

    released = cronexec("baton", "release", "--json")
    assert (released.code, released.json) == (0, {"epoch": epoch})
    assert eventually(status, lambda now: now["epoch"] > epoch)["holder"] == "holder"


def test_the_ledger_is_verified(cronexec: CommandLine, name: str) -> None:
    every_second = json.dumps(
        {"name": name, "schedule": {"every": "1s"}, "target": {"type": "shell", "command": "true"}}
    )
    cronexec("job", "put", "-", stdin=every_second)
    eventually(
        lambda: cronexec("run", "list", "--job", name, "--state", "succeeded", "--json"),
        lambda listed: len(listed["runs"]) >= 2,
    )
    cronexec("job", "pause", name)
    eventually(
        lambda: cronexec("ledger", "verify", "--job", name, "--json"), lambda found: found["skipped"] >= 1
    )
    cronexec("job", "resume", name)
    cronexec("job", "delete", name)

    answer = cronexec("ledger", "verify", "--job", name, "--since", "1h", "--json")

    found = answer.json
    assert (answer.code, found["missing"], found["doubled"], found["unexpected"]) == (0, 0, 0, 0)
    assert found["due"] == found["run"] + found["skipped"]
    assert found["skips"].keys() == {"paused"}
    assert "Every due slot is in the ledger exactly once." in cronexec("ledger", "verify").out


def test_a_slot_that_is_missing_from_the_ledger_is_found(
    cronexec: CommandLine, environment: dict[str, str], name: str
) -> None:
    every_second = json.dumps(
        {"name": name, "schedule": {"every": "1s"}, "target": {"type": "shell", "command": "true"}}
    )
    cronexec("job", "put", "-", stdin=every_second)
    listed = eventually(
        lambda: cronexec("run", "list", "--job", name, "--state", "succeeded", "--json"),
        lambda listed: len(listed["runs"]) >= 3,
    )
    cronexec("job", "delete", name)
    gone = listed["runs"][1]
    with MongoClient[dict[str, Any]](environment["CRONEXEC_MONGO_URL"]) as client:
        runs = client.get_default_database("cronexec")[f"{environment['CRONEXEC_NAMESPACE']}.runs"]
        assert runs.delete_one({"_id": gone["run"]}).deleted_count == 1

    answer = cronexec("ledger", "verify", "--job", name)

    assert answer.code == 1
    assert answer.err == f"missing: {name} version 1, slot {gone['slot']}\n"
    found = cronexec("ledger", "verify", "--job", name, "--json").json["findings"]["missing"]
    assert found == [{"job": name, "version": 1, "slot": gone["slot"], "entries": []}]


def test_a_slot_that_is_twice_in_the_ledger_is_found(
    cronexec: CommandLine, environment: dict[str, str], name: str
) -> None:
    every_second = json.dumps(
        {"name": name, "schedule": {"every": "1s"}, "target": {"type": "shell", "command": "true"}}
    )
    cronexec("job", "put", "-", stdin=every_second)
    listed = eventually(
        lambda: cronexec("run", "list", "--job", name, "--state", "succeeded", "--json"),
        lambda listed: len(listed["runs"]) >= 2,
    )
    cronexec("job", "delete", name)
    once = listed["runs"][0]
    with MongoClient[dict[str, Any]](environment["CRONEXEC_MONGO_URL"]) as client:
        runs = client.get_default_database("cronexec")[f"{environment['CRONEXEC_NAMESPACE']}.runs"]
        entry = runs.find_one({"_id": once["run"]})
        assert entry
        runs.insert_one(entry | {"_id": f"{once['run']}-again"})

    answer = cronexec("ledger", "verify", "--job", name)
    found = cronexec("ledger", "verify", "--job", name, "--json")
    with MongoClient[dict[str, Any]](environment["CRONEXEC_MONGO_URL"]) as client:
        runs = client.get_default_database("cronexec")[f"{environment['CRONEXEC_NAMESPACE']}.runs"]
        assert runs.delete_one({"_id": f"{once['run']}-again"}).deleted_count == 1

    assert (answer.code, found.code) == (1, 1)
    assert answer.err.startswith(f"doubled: {name} version 1, slot {once['slot']}: ")
    assert (found.json["doubled"], found.json["missing"]) == (1, 0)


def test_a_command_is_sent_from_a_file(cronexec: CommandLine, name: str) -> None:
    commands = [{"type": "job.put", "job": json.loads(shell_job(name))}, {"type": "job.pause", "name": name}]

    answer = cronexec("command", "send", "-", "--json", stdin=json.dumps(commands))

    assert answer.code == 0
    assert [reply["type"] for reply in answer.json["replies"]] == ["job.put", "job.pause"]
    assert cronexec("job", "show", name, "--json").json["paused"] is True


def test_a_command_that_is_none_is_refused_before_anything_is_sent(cronexec: CommandLine, name: str) -> None:
    commands = [{"type": "job.put", "job": json.loads(shell_job(name))}, {"type": "job.pauze", "name": name}]

    answer = cronexec("command", "send", "-", stdin=json.dumps(commands))

    assert answer.code == 1
    assert "command 2" in answer.err
    assert cronexec("job", "show", name).code == 1


def test_a_message_that_is_no_command_is_listed_with_its_reason(
    cronexec: CommandLine, environment: dict[str, str]
) -> None:
    with pika.BlockingConnection(pika.URLParameters(environment["CRONEXEC_AMQP_URL"])) as connection:
        queue = f"{environment['CRONEXEC_NAMESPACE']}.commands"
        connection.channel().basic_publish("", queue, b'{"schema": 1, "type": "job.explode"}')

    found = eventually(lambda: cronexec("command", "rejected", "--json"), lambda found: found["rejected"])

    assert found["rejected"][0]["body"] == '{"schema": 1, "type": "job.explode"}'
    assert found["rejected"][0]["reason"]
    assert found["rejected"][0]["rejected_at"].endswith("Z")
    assert "job.explode" in cronexec("command", "rejected").lines[1]


def test_the_doctor_finds_all_well_and_what_cannot_run(cronexec: CommandLine, name: str) -> None:
    def findings() -> dict[str, str]:
        return {each["check"]: each["level"] for each in cronexec("doctor", "--json").json["findings"]}

    well = cronexec("doctor", "--json")
    assert well.code == 0, well.out
    assert {"broker.version", "database.replica_set", "database.indexes", "clock", "holder", "lag"} <= set(
        findings()
    )
    handled = {"name": name, "schedule": {"every": "1h"}, "target": {"type": "handler", "name": "nobody-has"}}
    cronexec("job", "put", "-", stdin=json.dumps(handled))

    ill = cronexec("doctor")

    assert ill.code == 1
    assert f"no live instance has the handler of {name}" in ill.out
    assert "→ Start an instance of the application" in ill.out
    cronexec("job", "delete", name)
    assert findings().get("jobs") == "ok"
