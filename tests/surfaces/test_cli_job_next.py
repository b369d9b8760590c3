"""`job next` without a server: of a file, or of an expression; what is special about a slot is marked."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_program import Answer, CommandLine

cronexec = CommandLine(
    {"CRONEXEC_AMQP_URL": "amqp://127.0.0.1:1/", "CRONEXEC_MONGO_URL": "mongodb://127.0.0.1:1/"}
)
AMSTERDAM = ("--timezone", "Europe/Amsterdam")


def of_expression(cron: str, *options: str) -> Answer:
    return cronexec("job", "next", "--cron", cron, *AMSTERDAM, *options)


def of_file(tmp_path: Path, schedule: dict[str, Any], *options: str, name: str = "close-league") -> Answer:
    file = tmp_path / "job.json"
    document = {"name": name, "schedule": schedule, "target": {"type": "shell", "command": "true"}}
    file.write_text(json.dumps(document))
    return cronexec("job", "next", "--file", str(file), *options)


def test_slots_are_shown_in_local_time_and_utc() -> None:
    header, first, second = of_expression("0 3 * * *", "--from", "2099-06-01", "-n", "2").lines
    assert header.split() == ["Europe/Amsterdam", "SLOT", "IN"]
    assert first.startswith("Mon 2099-06-01 03:00:00 CEST  2099-06-01 01:00:00Z  ")
    assert second.startswith("Tue 2099-06-02 03:00:00 CEST  2099-06-02 01:00:00Z  ")
    assert first.split()[-2].endswith("d")
    assert of_expression("0 3 * * *", "--from", "2020-06-01", "-n", "1").lines[1].endswith(" ago")


@pytest.mark.parametrize(
    ("cron", "start", "line", "mark"),
    [
        ("30 2 * * *", "2027-03-27T12:00Z", 1, "02:30 does not exist, runs 03:00"),
        ("30 2 * * *", "2027-03-28T12:00Z", 1, ""),
        ("30 2 * * *", "2027-10-30T12:00Z", 1, "first of two 02:30"),
        ("30 * * * *", "2027-10-31T00:45Z", 1, "second of two 02:30"),
        ("30 * * * *", "2027-10-31T00:45Z", 2, ""),
    ],
)
def test_nights_of_a_clock_change_are_marked(cron: str, start: str, line: int, mark: str) -> None:
    found = of_expression(cron, "--from", start, "-n", "2").lines[line]
    assert found.endswith(mark)
    assert ("exist" in found or "of two" in found) == bool(mark)


def test_excluded_slots_and_the_instants_of_jitter_are_shown(tmp_path: Path) -> None:
    schedule = {
        "cron": "0 3 * * *",
        "timezone": "Europe/Amsterdam",
        "jitter": "1h",
        "exclude": ["2099-12-25/2099-12-26"],
    }
    lines = of_file(tmp_path, schedule, "--from", "2099-12-24", "-n", "3").lines[1:]
    assert lines[0].endswith(" (jitter)")
    assert " starts 03:" in lines[0]
    assert [line.endswith("  skipped: excluded (2099-12-25/2099-12-26)") for line in lines] == [
        False,
        True,
        True,
    ]
    record = of_file(tmp_path, schedule, "--from", "2099-12-24", "-n", "3", "--json").json
    first, second, _ = record["slots"]
    assert record["name"] == "close-league"
    assert first["slot"] == "2099-12-24T02:00:00Z"
    assert first["local"] == "2099-12-24T03:00:00+01:00"
    assert "2099-12-24T02:00:00Z" <= first["starts_at"] < "2099-12-24T03:00:00Z"
    assert (first["skip"], first["clock_change"]) == (None, None)
    assert second["skip"] == {"reason": "excluded", "note": "2099-12-25/2099-12-26", "issued_by": None}
    assert second["starts_at"] is None


def test_a_clock_change_is_told_to_programs() -> None:
    answer = of_expression("30 2 * * *", "--from", "2027-03-27T12:00Z", "-n", "1", "--json")
    [slot] = answer.json["slots"]
    assert slot["clock_change"] == {"kind": "gap", "local": "02:30"}
    assert slot["local"] == "2027-03-28T03:00:00+02:00"


def test_an_h_needs_the_name_that_it_is_hashed_on(tmp_path: Path) -> None:
    refused = of_expression("H 3 * * *")
    assert refused.code == 2
    assert "give it with --hash NAME" in refused.err
    hashed = of_expression("H 3 * * *", "--hash", "close-league", "--json").json["slots"]
    of_job = of_file(tmp_path, {"cron": "H 3 * * *", "timezone": "Europe/Amsterdam"}, "--json").json["slots"]
    assert hashed == of_job
    assert hashed[0]["local"][14:16] == "26"


def test_a_file_with_several_jobs_needs_the_name_of_one(tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("# name: a\n0 3 * * * true\n# name: b\n0 4 * * * true\n")
    file = ("--file", str(tmp_path / "crontab"))
    refused = cronexec("job", "next", *file)
    assert (refused.code, "it has: a, b" in refused.err) == (2, True)
    assert cronexec("job", "next", "c", *file).code == 2
    assert " 04:00:00 UTC" in cronexec("job", "next", "b", *file).lines[1]


def test_a_wrong_file_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    answer = of_file(tmp_path, {"cron": "0 3 * * *", "exclude": ["24.12."], "jitter": "2d"})
    assert answer.code == 1
    assert "schedule.exclude[0]: " in answer.err
    assert "schedule.jitter: jitter 2d: give less than a day" in answer.err


@pytest.mark.parametrize("more", [("--file", "x.yaml"), ("a",)])
def test_an_expression_goes_with_no_job(more: tuple[str, ...]) -> None:
    answer = of_expression("0 3 * * *", *more)
    assert (answer.code, "not both" in answer.err) == (2, True)
