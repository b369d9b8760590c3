"""The process that a handler with `isolation: process` runs in.

A supervisor (`cronexec.supervisor`) that has cronexec loaded, and nothing of the application, forks workers:
so a worker costs a fork and the import of the handler's module, and no process with threads is forked. A
worker performs one call after the other; the module is imported once. What the function prints, logs or
returns goes to the run's output through a pipe that came with the call; progress, log events and the end go
through the worker's socket.

SIGTERM (timeout, cancel, a dead instance) raises `Terminated` in the handler, wherever it is, so that its
`finally` blocks run; a handler that swallows it, or is in foreign code, is killed after `kill_after`. In a
worker `Cronexec.start()` does nothing: importing the application must not start another instance.
"""

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Any, ClassVar

import structlog

from cronexec.domain.run import Cause, Outcome, RunState
from cronexec.domain.run import Run as Entry
from cronexec.supervisor.frames import Frame, Frames, packed
from cronexec.supervisor.process import outlive_signals, tie_to_parent
from cronexec.supervisor.supervisor import Supervisor
from cronexec.targets.handler_functions import Reference, resolve, taking_run
from cronexec.targets.handler_outcome import failure, text_of_result
from cronexec.targets.handler_run import Run

REPORT_INTERVAL = 0.1  # seconds between two progress reports
READ_BYTES = 1 << 16
MOST_EVENT = 16 * 1024  # bytes of a log event as it is sent
MOST_NAME = 1000  # characters
_STDOUT, _STDERR = 1, 2
_DEFAULTS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)


class Terminated(SystemExit):
    """The run was cancelled or has timed out, or its instance is gone."""


class Printer:
    """Implements `ports.OutputSink`: prints in order with what the handler prints itself."""

    def write(self, data: bytes | str) -> None:
        left = data.encode(errors="replace") if isinstance(data, str) else data
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # the handler has closed or replaced it
            sys.stdout.flush()
        with contextlib.suppress(OSError):  # it has closed even the descriptor
            while left:
                left = left[os.write(_STDOUT, left) :]


class Worker:
    """Performs calls that come through `link`. `current`: the one that this process is, if it is one."""

    current: ClassVar["Worker | None"] = None

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._pid = os.getpid()
        self._frames = Frames()
        self._sending = threading.Lock()
        self._telling = threading.Lock()
        self._progress: tuple[float, float | None, str] | None = None
        self._has_progress = threading.Event()
        self._reporter: threading.Thread | None = None
        self._run: Run | None = None
        self._is_terminated = False

    def serve(self) -> None:
        """Perform calls until the instance closes the link, or SIGTERM."""
        Worker.current = self
        signal.signal(signal.SIGTERM, self._terminate)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        while not self._is_terminated:
            received = self._receive()
            if received is None:
                return
            frame, output = received
            with _printing_to(output):
                outcome = self._perform(frame)
            if os.getpid() != self._pid:  # the handler has forked, and let its child return to us
                os._exit(0 if outcome.error is None else 1)
            self._send_progress()
            self._send({"end": {"error": outcome.error, "exceptions": outcome.exceptions}})

    def _receive(self) -> tuple[Frame, int] | None:
        fds: list[int] = []
        while True:
            try:
                data, new_fds, _, _ = socket.recv_fds(self._link, READ_BYTES, 1)
            except OSError:  # reset: the instance ended before it had read what we told
                return None
            if not data:
                return None
            fds += new_fds
            for frame in self._frames.take(data):
                return frame, fds[0]

    def _perform(self, frame: Frame) -> Outcome:
        printer = Printer()
        self._run = Run(
            _entry(frame["run"]),
            frame["params"],
            report=self._report,
            output=printer,
            processors=[structlog.processors.format_exc_info, self._log],
        )
        try:
            result = self._call(frame, self._run)
            printer.write(text_of_result(result))
        except BaseException as error:  # noqa: BLE001  SystemExit too ends the run and not the worker
            outcome, text = failure(error)
            printer.write(text)
            return outcome
        return Outcome(state=RunState.SUCCEEDED)

    def _call(self, frame: Frame, run: Run) -> Any:
        function = taking_run(frame["name"], resolve(Reference(**frame["function"])))
        signal.signal(signal.SIGTERM, self._terminate)  # the module may have thought that it is the program
        if frame["asynchronous"]:
            return asyncio.run(function(run))
        return function(run)

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._is_terminated = True
        if self._run is not None:
            self._run.cancelled._is_set = True  # noqa: SLF001  not `_set`: its lock may be held right here
        raise Terminated("the run was cancelled or has timed out, or its instance is gone")

    def _log(self, _logger: Any, level: str, event: Any) -> Any:
        """Send an event to the application's log; of one without measure, its name. All is in the output."""
        if not self._send({"log": {**event, "level": level}}, at_most=MOST_EVENT):
            self._send({"log": {"event": str(event.get("event"))[:MOST_NAME], "level": level}})
        raise structlog.DropEvent

    def _report(self, done: float, total: float | None, message: str) -> None:
        self._progress = (done, total, message)
        if self._reporter is None:
            self._reporter = threading.Thread(target=self._send_reports, name="cronexec-reports", daemon=True)
            self._reporter.start()
        self._has_progress.set()

    def _send_reports(self) -> None:
        pause = threading.Event()
        while True:
            self._has_progress.wait()
            self._has_progress.clear()
            self._send_progress()
            pause.wait(REPORT_INTERVAL)

    def _send_progress(self) -> None:
        with self._telling:  # until it is sent: after the end of this run it would count for the next one
            latest, self._progress = self._progress, None
            if latest is not None:
                self._send({"progress": latest})

    def _send(self, frame: Frame, at_most: int | None = None) -> bool:
        """Send a frame, unless it has more bytes; what is no JSON in it is sent as text."""
        data = packed(json.loads(json.dumps(frame, default=str)))
        if at_most is not None and len(data) > at_most:
            return False
        with self._sending, contextlib.suppress(OSError):  # the instance is gone, and we follow
            self._link.sendall(data)
        return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Forked:
    """A process that was forked here."""

    pid: int


