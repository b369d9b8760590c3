"""Backfills and typed params on real servers, from the command line and from Python."""

import json
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from applications import Namespace
from cli_program import CommandLine, Serving
from patience import PATIENCE

from cronexec.errors import InvalidDocumentError, RefusedError

DAY = "2026-03-02T"
TYPES = {
    "properties": {
        "league": {"type": "integer", "minimum": 1, "default": 7, "description": "Which league"},
        "season": {"type": "string"},
    }
}


@pytest.fixture
def job(cronexec: CommandLine) -> str:
    """A job that is due at every full hour, and says for which one it runs."""
    name = f"j-{secrets.token_hex(3)}"
    document = {
        "name": name,
        "schedule": {"cron": "0 * * * *"},
        "target": {"type": "shell", "command": 'echo "$CRONEXEC_SLOT $CRONEXEC_PARAMS"'},
        "params_schema": TYPES,
    }
    assert cronexec("job", "put", "-", stdin=json.dumps(document)).code == 0
    return name


def backfill(cronexec: CommandLine, job: str, since: str, until: str, *more: str) -> Any:
    return cronexec("job", "backfill", job, "--from", DAY + since, "--to", DAY + until, *more)


def eventually(read: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    until = time.monotonic() + PATIENCE
    while not holds(answer := read()):
        assert time.monotonic() < until, f"after {PATIENCE} s: {answer}"
    return answer


def ended(cronexec: CommandLine, job: str, count: int) -> list[dict[str, Any]]:
    """Return the backfills of the job, oldest slot first, once so many have succeeded."""
    listing = ("run", "list", "--job", job, "--cause", "backfill", "--json")
    runs = eventually(
        lambda: cronexec(*listing).json["runs"],
        lambda found: [run["state"] for run in found] == ["succeeded"] * count,
    )
    return sorted(runs, key=lambda run: run["slot"])


def test_a_job_is_run_for_its_past_slots_and_not_twice_by_accident(cronexec: CommandLine, job: str) -> None:
    looked = backfill(cronexec, job, "03:00", "05:30", "--dry-run", "--json").json
    assert [each["slot"] for each in looked["slots"]] == [f"{DAY}0{hour}:00:00Z" for hour in (3, 4, 5)]
    sent = backfill(cronexec, job, "03:00", "05:30")
    assert (sent.code, sent.out) == (0, f"{job}: 3 runs are queued\n")
    runs = ended(cronexec, job, 3)
    assert [run["run"] for run in runs] == [f"{job}#backfill:{DAY}0{hour}:00:00Z" for hour in (3, 4, 5)]
    assert [run["lateness_s"] for run in runs] == [None] * 3
    starts = [run["started_at"] for run in runs]
    assert starts == sorted(starts)  # one for the other, as the overlap policy says
    assert cronexec("run", "logs", runs[0]["run"]).out == f'{DAY}03:00:00Z {{"league":7}}\n'

    refused = backfill(cronexec, job, "02:00", "05:00", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "conflict")
    assert f"3 of 4 slots ran already: {DAY}03:00:00Z" in refused.json["error"]["message"]
    assert refused.err.endswith(" (--missing or --force)\n")
    missing = backfill(cronexec, job, "02:00", "05:00", "--missing", "--json").json
    assert (missing["queued"], missing["ran_before"], missing["next"]) == (1, 3, None)
    forced = backfill(cronexec, job, "05:00", "05:00", "--force", "-p", "league=8").out
    assert forced == f"{job}: 1 run is queued, 1 ran before\n"
    again = ended(cronexec, job, 5)[-1]
    assert cronexec("run", "logs", again["run"]).out == f'{DAY}05:00:00Z {{"league":8}}\n'
    assert cronexec("ledger", "verify").code == 0


def test_how_far_back_is_known_is_what_the_ledger_says_and_not_the_settings(
    cronexec: CommandLine, job: str
) -> None:
    assert backfill(cronexec, job, "05:00", "05:00").code == 0
    ended(cronexec, job, 1)  # a settled entry shows it
    recent = ("job", "backfill", job, "--from", "2d", "--dry-run")
    assert "Warning" not in cronexec(*recent, CRONEXEC_RETENTION="1h").err
    told = cronexec("job", "backfill", job, "--from", "31d", "--dry-run", CRONEXEC_RETENTION="90d").err
    assert "Warning: the ledger goes back 30d: what ran before that is not known" in told


def test_a_range_with_more_slots_than_the_limit_is_refused_before_anything_is_sent(
    cronexec: CommandLine, job: str
) -> None:
    refused = backfill(cronexec, job, "00:00", "23:00", "--limit", "5")
    assert refused.code == 1
    too_many = "more than 5 slots are in the range, which is the limit"
    assert f"{too_many}; the next one is {DAY}05:00:00Z; --limit allows more" in refused.err
    assert cronexec("run", "list", "--job", job, "--cause", "backfill", "--json").json == {"runs": []}
    to_come = cronexec("job", "backfill", job, "--from", "1h", "--to", "2126-01-01", "--limit", "10000000")
    assert to_come.code == 2


def test_a_long_range_goes_in_several_commands(cronexec: CommandLine, holder: Serving, job: str) -> None:
    before = 1 + sum("job.backfill" in line for line in holder.lines)
    sent = backfill(cronexec, job, "00:00", "03:00", "--rate", "2", "--json").json
    assert (sent["queued"], sent["next"]) == (4, None)
    applied = eventually(lambda: sum("job.backfill" in line for line in holder.lines), before.__lt__)
    assert applied == before + 1


PARAMS = [
    ("league=8", {"league": 8}),
    ("season=2026", {"league": 7, "season": "2026"}),
    ("season=007", {"league": 7, "season": "007"}),
]


@pytest.mark.parametrize(("given", "had"), PARAMS)
def test_params_are_read_by_their_types(
    cronexec: CommandLine, job: str, given: str, had: dict[str, Any]
) -> None:
    run = cronexec("job", "trigger", job, "-p", given, "--json").json["run"]
    assert cronexec("run", "show", run, "--json").json["params"] == had


def test_params_of_the_wrong_type_are_refused_with_their_field(cronexec: CommandLine, job: str) -> None:
    usage = cronexec("job", "trigger", job, "-p", "league=seven")
    assert usage.code == 2
    assert "league: expected a whole number; got 'seven'" in usage.err
    refused = cronexec("job", "trigger", job, "-p", "league=0", "--json")
    assert (refused.code, refused.json["error"]["code"], refused.json["error"]["field"]) == (
        1,
        "invalid",
        "params.league",
    )
    assert "expected a number of at least 1; got 0" in refused.err
    unknown = cronexec("job", "trigger", job, "-p", "leage=8", "--json").json["error"]
    assert unknown["message"] == "params.leage: there is no such param; did you mean 'league'?"


def test_a_job_shows_the_types_of_its_params(cronexec: CommandLine, job: str) -> None:
    shown = cronexec("job", "show", job)
    assert "# param league: integer, minimum 1, default 7: Which league" in shown.lines
    assert cronexec("job", "put", "-", "--json", stdin=shown.out).json["jobs"][0]["state"] == "unchanged"


def test_python_gets_refusals_as_exceptions(cronexec: CommandLine, job: str) -> None:
    servers = (cronexec.environment[f"CRONEXEC_{key}"] for key in ("AMQP_URL", "MONGO_URL", "NAMESPACE"))
    with Namespace(*servers).watcher() as cron:
        with pytest.raises(RefusedError) as wrong:
            cron.jobs.trigger(job, params={"league": "x"}, key="k1")
        assert (wrong.value.code, wrong.value.field) == ("invalid", "params.league")
        first = cron.jobs.trigger(job, params={"league": 9}, key="k1")
        assert first == {"run": f"{job}#k1", "state": "queued", "created": True}
        assert cron.jobs.trigger(job, params={"league": 9}, key="k1")["created"] is False
        noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
        assert cron.jobs.backfill(job, noon, noon + timedelta(hours=1))["queued"] == 2
        with pytest.raises(RefusedError) as ran:
            cron.jobs.backfill(job, noon, noon)
        assert ran.value.code == "conflict"
        for ask in (cron.runs.list, lambda since: cron.jobs.backfill(job, since)):
            with pytest.raises(InvalidDocumentError, match="since: expected an aware datetime"):
                ask(since=noon.replace(tzinfo=None))
        listed = cron.runs.list(job=job, causes=["backfill"])
        assert [run.slot for run in listed] == [noon + timedelta(hours=1), noon]
