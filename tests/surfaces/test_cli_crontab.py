"""Crontabs of several machines in one namespace: none replaces another's jobs by accident."""

import getpass
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_program import Answer, CommandLine, serving, settings_for


@pytest.fixture(scope="module")
def cronexec(amqp_url: str, mongo_url: str) -> Iterator[CommandLine]:
    environment = settings_for(amqp_url, mongo_url, f"t{secrets.token_hex(4)}")
    with serving(environment) as served:
        served.wait_for("term.first_commit")
        yield CommandLine(environment)


@pytest.fixture
def name() -> str:
    return f"j{secrets.token_hex(4)}"


def put(cronexec: CommandLine, name: str, *options: str, minute: int = 0) -> Answer:
    """Put a crontab of one line, from standard input."""
    return cronexec("job", "put", *options, "-", stdin=f"{minute} 3 * * * /opt/{name}\n")


def schedule_of(cronexec: CommandLine, name: str) -> str:
    cron: str = cronexec("job", "show", name, "--json").json["document"]["schedule"]["cron"]
    return cron


def label_of(cronexec: CommandLine, name: str) -> str:
    label: str = cronexec("job", "show", name, "--json").json["document"]["labels"]["crontab"]
    return label


def test_jobs_carry_the_crontab_that_they_are_from(cronexec: CommandLine, name: str, tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text(f"0 3 * * * /opt/{name}-file\n")
    (tmp_path / "link").symlink_to(file)

    assert put(cronexec, name).code == 0
    assert cronexec("job", "put", str(tmp_path / "link")).code == 0

    assert label_of(cronexec, name) == f"{getpass.getuser()}@{socket.gethostname()}:-"
    assert label_of(cronexec, f"{name}-file") == f"{socket.gethostname()}:{file.resolve()}"


def test_the_same_crontab_put_again_is_no_change_and_changed_it_updates(
    cronexec: CommandLine, name: str
) -> None:
    put(cronexec, name)

    assert put(cronexec, name).out.startswith(f"{name}: unchanged (version 1); next 20")
    assert put(cronexec, name, minute=5).out.startswith(f"{name}: updated (version 2); next 20")
    assert schedule_of(cronexec, name) == "5 3 * * *"


def test_another_machine_s_crontab_does_not_replace_a_job(cronexec: CommandLine, name: str) -> None:
    put(cronexec, name, "--source", "web1:/etc/crontab")

    refused = put(cronexec, name, "--source", "web2:/etc/crontab", minute=5)

    assert refused.code == 1
    assert f"there is another job {name} (version 1, from the crontab web1:/etc/crontab)" in refused.err
    assert "--prefix" in refused.err
    assert "--replace" in refused.err
    assert schedule_of(cronexec, name) == "0 3 * * *"
    tried = put(cronexec, name, "--source", "web2:/etc/crontab", "--dry-run", "--json", minute=5)
    assert (tried.code, tried.json["jobs"][0]["state"]) == (1, "refused")


def test_the_same_crontab_on_another_machine_is_one_job(cronexec: CommandLine, name: str) -> None:
    put(cronexec, name, "--source", "web1:/etc/crontab")

    again = put(cronexec, name, "--source", "web2:/etc/crontab", "--json")

    assert (again.code, again.json["unchanged"]) == (0, 1)
    assert put(cronexec, name, "--source", "web2:/etc/crontab", "--dry-run").out == f"{name}: unchanged\n"
    assert label_of(cronexec, name) == "web1:/etc/crontab"


def test_a_crontab_does_not_replace_a_job_that_was_not_put_from_one(cronexec: CommandLine, name: str) -> None:
    document = (
        f'{{"name": "{name}", "schedule": {{"every": "1h"}}, "target": {{"type": "shell", "command": "x"}}}}'
    )
    cronexec("job", "put", "-", stdin=document)

    refused = put(cronexec, name)

    assert (refused.code, refused.out) == (1, "")
    assert "not from a crontab" in refused.err


def test_replace_and_prefix_are_the_ways_on(cronexec: CommandLine, name: str) -> None:
    put(cronexec, name, "--source", "web1")

    assert put(cronexec, name, "--source", "web2", "--prefix", f"{name}.web2", minute=5).code == 0
    assert schedule_of(cronexec, f"{name}.web2-{name}") == "5 3 * * *"
    assert put(cronexec, name, "--source", "web2", "--replace", minute=6).code == 0
    assert (schedule_of(cronexec, name), label_of(cronexec, name)) == ("6 3 * * *", "web2")


def test_one_that_is_refused_does_not_keep_the_others_from_being_put(
    cronexec: CommandLine, name: str
) -> None:
    put(cronexec, name, "--source", "web1")
    crontab = f"7 3 * * * /opt/{name}\n7 3 * * * /opt/{name}-b\n"

    answer = cronexec("job", "put", "--source", "web2", "--json", "-", stdin=crontab)

    assert answer.code == 1
    assert [job["state"] for job in answer.json["jobs"]] == ["refused", "created"]
    assert answer.json["jobs"][0]["error"]["code"] == "another_origin"


def test_of_machines_that_put_at_the_same_time_one_gets_each_name(
    cronexec: CommandLine, name: str, tmp_path: Path
) -> None:
    answers: dict[int, Answer] = {}

    def race(machine: int) -> None:
        file = tmp_path / str(machine)
        file.write_text("".join(f"{machine} 3 * * * /opt/{name}-{number}\n" for number in range(20)))
        answers[machine] = cronexec.process("job", "put", "--json", str(file))

    threads = [threading.Thread(target=race, args=(machine,)) for machine in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    one, other = ([job["state"] for job in answers[machine].json["jobs"]] for machine in (1, 2))
    assert {frozenset(states) for states in zip(one, other, strict=True)} == {
        frozenset({"created", "refused"})
    }


@pytest.mark.parametrize("prefix", ["Web1-", "web 1", "-a", "é", "a/b", "x" * 65])
def test_a_prefix_that_cannot_begin_a_name_is_refused(prefix: str) -> None:
    answer = CommandLine({})("job", "validate", f"--prefix={prefix}", "-", stdin="@daily true\n")

    assert answer.code == 2
    assert "expected 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit" in answer.err
