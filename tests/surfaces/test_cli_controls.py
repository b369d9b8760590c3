"""`cronexec job pause`, `skip-next`, `blackout` and `unblackout` on real servers, with a `cronexec serve`."""

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from applications import wait_for
from cli_program import CommandLine


@pytest.fixture
def name(cronexec: CommandLine) -> str:
    name = f"j-{secrets.token_hex(3)}"
    put(cronexec, name)
    return name


def put(cronexec: CommandLine, name: str, **fields: Any) -> None:
    document = {"name": name, "schedule": {"every": "1h"}, "target": {"type": "shell", "command": "true"}}
    assert cronexec("job", "put", "-", stdin=json.dumps(document | fields)).code == 0


def show(cronexec: CommandLine, name: str) -> Any:
    return cronexec("job", "show", name, "--json").json


def ahead(**length: float) -> str:
    return (datetime.now(UTC) + timedelta(**length)).isoformat(timespec="seconds")


def next_hours(*ahead: int) -> list[str]:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return [f"{now + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in ahead]


def test_a_pause_says_how_long_it_is_and_why(cronexec: CommandLine, name: str) -> None:
    until = ahead(hours=5)
    said = cronexec("job", "pause", name, "--until", until, "--reason", "holidays", "--owner", "zoe").out
    assert said == f"{name}: paused until {until.replace('+00:00', 'Z')}\n"

    shown = show(cronexec, name)
    assert datetime.fromisoformat(shown["paused_until"]) == datetime.fromisoformat(until)
    assert (shown["paused"], shown["pause_reason"], shown["pause_owner"]) == (True, "holidays", "zoe")
    assert datetime.fromisoformat(shown["next"]) > datetime.fromisoformat(until)
    text = cronexec("job", "show", name).out
    assert ", owner zoe: holidays\n" in text
    (row,) = (line for line in cronexec("job", "list").lines if line.startswith(name))
    assert "paused until 20" in row
    (entry,) = cronexec("run", "list", "--job", name, "--json").json["runs"]
    assert (entry["reason"], entry["note"], entry["issued_by"]) == ("paused", "holidays", "zoe")
    assert datetime.fromisoformat(entry["until"]) == datetime.fromisoformat(until)
    assert "paused: holidays" in cronexec("run", "list", "--job", name).out


def test_a_pause_for_a_length_and_one_into_the_past(cronexec: CommandLine, name: str) -> None:
    assert "paused until 20" in cronexec("job", "pause", name, "--for", "2h").out
    refused = cronexec("job", "pause", name, "--until", "2020-01-01T00:00Z")
    assert (refused.code, "is past" in refused.err) == (1, True)
    assert cronexec("job", "pause", name, "--for", "1h", "--until", ahead(hours=1)).code == 2


def test_the_next_slots_are_skipped_until_that_is_taken_back(cronexec: CommandLine, name: str) -> None:
    first, second, third = next_hours(1, 2, 3)
    assert cronexec("job", "skip-next", name, "-n", "2").out == f"{name}: skips {first}, {second}\n"
    shown = show(cronexec, name)
    assert [each["slot"] for each in shown["skip_next"]] == [first, second]
    assert shown["next"] == third
    assert "skipped: skip_next" in cronexec("job", "next", name).lines[1]
    assert cronexec("job", "skip-next", name, "-n", "0").out == f"{name}: skips none\n"
    assert show(cronexec, name)["skip_next"] == []


def test_windows_are_added_listed_and_lifted_by_label(cronexec: CommandLine) -> None:
    team = secrets.token_hex(3)
    names = [f"w-{secrets.token_hex(3)}" for _ in range(2)]
    for each in names:
        put(cronexec, each, labels={"team": team})

    label = f"team={team}"
    added = cronexec("job", "blackout", "-l", label, "--for", "3h", "--reason", "database move", "--json")
    assert {job["name"] for job in added.json["jobs"]} == set(names)
    assert "had this window already" not in cronexec("job", "blackout", names[0], "--to", "9h").out
    listed = cronexec("job", "blackout", "--list", "-l", label, "--json").json["blackouts"]
    assert [each["reason"] for each in listed if each["job"] == names[0]].count("database move") == 1
    assert "database move" in cronexec("job", "blackout", "--list").out
    assert "# blackout: " in cronexec("job", "show", names[1]).out

    lifted = cronexec("job", "unblackout", "-l", label, "--reason", "database move", "--json").json["jobs"]
    assert [job["lifted"] for job in lifted] == [1, 1]
    assert cronexec("job", "unblackout", names[0]).out.startswith(f"{names[0]}: windows lifted: 1; next 20")
    assert cronexec("job", "blackout", "--list", names[0]).out == "No blackout windows.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("blackout", "--for", "1h"),
        ("blackout", "some", "--all", "--for", "1h"),
        ("blackout", "some"),
        ("blackout", "some", "--for", "1h", "--to", "2h"),
        ("blackout", "-l", "team", "--for", "1h"),
        ("unblackout",),
        ("skip-next",),
    ],
    ids=" ".join,
)
def test_a_control_without_jobs_or_without_an_end_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert CommandLine({})("job", *arguments).code == 2


def test_a_label_that_no_job_has_is_refused(cronexec: CommandLine, name: str) -> None:
    refused = cronexec("job", "blackout", "-l", f"team={name}", "--for", "1h")
    assert (refused.code, f"no job has the label team={name}" in refused.err) == (1, True)


def test_windows_of_what_is_not_there_are_refused(cronexec: CommandLine, name: str) -> None:
    refused = cronexec("job", "blackout", "--list", name, f"{name}-x")
    assert (refused.code, refused.err) == (1, f"Error: there is no job {name}-x\n")
    elsewhere = cronexec("--namespace", f"no{secrets.token_hex(4)}", "job", "blackout", "--list")
    assert (elsewhere.code, "no instance has ever served" in elsewhere.err) == (1, True)


def test_a_pause_that_is_over_is_not_told_of(cronexec: CommandLine, name: str) -> None:
    assert "is paused: slots are skipped until" not in cronexec("job", "next", name).err
    assert cronexec("job", "pause", name, "--for", "1s").code == 0
    assert f"{name} is paused: slots are skipped until" in cronexec("job", "next", name).err

    assert wait_for(lambda: not show(cronexec, name)["paused"], "the end of the pause")

    answer = cronexec("job", "next", name)
    assert (answer.code, answer.err) == (0, "")
    assert cronexec("job", "next", name, "--json").json["paused"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "list", "--since", "999999d"),
        ("run", "list", "--since", "0001-01-01T00:00+05:00"),
        ("job", "pause", "some", "--for", "9999999d"),
        ("job", "blackout", "some", "--for", "9999999d"),
        ("job", "blackout", "some", "--from", "9999-12-31", "--for", "2d"),
        ("job", "blackout", "some", "--to", "9999999d"),
    ],
    ids=" ".join,
)
def test_an_instant_beyond_the_calendar_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    answer = CommandLine({})(*arguments)
    assert (answer.code, "Error: Invalid value" in answer.err) == (2, True)
