"""Where handlers with `isolation: process` run: a process for each, which can be ended whatever it does.

Workers (`handler_worker`) are kept for `IDLE_FOR` after a run and used again, up to `MOST_RUNS` times. One
that dies takes only its run along, which fails with the exit code. One whose run is cancelled is never used
again: it gets SIGTERM, and SIGKILL after `kill_after`, with all that it has started; so does every worker
when its instance is gone.
"""

import asyncio
import contextlib
import json
import multiprocessing.spawn
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog

from cronexec.domain.run import Outcome, RunState
from cronexec.ports import Execution
from cronexec.supervisor.frames import Frame, Frames, packed
from cronexec.targets.handler_functions import Reference
from cronexec.targets.output_pipe import OutputPipe, OutputPipes
from cronexec.targets.supervised import (
    StartError,
    SupervisedProcess,
    SupervisorClient,
    SupervisorLostError,
)

IDLE_FOR = 60.0  # seconds
MOST_RUNS = 100
CLOSE_TIMEOUT = 15.0
READ_BYTES = 8 * 1024
PAUSE = 0.005  # seconds between two reads of one that never stops logging
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']; "
    "from cronexec.targets.handler_worker import main; main()"
)
_LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})


class WorkerProcess:
    """A worker, as the engine sees it."""

    def __init__(self, link: socket.socket, process: SupervisedProcess, kill_after: float) -> None:
        self.process = process
        self.kill_after = kill_after
        self.runs = 0
        self.retiring: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._frames = Frames()
        self._execution: Execution | None = None
        self._log: Any = None
        self._end: asyncio.Future[Frame | None] = self._loop.create_future()
        self._loop.add_reader(link, self._receive)
        process.exited.add_done_callback(lambda _: self._exited())

    async def perform(self, call: Frame, output: int, execution: Execution) -> Frame | None:
        """Return how the call ended; None when the process did."""
        self.runs += 1
        self._execution = execution
        self._log = _log_of(execution)
        self._end = self._loop.create_future()
        data = packed(call)
        try:
            sent = socket.send_fds(self._link, [data], [output])
            if sent < len(data):
                await self._loop.sock_sendall(self._link, data[sent:])
        except OSError:  # it has ended; what it ended with is on its way
            await asyncio.wait({self.process.exited})
            return None
        return await self._end

    def close(self) -> None:
        """Let the process end: without a link it has nothing to do."""
        if self.retiring is not None:
            self.retiring.cancel()
        if self._link.fileno() >= 0:
            self._loop.remove_reader(self._link)
            self._link.close()

    def _receive(self) -> None:
        try:
            data = self._link.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._link)  # the process's end tells the rest
        elif len(data) == READ_BYTES:
            self._loop.remove_reader(self._link)
            self._loop.call_later(PAUSE, self._resume)
        for frame in self._frames.take(data):
            self._take(frame)

    def _resume(self) -> None:
        if self._link.fileno() >= 0:
            self._loop.add_reader(self._link, self._receive)

    def _take(self, frame: Frame) -> None:
        execution = self._execution
        if execution is None or self._end.done():
            return
        if "end" in frame:
            self._end.set_result(frame["end"])
        elif "progress" in frame:
            execution.report(*frame["progress"])
        else:
            self._print(frame["log"])

    def _print(self, event: Frame) -> None:
        level = event.pop("level")
        fields = {key: value for key, value in event.items() if key not in _IDENTITY}
        try:
            getattr(self._log, level if level in _LEVELS else "error")(event.get("event", ""), **fields)
        except Exception as error:  # noqa: BLE001  the application's processors; what comes after must be read
            self._loop.call_exception_handler({"message": "a run's event was not logged", "exception": error})

    def _exited(self) -> None:
        """Take what the process sent before it ended, and close."""
        if self._link.fileno() >= 0:
            with contextlib.suppress(OSError):
                while data := self._link.recv(READ_BYTES):
                    for frame in self._frames.take(data):
                        self._take(frame)
        self.close()
        if not self._end.done():
            self._end.set_result(None)


