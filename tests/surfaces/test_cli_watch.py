"""Runs that are watched: output and progress as they come, from a process that is not the run's instance."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_program import PROGRAM, CommandLine, serving, settings_for
from patience import PATIENCE

from cronexec.cli.watch_view import state_line
from cronexec.domain.run import RETRY, Run, RunState
from cronexec.watching import Sight

CRONEXEC = f"{sys.executable} -c 'from cronexec.cli.main import main; main()'"


@dataclass
class Watching:
    """A command that is running; its lines as they come."""

    process: subprocess.Popen[str]

    def line(self, text: str) -> str:
        """Return the next line of standard output with `text` in it."""
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            assert self.process.stdout
            for line in self.process.stdout:
                if text in line:
                    return line
        finally:
            timer.cancel()
        raise AssertionError(f"no {text!r} came")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


def start(command_line: CommandLine, *arguments: str) -> Watching:
    return Watching(
        subprocess.Popen(
            [*PROGRAM, *arguments],
            env={**os.environ, **command_line.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


@pytest.fixture(scope="module")
def cronexec(amqp_url: str, mongo_url: str) -> Iterator[CommandLine]:
    environment = settings_for(amqp_url, mongo_url, f"t{secrets.token_hex(4)}")
    with serving(environment) as served:
        served.wait_for("term.first_commit")
        yield CommandLine(environment)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file for which runs wait; made in any case after the test."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def put(cronexec: CommandLine, name: str, command: str, **fields: Any) -> None:
    job = {"name": name, "schedule": {"cron": "0 0 1 1 *"}, "target": {"type": "shell", "command": command}}
    answer = cronexec("job", "put", "-", stdin=json.dumps(job | fields))
    assert answer.code == 0, answer.err


def until_there(gate: Path) -> str:
    return f'while [ ! -e "{gate}" ]; do sleep 0.1; done'


def test_a_triggered_run_is_shown_as_it_comes_to_its_end(cronexec: CommandLine, gate: Path) -> None:
    tell = f"{CRONEXEC} progress 2 5 matches"
    put(cronexec, "show", f"echo begun; {tell}; {until_there(gate)}; echo done; exit 3")
    watching = start(cronexec, "job", "trigger", "show", "--wait", "--key", "k")

    watching.line("begun")
    gate.touch()
    code, out, err = watching.end()

    assert (code, out) == (1, "done\n")
    *before, last = err.splitlines()
    assert last.startswith("show#k: failed after ")
    assert "exit code 3" in last
    assert before[-2:] == ["show#k: running on holder", "2/5 matches"]


def test_a_run_that_succeeds_ends_the_watch_with_0_and_one_document(cronexec: CommandLine) -> None:
    put(cronexec, "fine", "echo fine")

    answer = cronexec("job", "trigger", "fine", "--key", "k", "--wait", "--json")

    assert answer.code == 0
    assert (answer.json["state"], answer.json["exit_code"]) == ("succeeded", 0)
    assert answer.json["output"]["head"] == "fine\n"
    again = cronexec("run", "watch", "fine#k")
    assert (again.code, again.out) == (0, "fine\n")
    assert "fine#k: succeeded after" in again.err
    assert "exit code 0" in again.err


def test_a_watch_that_takes_too_long_ends_and_the_run_goes_on(cronexec: CommandLine, gate: Path) -> None:
    put(cronexec, "long", until_there(gate))

    answer = cronexec("job", "trigger", "long", "--key", "k", "--wait", "--timeout", "1s")

    assert answer.code == 3
    assert answer.err.endswith("long#k is not over within 1s; it goes on\n")
    assert cronexec("run", "show", "long#k", "--json").json["state"] == "running"


def test_a_watch_without_patience_looks_once(cronexec: CommandLine, gate: Path) -> None:
    put(cronexec, "impatient", until_there(gate))

    answer = cronexec("job", "trigger", "impatient", "--key", "k", "--wait", "--timeout", "0s")

    assert (answer.code, answer.err) == (3, "impatient#k is not over within 0s; it goes on\n")


def test_a_job_is_watched_by_its_run_that_is_under_way(cronexec: CommandLine, gate: Path) -> None:
    put(cronexec, "by-name", f"echo here; {until_there(gate)}")
    cronexec("job", "trigger", "by-name", "--key", "k")
    watching = start(cronexec, "run", "watch", "by-name")

    watching.line("here")
    gate.touch()

    assert watching.end()[0] == 0


def test_a_job_without_a_run_is_watched_from_the_next_one_on(cronexec: CommandLine) -> None:
    put(cronexec, "later", "echo here")
    watching = start(cronexec, "run", "watch", "later")
    assert watching.process.stderr
    assert watching.process.stderr.readline().startswith("later: waiting for its next run, due at 20")

    cronexec("job", "trigger", "later")

    assert watching.end()[:2] == (0, "here\n")


def test_a_watch_of_a_job_that_is_deleted_meanwhile_ends(cronexec: CommandLine) -> None:
    put(cronexec, "deleted", "true")
    cronexec("job", "pause", "deleted")
    watching = start(cronexec, "run", "watch", "deleted")
    assert watching.process.stderr
    waiting = "deleted: waiting for its next run; it is paused: only a trigger starts one\n"
    assert watching.process.stderr.readline() == waiting

    cronexec("job", "delete", "deleted")

    assert watching.end() == (1, "", "Error: there is no job deleted\n")


def test_ctrl_c_ends_the_watch_and_says_that_the_run_goes_on(cronexec: CommandLine, gate: Path) -> None:
    put(cronexec, "interrupted", f"echo begun; {until_there(gate)}")
    watching = start(cronexec, "job", "trigger", "interrupted", "--wait", "--key", "k")
    watching.line("begun")

    watching.process.send_signal(signal.SIGINT)

    code, _, err = watching.end()
    assert code == 1
    assert "interrupted#k goes on; 'cronexec run cancel interrupted#k' ends it\n" in err
    assert cronexec("run", "show", "interrupted#k", "--json").json["state"] == "running"


def test_a_skipped_slot_is_not_the_run_that_a_watch_waits_for(cronexec: CommandLine) -> None:
    put(cronexec, "after-pause", "echo here")
    watching = start(cronexec, "run", "watch", "after-pause")
    assert watching.process.stderr
    assert watching.process.stderr.readline().startswith("after-pause: waiting for its next run, due at ")

    cronexec("job", "pause", "after-pause")
    with pytest.raises(subprocess.TimeoutExpired):
        watching.process.wait(2)  # several looks
    cronexec("job", "trigger", "after-pause")

    assert watching.end()[:2] == (0, "here\n")


def test_the_log_of_a_run_is_there_while_it_runs_and_can_be_followed(
    cronexec: CommandLine, gate: Path
) -> None:
    put(cronexec, "log", f"echo one; {until_there(gate)}; echo two")
    cronexec("job", "trigger", "log", "--key", "k")
    following = start(cronexec, "run", "logs", "log#k", "--follow")

    following.line("one")
    assert cronexec("run", "logs", "log#k").out == "one\n"
    gate.touch()

    assert following.end() == (0, "two\n", "")


def test_a_long_output_is_kept_whole_and_a_huge_one_by_its_ends(cronexec: CommandLine) -> None:
    put(cronexec, "much", "yes 0123456789abcde | head -c 900000")
    put(cronexec, "huge", "yes 0123456789abcde | head -c 9000000; echo end")

    assert cronexec("job", "trigger", "much", "--key", "k", "--wait").out == "0123456789abcde\n" * 56250
    cronexec("job", "trigger", "huge", "--key", "k", "--wait", "--json")
    kept = cronexec("run", "logs", "huge#k", "--json").json

    assert len(kept["head"]) == len(kept["tail"]) == 512 * 1024
    assert kept["dropped"] == 9000004 - 1024 * 1024
    assert kept["tail"].endswith("e\nend\n")
    assert len(cronexec("run", "watch", "huge#k", "--json").json["output"]["tail"]) == 3 * 1024


def test_what_is_wrong_with_a_watch_is_said(cronexec: CommandLine) -> None:
    put(cronexec, "wrong", "true")

    assert cronexec("run", "watch", "nosuch").err == "Error: there is no job nosuch\n"
    elsewhere = cronexec("--namespace", f"no{secrets.token_hex(4)}", "run", "watch", "wrong")
    assert "no instance has ever served the namespace" in elsewhere.err
    assert cronexec("run", "watch", "wrong#nosuch").err == "Error: there is no run wrong#nosuch\n"
    timeout = cronexec("job", "trigger", "wrong", "--timeout", "3s")
    assert (timeout.code, "--timeout is for --wait without a number" in timeout.err) == (2, True)
    misplaced = cronexec("job", "trigger", "--wait", "wrong")
    assert (misplaced.code, "write a lone --wait behind the job's name" in misplaced.err) == (2, True)
    cronexec("job", "trigger", "wrong", "--key", "k", "--wait")
    too_many = cronexec("run", "logs", "wrong#k", "--attempt", "2")
    assert too_many.err == "Error: wrong#k has made 1 attempt so far\n"


def test_a_run_that_waits_for_its_retry_is_told_of_once() -> None:
    slot = datetime(2026, 5, 4, 12, tzinfo=UTC)
    run = Run(id="a#k", job="a", version=1, slot=slot, state=RunState.QUEUED, epoch=1, attempt=2)
    waiting = replace(run, not_before=slot + timedelta(minutes=1))

    lines = {state_line(Sight(run=each, attempt=2)) for each in (waiting, replace(waiting, reason=RETRY))}

    assert lines == {"a#k: queued (attempt 2), not before 2026-05-04 12:01:00Z"}
    unavailable = state_line(Sight(run=replace(run, reason="target_unavailable"), attempt=2))
    assert unavailable == "a#k: queued (attempt 2): target_unavailable"


def test_a_watch_of_what_is_over_without_having_run_says_so(cronexec: CommandLine, gate: Path) -> None:
    put(cronexec, "never", until_there(gate))
    cronexec("job", "trigger", "never", "--key", "k")
    cronexec("job", "trigger", "never", "--key", "behind")
    waiting = cronexec("run", "logs", "never#behind")
    assert waiting.err == "never#behind is queued: it has written nothing yet\n"
    cronexec("run", "cancel", "never#behind")

    watched = cronexec("run", "watch", "never#behind")

    assert (watched.code, watched.out) == (1, "")
    assert watched.err.startswith("never#behind: cancelled")


def test_in_a_terminal_the_output_stands_above_a_bar(cronexec: CommandLine) -> None:
    half = 'echo 1 2 "half [/way]" > "$CRONEXEC_PROGRESS"; sleep 1.5'
    put(cronexec, "bar", f"echo '[bold]one'; {half}; printf 'no line end'; exit 3")

    answer = cronexec.on_terminal("job", "trigger", "bar", "--wait", "--key", "[/k]")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", answer.out)

    assert answer.code == 1, text
    assert "[bold]one\r\n" in text
    assert "1/2 half [/way]" in text
    assert "no line end\r\n" in text
    assert "bar#[/k]: failed after" in text


def test_progress_is_told_by_a_line_in_the_pipe_as_well(cronexec: CommandLine, gate: Path) -> None:
    put(
        cronexec,
        "piped",
        f'echo nonsense > "$CRONEXEC_PROGRESS"; echo 1 2 half > "$CRONEXEC_PROGRESS"; {until_there(gate)}',
    )
    watching = start(cronexec, "job", "trigger", "piped", "--wait")

    assert "no progress: expected DONE" in watching.line("cronexec:")
    gate.touch()
    code, _, err = watching.end()

    assert code == 0
    assert "1/2 half" in err.splitlines()
