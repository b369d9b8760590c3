"""Runs as people ask for them: by what tables print, where there is nothing, and why there is no output."""

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cli_program import CommandLine, serving, settings_for
from pymongo import MongoClient

from cronexec.cli.output import print_fitted

SLOT = datetime(2026, 7, 1, 1, 0, tzinfo=UTC)
SCHEDULE = {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"}
JOB = {"name": "backup", "schedule": SCHEDULE, "target": {"type": "shell", "command": "true"}}


def entry(run: str, state: str, **fields: Any) -> dict[str, Any]:
    settled = datetime.now(UTC).replace(microsecond=0)
    return {
        "_id": run, "job": run.partition("@")[0], "version": 1, "slot": SLOT, "state": state, "epoch": 1,
        "attempt": 1, "cause": "schedule", "claimed_at": settled, "expire_at": settled + timedelta(days=7),
    } | fields  # fmt: skip


ENTRIES = [
    entry("backup@2026-07-01T01:00:00Z", "succeeded", started_at=SLOT, finished_at=SLOT),
    entry(
        "lost@2026-07-01T01:00:00Z",
        "abandoned",
        started_at=SLOT,
        executor={"id": "i", "name": "web-7", "datacenter": "east"},
        outcome={"state": "abandoned", "reason": "instance_lost"},
    ),
    entry("missed@2026-07-01T01:00:00Z", "skipped", reason="misfire"),
    entry("paused@2026-07-01T01:00:00Z..372", "skipped", reason="paused", until=SLOT + timedelta(days=2)),
    entry("still@2026-07-01T01:00:00Z..373", "skipped", reason="paused", until=SLOT, open=True),
    entry(
        "dropped@2026-07-01T01:00:00Z", "cancelled", outcome={"state": "cancelled", "reason": "job_paused"}
    ),
]


@pytest.fixture(scope="module")
def cronexec(amqp_url: str, mongo_url: str) -> Iterator[CommandLine]:
    namespace = f"t{secrets.token_hex(4)}"
    environment = settings_for(amqp_url, mongo_url, namespace)
    with serving(environment) as served:
        served.wait_for("term.first_commit")
        with MongoClient[dict[str, Any]](mongo_url) as client:
            client.get_default_database("cronexec")[f"{namespace}.runs"].insert_many(
                [each | {"finished_at": each["claimed_at"]} for each in ENTRIES]
            )
        command_line = CommandLine(environment)
        assert command_line("job", "put", "-", stdin=json.dumps(JOB)).code == 0
        yield command_line


def shown(cronexec: CommandLine, run: str) -> str:
    answer = cronexec("run", "show", run, "--json")
    assert answer.code == 0, answer.err
    found: str = answer.json["run"]
    return found


@pytest.mark.parametrize(
    "written",
    [
        "2026-07-01T01:00:00Z",
        "2026-07-01 01:00:00Z",
        "2026-07-01 01:00",
        "2026-07-01T01:00:00+00:00",
        "2026-07-01T03:00:00+02:00",
        "2026-07-01 03:00:00 +02",
        "Wed 2026-07-01 03:00:00 CEST",
        "2026-07-01 01:00:00 UTC",
    ],
)
def test_a_run_is_found_by_any_writing_of_its_instant(cronexec: CommandLine, written: str) -> None:
    assert shown(cronexec, f"backup@{written}") == "backup@2026-07-01T01:00:00Z"


@pytest.mark.parametrize(
    "written",
    [
        "yesterday",
        "2026-07-01 03:00",
        "2026-13-01",
        "",
        "…",
        "0001-01-01 00:00+05:00",
        "9999-12-31 23:00-05:00",
    ],
)
def test_what_names_no_run_is_refused_as_it_was_given(cronexec: CommandLine, written: str) -> None:
    answer = cronexec("run", "show", f"backup@{written}")

    assert answer.code == 1
    assert answer.err == f"Error: there is no run backup@{written}\n"


def test_a_skipped_range_is_shown_with_its_slots_and_found_by_them(cronexec: CommandLine) -> None:
    table = cronexec("run", "list", "--job", "paused").lines[1]

    assert table.startswith("paused@2026-07-01T01:00:00Z … 2026-07-03T01:00:00Z  skipped")
    assert (
        cronexec("run", "list", "--job", "still").lines[1].startswith("still@2026-07-01T01:00:00Z …  skipped")
    )
    assert shown(cronexec, table.split("  ")[0]) == "paused@2026-07-01T01:00:00Z..372"
    assert shown(cronexec, "paused@2026-07-01T01:00:00Z") == "paused@2026-07-01T01:00:00Z..372"
    assert "..372" not in cronexec("run", "show", "paused@2026-07-01T01:00:00Z..372").out


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("lost", "was abandoned (instance_lost): what it wrote was lost with its instance web-7"),
        ("missed", "was skipped (misfire): it never ran"),
        ("dropped", "is cancelled (job_paused): it never started"),
        ("backup", "wrote nothing"),
    ],
)
def test_a_run_without_output_says_why(cronexec: CommandLine, run: str, said: str) -> None:
    answer = cronexec("run", "logs", f"{run}@2026-07-01T01:00:00Z")

    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"{run}@2026-07-01T01:00:00Z {said}\n"


