"""Child processes that are ready when `start` returns and gone when `stop` returns.

A child runs in a session and process group of its own, so a Ctrl-C in the terminal reaches only us
and we decide the order in which things stop. What it prints goes to a log file; when it does not
become ready, the error quotes that log's tail.

It ends in one of four ways, and in none of them is a process left behind: `stop` (SIGTERM, then
SIGKILL to the group), `kill` (SIGKILL to the group), our normal exit (`atexit`), and, on Linux, our
death by a signal (`tether`). The parent-death signal fires when the *thread* that forked the child
ends, not the process: all children are therefore forked by one thread that never ends.
"""

import atexit
import contextlib
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import BinaryIO

from cronexec.dev import tether
from cronexec.dev.errors import ServerStartError

PROBE_INTERVAL = timedelta(milliseconds=25)
LOG_TAIL_BYTES = 4000
LOG_TAIL_LINES = 15
LOOPBACK = "127.0.0.1"
PORTS = range(
    20_000, 32_000
)  # below the ephemeral range, from which an outgoing connection could take the port meanwhile
MOST_RESERVED = 100
_reserved: deque[socket.socket] = deque()


class ChildProcess:
    """One child process; it can be started again after it has ended.

    `command` runs in directory `cwd` with exactly the environment `env` (ours if None). What it prints is
    appended to `log`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = env
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._log_from = 0

    @property
    def pid(self) -> int | None:
        """The process id since the last start, also after the process has ended."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or was never started); negative: the signal that ended it."""
        return self._process.returncode if self._process and self._ends_within(timedelta()) else None

    @property
    def running(self) -> bool:
        return not self._ends_within(timedelta())

    def start(self) -> None:
        """Start the process without waiting for anything; does nothing when it runs already.

        Raises ServerStartError when the command cannot be executed.
        """
        if self.running:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_from = log.tell()
            try:
                self._process = _spawner(os.getpid()).spawn(
                    self.command, stdout=log, env=self._env, cwd=self._cwd
                )
            except OSError as error:
                raise ServerStartError(f"{self.name} could not be started: {error}") from error
        self._owner = os.getpid()
        atexit.register(self.kill)

    def wait_until(self, ready: Callable[[], bool], *, timeout: timedelta) -> None:
        """Return as soon as `ready()` is true.

        Raises ServerStartError, after killing the process, when it has not become so within `timeout` or the
        process has ended.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while not ready():
            if not self._ends_within(PROBE_INTERVAL) and time.monotonic() < deadline:
                continue
            code = self.exit_code
            fate = (
                f"not ready after {timeout.total_seconds():g} s"
                if code is None
                else f"ended with exit code {code}"
            )
            self.kill()
            raise ServerStartError(f"{self.name}: {fate}; the end of {self.log}:\n{self.log_tail()}")

    def stop(self, *, timeout: timedelta = timedelta(seconds=15)) -> None:
        """Ask the process to stop (SIGTERM), and kill its group if it has not within `timeout`.

        Does nothing when it is not running.
        """
        if self.running and self._process:
            self._process.terminate()
            self._ends_within(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill the process and its group at once (SIGKILL) and wait until they are gone."""
        if self._owner != os.getpid():  # a forked copy of us is not the owner
            return
        if self._process and self.running:
            _kill_group(self._process.pid)
            self._process.wait()
        atexit.unregister(self.kill)

    def log_tail(self) -> str:
        """Return the last lines that the process wrote since it was started."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_from, size - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:]) or "(nothing was written)"

    def _ends_within(self, timeout: timedelta) -> bool:
        """Wait for the end; what the process leaves behind is killed as soon as its end is seen.

        Later its number might be that of another group.
        """
        if self._process is None or self._process.returncode is not None:
            return True
        try:
            self._process.wait(timeout.total_seconds())
        except subprocess.TimeoutExpired:
            return False
        _kill_group(self._process.pid)
        return True


def free_port() -> int:
    """Return a loopback port that nothing listens on, and that nobody else was given by this a moment ago."""
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            _reserve(port)
            return port


def _reserve(port: int) -> None:
    """Keep a port from others who look for one until a server listens on it, which may take many seconds.

    The mark is an abstract socket, which only Linux has: it is seen where the port is, and ends with us.
    Raises OSError when the port is another's already.
    """
    if sys.platform != "linux":
        return
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0cronexec-port-{port}")
    except OSError:
        mark.close()
        raise
    if len(_reserved) == MOST_RESERVED:
        _reserved.popleft().close()
    _reserved.append(mark)


@atexit.register
def _give_up_reserved() -> None:
    while _reserved:
        _reserved.popleft().close()


def free_ports(count: int) -> list[int]:
    """Return that many different ones."""
    ports: list[int] = []
    while len(ports) < count:
        if (port := free_port()) not in ports:
            ports.append(port)
    return ports


def accepts_connections(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def _kill_group(group: int) -> None:
    """SIGKILL a process group; one that is gone already is fine (macOS refuses to signal zombies)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


class _Spawner:
    """A thread that forks every child and lives as long as this process does."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[
            tuple[Future[subprocess.Popen[bytes]], Callable[[], subprocess.Popen[bytes]]]
        ]
        self._requests = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="cronexec-spawner", daemon=True).start()

    def spawn(
        self, command: Sequence[str], *, stdout: BinaryIO, env: Mapping[str, str] | None, cwd: Path | None
    ) -> subprocess.Popen[bytes]:
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command]
        answer: Future[subprocess.Popen[bytes]] = Future()
        self._requests.put((answer, lambda: _popen(tethered, stdout, env, cwd)))
        return answer.result()

    def _serve(self) -> None:
        while True:
            answer, popen = self._requests.get()
            try:
                answer.set_result(popen())
            except Exception as error:  # noqa: BLE001  handed to the caller, who raises it
                answer.set_exception(error)


def _popen(
    command: Sequence[str], stdout: BinaryIO, env: Mapping[str, str] | None, cwd: Path | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


@cache
def _spawner(process: int) -> _Spawner:  # noqa: ARG001  one for each process: a thread does not survive a fork
    return _Spawner()
