"""`cronexec dev` as a process of its own, and what of it is left."""

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent
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
NO_URLS: Mapping[str, str] = {}
UP = r"in another terminal"
OF_A_PROGRAM = [
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
    pytest.mark.timeout(150),
]


class Dev:
    """A running `cronexec dev`; what it prints is read with a timeout that shows what was printed."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.printed = ""
        self._unread = b""

    def wait_for(self, pattern: str, *, seconds: float = 90) -> str:
        """Read on until `pattern` is in what is printed from now on; returns its group, or all of it."""
        text = ""
        while not (found := re.search(pattern, text)):
            text += self._line(pattern, seconds)
        return found[1] if found.re.groups else found[0]

    def _line(self, pattern: str, seconds: float) -> str:
        """Return the next line. Nothing is read by a buffer of Python's, which `select` would not see."""
        assert self.process.stdout
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self.process.stdout], [], [], seconds)
            assert ready, f"no {pattern!r} within {seconds} s; printed: {self.printed}"
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, f"ended with {self.process.wait()} before {pattern!r}; printed: {self.printed}"
            self._unread += part
        line, newline, self._unread = self._unread.partition(b"\n")
        self.printed += (line + newline).decode()
        return (line + newline).decode()

    def end(self, *, seconds: float = 60) -> int:
        """Wait for the end; returns the exit code."""
        rest, _ = self.process.communicate(timeout=seconds)
        self.printed += (self._unread + rest).decode()
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
        bufsize=0,
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


def left_of(directory: Path, *, seconds: float = PATIENCE) -> set[str]:
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
