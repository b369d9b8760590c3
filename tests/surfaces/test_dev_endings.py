"""How `cronexec dev` ends: by signals, without a terminal, without a reader; nothing of it is left."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from applications import wait_for
from dev_program import OF_A_PROGRAM, TICK, UP, Dev, command_of, dev, left_of, processes_of, write_jobs

pytestmark = OF_A_PROGRAM

AT_ONCE = 20  # seconds: what ends in order waits for the long job, for 25 s
LONG = """
- name: long
  schedule: {every: 2s}
  target: {type: shell, command: "sleep 30", env: {OF: LINES}}
  overlap: skip
"""


@pytest.mark.usefixtures("server_programs")
def test_a_sigint_while_the_servers_start_cuts_the_start_off(tmp_path: Path) -> None:
    with dev(tmp_path) as running:
        running.wait_for(r"starting RabbitMQ")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0, running.printed

    assert "ready after" not in running.printed
    assert "Traceback" not in running.printed
    assert left_of(tmp_path) == set()


@pytest.mark.parametrize("moment", [r"starting the instances", UP])
def test_one_sigint_stops_everything_whenever_it_comes(
    tmp_path: Path, moment: str, given: dict[str, str]
) -> None:
    jobs, _ = write_jobs(tmp_path)

    with dev(tmp_path, jobs, given=given) as running:
        running.wait_for(moment)
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0, running.printed

    assert "Traceback" not in running.printed
    assert left_of(tmp_path) == set()


def test_dev_ends_and_leaves_nothing_when_its_terminal_is_gone(tmp_path: Path, given: dict[str, str]) -> None:
    jobs, _ = write_jobs(tmp_path)

    with dev(tmp_path, jobs, given=given) as running:
        running.wait_for(UP)
        assert running.process.stdout
        running.process.stdout.close()
        running.process.send_signal(signal.SIGHUP)
        assert running.process.wait(timeout=AT_ONCE) == 130

    assert left_of(tmp_path) == set()


def test_dev_stops_everything_when_nobody_reads_what_it_prints(tmp_path: Path, given: dict[str, str]) -> None:
    jobs, _ = write_jobs(tmp_path)

    with dev(tmp_path, jobs, given=given) as running:
        running.wait_for(UP)
        assert running.process.stdout
        running.process.stdout.close()
        assert running.process.wait(timeout=60) != 0

    assert left_of(tmp_path) == set()


def send_sigint_twice(running: Dev) -> None:
    running.process.send_signal(signal.SIGINT)
    running.wait_for("stopping")
    running.process.send_signal(signal.SIGINT)


def send_sigkill(running: Dev) -> None:
    running.process.kill()


def sleeping(directory: Path) -> list[str]:
    """Return the commands of `directory`'s processes once the long job is among them."""
    commands = [command_of(process) for process in processes_of(directory)]
    return commands if any("sleep 30" in command for command in commands) else []


@pytest.mark.usefixtures("server_programs")
@pytest.mark.parametrize(
    ("end", "code"),
    [(send_sigint_twice, 130), (send_sigkill, -9)],
    ids=["sigint twice", "kill -9"],
)
def test_nothing_is_left_when_dev_ends_at_once(tmp_path: Path, end: Callable[[Dev], None], code: int) -> None:
    jobs, lines = write_jobs(tmp_path, TICK + LONG)

    with dev(tmp_path, jobs) as running:
        started = wait_for(lambda: sleeping(tmp_path), "the long job's command", timeout=90)
        end(running)
        assert running.end(seconds=AT_ONCE) == code, running.printed

    assert len(started) >= 6, started  # dev, mongod, beam, epmd, instances, the command
    assert lines.exists()
    assert left_of(tmp_path) == set()
