"""The command line as tests use it: in this process for what it prints, as one of its own for signals."""

import json
import logging
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner
from patience import PATIENCE

from cronexec.cli.main import main

PROGRAM = [sys.executable, "-c", "from cronexec.cli.main import main; main()"]
DRIVERS = ("pika", "pymongo", "aiormq", "asyncio")


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True)
class CommandLine:
    """The command line with settings in its environment."""

    environment: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: str | None = None, **settings: str) -> Answer:
        """Run a command in this process."""
        before = {name: logging.getLogger(name).level for name in DRIVERS}
        try:
            result = CliRunner().invoke(
                main, arguments, input=stdin, env={**self.environment, **settings}, prog_name="cronexec"
            )
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def process(self, *arguments: str, **settings: str) -> Answer:
        """Run a command as a process of its own."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env={**os.environ, **self.environment, **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def on_terminal(self, *arguments: str) -> Answer:
        """Run a command as a process of its own on a terminal, which has both of its outputs as `out`."""
        terminal, end = pty.openpty()
        with os.fdopen(terminal, "rb", buffering=0) as screen:
            running = subprocess.Popen(
                [*PROGRAM, *arguments],
                env={**os.environ, **self.environment, "TERM": "xterm", "COLUMNS": "100"},
                stdin=end,
                stdout=end,
                stderr=end,
            )
            os.close(end)
            shown = b""
            with suppress(OSError):  # how a terminal says that nobody writes to it any more
                while part := screen.read(65536):
                    shown += part
        return Answer(running.wait(60), shown.decode(), "")


class Serving:
    """A `cronexec serve` of its own; what it prints is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, text: str, timeout: float = PATIENCE) -> str:
        """Return the first line with `text` in it."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = [line for line in self.lines if text in line]
            return bool(found) or not self._reader.is_alive()

        with self._changed:
            self._changed.wait_for(is_there, timeout)
        assert found, f"no {text!r} within {timeout} s in:\n" + "\n".join(self.lines)
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self, timeout: float = PATIENCE) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("it still runs; it said:\n" + "\n".join(self.lines)) from None

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()


@contextmanager
def serving(
    environment: Mapping[str, str],
    *arguments: str,
    cwd: Path | None = None,
    wait: bool = True,
    **settings: str,
) -> Iterator[Serving]:
    """Run `cronexec serve`, and wait until it is up."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
    )
    served = Serving(process)
    try:
        if wait:
            served.wait_for(" is up ")
        yield served
    finally:
        served.end()


def settings_for(amqp_url: str, mongo_url: str, namespace: str) -> dict[str, str]:
    return {
        "CRONEXEC_AMQP_URL": amqp_url,
        "CRONEXEC_MONGO_URL": mongo_url,
        "CRONEXEC_NAMESPACE": namespace,
        "CRONEXEC_INSTANCE": "holder",
        "CRONEXEC_DATACENTER": "east",
        "CRONEXEC_ALLOW_SHELL": "true",
        "CRONEXEC_LOG_FORMAT": "json",
    }


def check_usage(line: str) -> None:
    """Raise UsageError where a line such as `cronexec job list --json` is no way to use the command line."""
    _, *words = shlex.split(line)
    context = main.make_context("cronexec", words[:1])
    command, words = main.get_command(context, words[0]), words[1:]
    while isinstance(command, click.Group) and words:
        command, words = command.get_command(context, words[0]), words[1:]
    assert command is not None, line
    command.make_context(command.name, words)