def start_worker(_frame: Frame, link: int) -> Forked:
    """Fork a worker, in a keeper; it never returns from here."""
    tie = tie_to_parent()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it waits until the worker can take it
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return Forked(pid=pid)
    try:
        os.setsid()
        tie()
        signal.set_wakeup_fd(-1)
        for number in _DEFAULTS:
            signal.signal(number, signal.SIG_DFL)
        os.closerange(_STDERR + 1, link)
        os.closerange(link + 1, link + 64)
        with contextlib.suppress(SystemExit):
            Worker(socket.socket(fileno=link)).serve()
        atexit._run_exitfuncs()  # noqa: SLF001  what the application registered: the interpreter's own is not reached
    finally:
        os._exit(0)


def main() -> None:
    """Run the supervisor of workers: `… {"path": …, "argv": …} SOCKET_FD INSTANCE_PID`."""
    given, link_fd, instance = sys.argv[1:]
    outlive_signals()
    sys.argv = json.loads(given)["argv"]
    link = socket.socket(fileno=int(link_fd))
    link.set_inheritable(False)
    Supervisor(link, int(instance), start_worker).run()


def _entry(fields: Frame) -> Entry:
    return Entry(
        id=fields["id"],
        job=fields["job"],
        version=fields["version"],
        slot=datetime.fromisoformat(fields["slot"]),
        state=RunState.RUNNING,
        epoch=fields["epoch"],
        cause=Cause(fields["cause"]),
        attempt=fields["attempt"],
    )


@contextlib.contextmanager
def _printing_to(output: int) -> Iterator[None]:
    """Have this process's stdout and stderr go to `output`, which is closed."""
    before = os.dup(_STDOUT), os.dup(_STDERR)
    _redirect(output, output)
    os.close(output)
    try:
        yield
    finally:
        _redirect(*before)
        for fd in before:
            os.close(fd)


def _redirect(stdout: int, stderr: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # the handler has closed or replaced it
            stream.flush()
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    os.dup2(stdout, _STDOUT)
    os.dup2(stderr, _STDERR)
