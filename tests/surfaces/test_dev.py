"""`cronexec dev` as a user starts it: a process with private servers, instances and companions of its own."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from applications import wait_for
from dev_program import CRONEXEC, OF_A_PROGRAM, UP, dev, left_of, processes_of, verify, write_jobs

pytestmark = OF_A_PROGRAM


@pytest.mark.usefixtures("server_programs")
def test_dev_runs_the_jobs_stops_by_itself_and_leaves_nothing(tmp_path: Path) -> None:
    jobs, lines = write_jobs(tmp_path)

    with dev(tmp_path, jobs, "--instances", "2", "--for", "6s") as running:
        running.wait_for(UP)
        assert len(processes_of(tmp_path)) >= 6  # dev, mongod, beam, epmd, two instances
        running.wait_for(r"baton ams-\d, epoch 1.* 2 of 2 instances")
        assert running.end() == 0, running.printed

    slots = lines.read_text().split()
    assert len(slots) >= 4
    assert len(slots) == len(set(slots))
    assert "everything has stopped" in running.printed
    assert left_of(tmp_path) == set()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("cronexec-dev-")] == []


def test_a_killed_holder_is_succeeded_and_the_ledger_has_every_slot_once(
    tmp_path: Path, given: dict[str, str]
) -> None:
    jobs, lines = write_jobs(tmp_path)

    with dev(tmp_path, jobs, "--kill-holder-every", "5s", given=given) as running:
        killed = running.wait_for(r"killed (\S+) \(kill -9\); \S+'s first write came \d+ ms later")
        running.wait_for(rf"{killed} started again")
        running.wait_for(r"baton (?!nobody).*3 of 3 instances.*failovers [1-9]")
        verified = verify(given)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0, running.printed

    assert verified.returncode == 0, verified.stdout
    assert "Every due slot is in the ledger exactly once." in verified.stdout
    slots = lines.read_text().split()
    assert len(slots) == len(set(slots))
    assert left_of(tmp_path) == set()


def test_a_companion_that_ends_is_told_of_and_stops_nothing(tmp_path: Path, given: dict[str, str]) -> None:
    with dev(tmp_path, "--with", "sh -c 'exit 7'", "--instances", "1", given=given) as running:
        running.wait_for(r"with-1 has ended with exit code 7: see .*\.log")
        running.wait_for(r"baton ams-1")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0


@pytest.mark.usefixtures("server_programs")
def test_a_kept_data_directory_has_its_jobs_and_ledger_the_next_time(tmp_path: Path) -> None:
    jobs, lines = write_jobs(tmp_path)
    data = str(tmp_path / "data")

    with dev(tmp_path, jobs, "--instances", "1", "--data-dir", data) as first:
        first.wait_for(UP)
        wait_for(lambda: lines.exists() and lines.read_text(), "the first slot")
        first.process.send_signal(signal.SIGTERM)
        assert first.end() == 0, first.printed
    before = lines.read_text().split()
    with dev(tmp_path, "--instances", "1", "--data-dir", data) as second:
        exports = second.wait_for(r"export (CRONEXEC_AMQP_URL=.*)")
        second.wait_for(r"baton ams-1, epoch [2-9]")
        wait_for(lambda: len(lines.read_text().split()) > len(before), "a slot of the second time")
        verified = verify(dict(each.split("=", 1) for each in shlex.split(exports)))
        second.process.send_signal(signal.SIGTERM)
        assert second.end() == 0, second.printed

    slots = lines.read_text().split()
    assert len(slots) > len(before) > 0
    assert len(slots) == len(set(slots))
    assert verified.returncode == 0, verified.stdout


def test_an_application_that_cannot_be_imported_ends_dev_with_what_it_said(
    tmp_path: Path, given: dict[str, str]
) -> None:
    with dev(tmp_path, "--app", "nosuch:cron", "--instances", "1", given=given) as running:
        assert running.end() == 1

    assert re.search(r"Error: the instance ams-1 ended with exit code 2: .*no module nosuch", running.printed)
    assert left_of(tmp_path) == set()


@pytest.mark.parametrize(
    ("content", "problem"),
    [("- {name: Bad}", "schedule"), ("*/5 * * * * echo 100% sure", "%"), ("", "nothing in it")],
)
def test_a_wrong_job_file_is_an_error_before_anything_starts(
    tmp_path: Path, content: str, problem: str
) -> None:
    file = tmp_path / "jobs"
    file.write_text(content)

    with dev(tmp_path, str(file)) as running:
        assert running.end() == 1

    assert problem in running.printed
    assert "starting" not in running.printed


def test_missing_servers_are_one_sentence_and_exit_4(tmp_path: Path) -> None:
    hidden = (
        "from cronexec.dev import rabbitmq, mongodb; rabbitmq.SERVER_FOLDERS = mongodb.SERVER_FOLDERS = ();"
    )
    command = [sys.executable, "-c", f"{hidden} {CRONEXEC[2]}", "dev"]

    ended = subprocess.run(
        command,
        env={"PATH": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 4
    assert re.fullmatch(
        r"Error: rabbitmq-server was not found: .* or set CRONEXEC_AMQP_URL .*\n", ended.stderr
    )
    assert list(tmp_path.iterdir()) == []