def test_runs_of_a_job_that_never_was_are_refused_and_of_a_deleted_one_listed(cronexec: CommandLine) -> None:
    unknown = cronexec("run", "list", "--job", "nosuch")

    assert unknown.code == 1
    assert unknown.err == "Error: there is no job nosuch, and no run of it in the ledger\n"
    assert cronexec("run", "list", "--job", "nosuch", "--json").json["error"]["code"] == "not_found"
    assert cronexec("run", "list", "--job", "lost", "--state", "failed").out == "No runs.\n"
    assert cronexec("run", "list", "--job", "lost", "--json").json["runs"][0]["state"] == "abandoned"
    assert cronexec("run", "list", "--job", "backup", "--state", "failed").out == "No runs.\n"


def test_no_paused_job_is_not_no_job(cronexec: CommandLine) -> None:
    assert cronexec("job", "list", "--paused").out == "No job is paused.\n"


def test_a_dry_run_shows_text_as_it_is_written(cronexec: CommandLine) -> None:
    described = JOB | {"description": "Sluit de competitie — één keer"}

    answer = cronexec("job", "put", "--dry-run", "-", stdin=json.dumps(described))

    assert "  +description: Sluit de competitie — één keer" in answer.lines


def test_the_ledger_is_verified_for_the_retention_of_the_namespace(cronexec: CommandLine) -> None:
    verified = cronexec("ledger", "verify", "--json", CRONEXEC_RETENTION="90d").json

    assert (verified["retention_s"], verified["retention_from"]) == (7 * 86400, "ledger")
    reach = datetime.fromisoformat(verified["watermark"]) - datetime.fromisoformat(verified["since"])
    assert timedelta(days=6, hours=23) < reach < timedelta(days=7)
    assert "(retention 7d, as the ledger shows)" in cronexec("ledger", "verify").lines[0]


def test_where_nothing_shows_the_retention_the_settings_count_and_are_named(
    amqp_url: str, mongo_url: str, namespace: str
) -> None:
    environment = settings_for(amqp_url, mongo_url, namespace)
    with serving(environment) as served:
        served.wait_for("term.first_commit")
        verified = CommandLine(environment)("ledger", "verify", CRONEXEC_RETENTION="3d")

    assert "(retention 3d, as the settings here say)" in verified.lines[0]


def test_in_a_terminal_an_id_stays_whole_while_the_other_columns_keep_their_heads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, run = ("RUN", "STATE", "REASON"), "close-league@2026-12-24T03:00:00Z"
    monkeypatch.setenv("COLUMNS", "52")

    print_fitted(
        columns, [(run, "skipped", "paused by somebody@somewhere"), (f"{run} … {run}", "skipped", "")]
    )

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(columns)
    assert [line.split()[0] for line in lines if "skipped" in line] == [run, run]
    assert lines[-1].split()[0] == run  # the range's end
    assert "".join(line[len(run) + 11 :].strip() for line in lines[1:]) == "pausedbysomebody@somewhere"
