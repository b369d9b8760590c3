"""Round trips of the verbs for jobs and runs on real servers, with a `cronexec serve` as the holder."""

import json
import secrets
from pathlib import Path

import pytest
from cli_jobs import ended, eventually, shell_job
from cli_program import CommandLine


@pytest.fixture
def name() -> str:
    return f"j-{secrets.token_hex(3)}"


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