class HandlerProcesses:
    """Performs calls of handlers in processes. Made on the engine's loop."""

    def __init__(self) -> None:
        self._supervisor: SupervisorClient | None = None
        self._idle: list[WorkerProcess] = []
        self._pipes = OutputPipes()

    async def execute(
        self, name: str, reference: Reference, execution: Execution, *, asynchronous: bool
    ) -> Outcome:
        """Perform a call; as `ports.Target.execute`."""
        try:
            pipe = OutputPipe(execution.output)
            worker = self._take(execution, pipe)
        except OSError as error:
            return _failed(f"the handler's process could not be started: {error}")
        call = _call(name, reference, execution, asynchronous=asynchronous)
        try:
            end = await self._perform(worker, call, pipe, execution)
            await self._pipes.drain(pipe)
        except asyncio.CancelledError:
            await self._end(worker, pipe, execution)
            raise
        finally:
            self._pipes.leave(pipe)
        if end is None:
            return _of_exit(worker.process)
        self._keep(worker)
        return _of_end(end)

    async def close(self) -> None:
        for worker in self._idle:
            worker.close()
        self._idle.clear()
        self._pipes.close()
        if self._supervisor is not None:
            await self._supervisor.close(CLOSE_TIMEOUT)
            self._supervisor = None

    async def _perform(
        self, worker: WorkerProcess, call: Frame, pipe: OutputPipe, execution: Execution
    ) -> Frame | None:
        try:
            return await worker.perform(call, pipe.writer, execution)
        finally:
            os.close(pipe.writer)

    async def _end(self, worker: WorkerProcess, pipe: OutputPipe, execution: Execution) -> None:
        try:
            await worker.process.end(execution.target.kill_after.total_seconds())
            await self._pipes.drain(pipe)
        finally:
            if not worker.process.gone.done():
                execution.kept_until = worker.process.gone

    def _take(self, execution: Execution, pipe: OutputPipe) -> WorkerProcess:
        """Return a worker that has nothing to do. Raises OSError, and closes the pipe, when there is none."""
        kill_after = execution.target.kill_after.total_seconds()
        self._idle = [worker for worker in self._idle if not worker.process.exited.done()]
        for worker in reversed(self._idle):
            if worker.kill_after == kill_after:
                self._idle.remove(worker)
                if worker.retiring is not None:
                    worker.retiring.cancel()
                return worker
        try:
            return self._start(kill_after)
        except OSError:
            os.close(pipe.writer)
            pipe.close()
            raise

    def _start(self, kill_after: float) -> WorkerProcess:
        if self._supervisor is None or self._supervisor.lost:
            self._supervisor = SupervisorClient(_program())
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        process = self._supervisor.start({}, theirs.detach(), kill_after=kill_after)
        return WorkerProcess(ours, process, kill_after)

    def _keep(self, worker: WorkerProcess) -> None:
        if worker.runs >= MOST_RUNS or worker.process.exited.done():
            worker.close()
            return
        self._idle.append(worker)
        worker.retiring = asyncio.get_running_loop().call_later(IDLE_FOR, self._retire, worker)

    def _retire(self, worker: WorkerProcess) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        worker.close()


def _program() -> list[str]:
    """Return the command of the workers' supervisor: a Python that imports as this one does."""
    python = os.fsdecode(multiprocessing.spawn.get_executable() or sys.executable)
    entries: list[object] = list(sys.path)
    path = [each for each in entries if isinstance(each, str)]  # what else is in it, imports pass over
    return [python, "-c", PROGRAM, json.dumps({"path": path, "argv": sys.argv})]


def _call(name: str, reference: Reference, execution: Execution, *, asynchronous: bool) -> Frame:
    run = execution.run
    entry = {
        "id": run.id,
        "job": run.job,
        "version": run.version,
        "slot": run.slot.isoformat(),
        "epoch": run.epoch,
        "cause": run.cause.value,
        "attempt": run.attempt,
    }
    return {
        "name": name,
        "function": asdict(reference),
        "asynchronous": asynchronous,
        "run": entry,
        "params": dict(execution.params),
    }


_IDENTITY = frozenset({"job", "slot", "run_id", "attempt", "event"})


def _log_of(execution: Execution) -> Any:
    run = execution.run
    return structlog.wrap_logger(
        None,
        logger_factory_args=("cronexec.run",),
        job=run.job,
        slot=run.slot.isoformat(),
        run_id=run.id,
        attempt=run.attempt,
    )


def _of_end(end: Mapping[str, Any]) -> Outcome:
    if end["error"] is None:
        return Outcome(state=RunState.SUCCEEDED)
    return Outcome(state=RunState.FAILED, error=end["error"], exceptions=tuple(end["exceptions"]))


def _of_exit(process: SupervisedProcess) -> Outcome:
    """Return the outcome of a run whose process ended before it did."""
    try:
        code = process.exited.result()
    except StartError as error:
        return _failed(f"the handler's process could not be started: {error}")
    except SupervisorLostError as error:
        return _failed(f"{error}; the handler was killed", reason="supervisor_lost")
    if code >= 0:
        return _failed(f"the handler's process ended with exit code {code}", exit_code=code)
    hint = ", perhaps for lack of memory" if code == -signal.SIGKILL else ""
    return _failed(f"the handler's process was ended by {_signal_name(-code)}{hint}", exit_code=code)


def _failed(error: str, *, reason: str | None = None, exit_code: int | None = None) -> Outcome:
    return Outcome(state=RunState.FAILED, error=error, reason=reason, exit_code=exit_code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
