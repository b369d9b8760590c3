"""`cronexec dev` as a user starts it: a process with private servers, instances and companions of its own."""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from applications import wait_for

from cronexec.cli.documents import CrontabOptions, read_files
from cronexec.dev.cluster import places
from cronexec.dev.devfile import DevFile, DevFileError
from cronexec.dev.directory import DataDirectory, DataDirectoryError
from cronexec.dev.servers import Servers
from cronexec.domain.schedule import Schedule

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "deploy" / "demo"
CRONEXEC = [sys.executable, "-c", "from cronexec.cli.main import main; main()"]
OFTEN = (  # the lines are what is waited for
    "from datetime import timedelta; from cronexec.dev import watch;"
    "watch.PLAIN_INTERVAL = timedelta(milliseconds=500);"
)
DEV = [sys.executable, "-c", f"{OFTEN} {CRONEXEC[2]}", "dev"]
TICK = """
- name: tick
  schedule: {cron: "* * * * * *"}
  target: {type: shell, command: "echo $CRONEXEC_SLOT >> LINES"}
"""
LONG = """
- name: long
  schedule: {every: 2s}
  target: {type: shell, command: "sleep 30", env: {OF: LINES}}
  overlap: skip
"""
NO_URLS: Mapping[str, str] = {}
UP = r"in another terminal"

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
    pytest.mark.timeout(150),
]


class Dev:
    """A running `cronexec dev`; what it prints is read with a timeout that shows what was printed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.printed = ""

    def wait_for(self, pattern: str, *, seconds: float = 90) -> str:
        """Read on until `pattern` is in what is printed from now on; returns its group, or all of it."""
        assert self.process.stdout
        text = ""
        while not (found := re.search(pattern, text)):
            ready, _, _ = select.select([self.process.stdout], [], [], seconds)
            assert ready, f"no {pattern!r} within {seconds} s; printed: {self.printed}"
            line = self.process.stdout.readline()
            assert line, f"ended with {self.process.wait()} before {pattern!r}; printed: {self.printed}"
            text += line
            self.printed += line
        return found[1] if found.re.groups else found[0]

    def end(self, *, seconds: float = 60) -> int:
        """Wait for the end; returns the exit code."""
        rest, _ = self.process.communicate(timeout=seconds)
        self.printed += rest
        return self.process.returncode


@contextmanager
def dev(directory: Path, *arguments: str, given: Mapping[str, str] = NO_URLS) -> Iterator[Dev]:
    """Run `cronexec dev` with MARK=`directory` in the environment, by which its processes are found."""
    command = [*DEV, *arguments]
    own = {"MARK": str(directory), "TMPDIR": str(directory), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        env={**os.environ, **own, **given},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=1,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Dev(process)
        finally:
            process.kill()


def processes_of(directory: Path) -> set[int]:
    """Return the processes that were started with MARK=`directory`, or are named after it."""
    wanted = os.fsencode(directory)
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and mentions(entry, wanted)
    }


def mentions(process: Path, wanted: bytes) -> bool:
    try:
        return wanted in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


def left_of(directory: Path, *, seconds: float = 10) -> set[str]:
    """Wait until no process of `directory` is left; returns the commands of those that still are."""
    left = {}
    for process in processes_of(directory):
        try:
            descriptor = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        if not select.select([descriptor], [], [], seconds)[0]:
            left[process] = command_of(process)
        os.close(descriptor)
    return set(left.values())


def command_of(process: int) -> str:
    """Return its command line; nothing if it has ended meanwhile."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def write_jobs(directory: Path, content: str = TICK) -> tuple[str, Path]:
    """Write the jobs; returns their file, and the file to which `tick` appends its slots."""
    lines = directory / "lines"
    jobs = directory / "jobs.yaml"
    jobs.write_text(content.replace("LINES", str(lines)))
    return str(jobs), lines


@pytest.fixture
def given(servers: Servers, namespace: str) -> dict[str, str]:
    """Return the variables that name the session's servers and a namespace of this test's own."""
    return {
        "CRONEXEC_AMQP_URL": servers.amqp_url,
        "CRONEXEC_MONGO_URL": servers.mongo_url,
        "CRONEXEC_NAMESPACE": namespace,
    }


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


