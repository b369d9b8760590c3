"""`cronexec baton` and `cronexec ledger` on real servers: who holds, and what is missing or doubled."""

import secrets
from typing import Any

import pytest
from cli_jobs import eventually, shell_job
from cli_program import Answer, CommandLine
from pymongo import MongoClient


@pytest.fixture
def name() -> str:
    return f"j-{secrets.token_hex(3)}"


def run_each_second(cronexec: CommandLine, name: str, count: int) -> list[dict[str, Any]]:
    """Put a job that runs each second, and return its runs, newest first, once so many have succeeded."""
    cronexec("job", "put", "-", stdin=shell_job(name, schedule={"every": "1s"}))
    listed = eventually(
        lambda: cronexec("run", "list", "--job", name, "--state", "succeeded", "--json"),
        lambda listed: len(listed["runs"]) >= count,
    )
    found: list[dict[str, Any]] = listed["runs"]
    return found


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
    run_each_second(cronexec, name, 2)
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
    ran = run_each_second(cronexec, name, 3)
    cronexec("job", "delete", name)
    gone = ran[1]
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
    ran = run_each_second(cronexec, name, 2)
    cronexec("job", "delete", name)
    once = ran[0]
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