def verify(variables: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*CRONEXEC, "ledger", "verify"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.usefixtures("server_programs")
def test_a_sigint_while_the_servers_start_cuts_the_start_off(tmp_path: Path) -> None:
    with dev(tmp_path) as running:
        running.wait_for(r"starting RabbitMQ")
        running.process.send_signal(signal.SIGINT)
        assert running.end(seconds=10) == 0, running.printed

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
        assert running.process.wait(timeout=10) == 130

    assert left_of(tmp_path) == set()


def test_dev_stops_everything_when_nobody_reads_what_it_prints(tmp_path: Path, given: dict[str, str]) -> None:
    jobs, _ = write_jobs(tmp_path)

    with dev(tmp_path, jobs, given=given) as running:
        running.wait_for(UP)
        assert running.process.stdout
        running.process.stdout.close()
        assert running.process.wait(timeout=60) != 0

    assert left_of(tmp_path) == set()


def test_a_companion_that_ends_is_told_of_and_stops_nothing(tmp_path: Path, given: dict[str, str]) -> None:
    with dev(tmp_path, "--with", "sh -c 'exit 7'", "--instances", "1", given=given) as running:
        running.wait_for(r"with-1 has ended with exit code 7: see .*\.log")
        running.wait_for(r"baton ams-1")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0


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
        assert running.end(seconds=10) == code, running.printed

    assert len(started) >= 6, started  # dev, mongod, beam, epmd, instances, the command
    assert lines.exists()
    assert left_of(tmp_path) == set()


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


def test_a_data_directory_belongs_to_one_dev_at_a_time(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path),
        pytest.raises(DataDirectoryError, match="is in use by another"),
        DataDirectory(tmp_path),
    ):
        pass
    with DataDirectory(tmp_path) as again:
        assert again.path == tmp_path


def test_a_data_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(DataDirectoryError, match=r"file/data cannot be used: Not a directory; give another"),
        DataDirectory(tmp_path / "file" / "data"),
    ):
        pass


def test_a_temporary_data_directory_is_gone_at_the_end() -> None:
    with DataDirectory() as directory:
        (directory.path / "rabbitmq").mkdir()
        assert directory.path.is_dir()

    assert not directory.path.exists()


def test_instances_have_names_of_two_datacenters() -> None:
    assert [place.name for place in places(5)] == ["ams-1", "ams-2", "fra-1", "ams-3", "ams-4"]
    assert {place.datacenter for place in places(3)} == {"ams", "fra"}


def test_a_dev_file_gives_the_application_and_companions(tmp_path: Path) -> None:
    (tmp_path / "dev.toml").write_text('app = "shop:cron"\nwith = ["python receiver.py"]\n')

    found = DevFile.beside(str(tmp_path / "jobs.yaml"))

    assert (found.app, found.commands, found.folder) == ("shop:cron", ["python receiver.py"], tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ap = 'x:y'", "unknown key ap; there are app and with"),
        ("app = 1", "app: expected text"),
        ("with = 'python x.py'", "with: expected a list of commands"),
        ("app =", "cannot be read"),
    ],
)
def test_a_wrong_dev_file_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "dev.toml").write_text(content)

    with pytest.raises(DevFileError, match=message):
        DevFile.beside(str(tmp_path / "jobs.yaml"))


def test_the_demo_has_350_jobs_of_all_kinds_and_all_of_them_are_valid() -> None:
    reading = read_files([str(DEMO / "jobs.yaml"), str(DEMO / "crontab")], CrontabOptions())

    kinds = [job.target.type for job in reading.jobs]
    assert reading.problems == []
    assert len(reading.jobs) >= 350
    assert {
        kind: kinds.count(kind) >= 20 for kind in ("webhook", "shell", "handler", "publish")
    } == dict.fromkeys(("webhook", "shell", "handler", "publish"), True)
    assert sum(runs_every_minute(job.schedule) for job in reading.jobs) >= 120
    assert all(job.owner and job.labels for job in reading.jobs if job.target.type != "shell")


def runs_every_minute(schedule: Schedule) -> bool:
    at = datetime(2026, 5, 4, 12, tzinfo=UTC)
    return len(list(schedule.slots(at, at + timedelta(minutes=10)))) >= 10


def test_every_handler_of_the_demos_jobs_is_in_its_application() -> None:
    reading = read_files([str(DEMO / "jobs.yaml")], CrontabOptions())
    code = (DEMO / "app.py").read_text()

    wanted = {job.target.name for job in reading.jobs if job.target.type == "handler"}

    assert wanted == set(re.findall(r'@cron\.handler\("(\w+)"\)', code))
