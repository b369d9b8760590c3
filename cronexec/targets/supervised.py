"""The engine's side of a supervisor (see `cronexec.supervisor`, which says why there is one).

What a command prints does not pass through the supervisor: each command has a pipe of its own, read here, and
a slow reader slows only the command that writes. One callback reads at most 64 KiB, and a command that never
stops printing is read in portions with pauses, so that it holds neither the loop nor a core.

When the supervisor is lost (killed), its commands are lost with it: their process groups are killed from
here, too, and who waits for them gets `SupervisorLostError`. The next command starts a new one.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from cronexec import supervisor
from cronexec.errors import CronexecError
from cronexec.ports import OutputSink
from cronexec.supervisor.frames import Frame, Frames, packed

READ_BYTES = 64 * 1024
LOOK_INTERVAL = 0.02  # seconds
PORTION_BYTES = 1024 * 1024
PAUSE = 0.005  # seconds
PROGRAM = "import sys; sys.path.append(sys.argv[3]); from cronexec.supervisor.commands import main; main()"


_HOME = str(Path(supervisor.__file__).parents[2])


class ShellStartError(CronexecError):
    """A command could not be started: no such directory, too long, too many processes."""


class SupervisorLostError(CronexecError):
    """The supervisor ended, and the commands with it; it is not known what they had done."""


class OutputPipe:
    """The reading end of a command's stdout and stderr.

    `ended` resolves when nobody holds the other end any more.
    """

    def __init__(self, sink: OutputSink) -> None:
        self._loop = asyncio.get_running_loop()
        self._sink: OutputSink | None = sink
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._portion = 0
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._reader, self._read)

    def discard(self) -> None:
        """From now on read only so that a process left in the background can go on printing."""
        self._sink = None

    def close(self) -> None:
        if not self.ended.done():
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self.ended.set_result(None)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        if self._sink is not None:
            self._sink.write(data)
        self._portion += len(data)
        if self._portion >= PORTION_BYTES:
            self._portion = 0
            self._loop.remove_reader(self._reader)
            self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if not self.ended.done():
            self._loop.add_reader(self._reader, self._read)


class ShellProcess:
    """One command.

    `exited` resolves to its exit code (negative: a signal), or to the error that it has none for; `gone` when
    nothing of what it started is left.
    """

    def __init__(self, supervisor: "ShellSupervisor", number: int, pipe: OutputPipe) -> None:
        self._supervisor = supervisor
        self.number = number
        self.pipe = pipe
        self.pid: int | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self, after: float) -> None:
        """SIGTERM to all that it started now, SIGKILL to what is left `after` seconds; 0: SIGKILL at once."""
        self._supervisor.send({"op": "stop", "id": self.number, "after": after})

    def take(self, frame: Mapping[str, Any]) -> bool:
        """Take a report. Returns whether it was the last one."""
        if "pid" in frame:
            self.pid = frame["pid"]
        elif "code" in frame:
            self.exited.set_result(frame["code"])
        elif "error" in frame:
            self.fail(ShellStartError(f"the command could not be started: {frame['error']}"))
        else:
            self.gone.set_result(None)
        return self.gone.done()

    def fail(self, error: CronexecError) -> None:
        if not self.exited.done():
            self.exited.set_exception(error)
            self.exited.exception()  # nobody may be waiting any more
        self.gone.set_result(None)

    def kill_group(self) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class ShellSupervisor:
    """A running supervisor process, made on the engine's loop within a few milliseconds.

    `python`: the interpreter to run it with. Raises OSError when it cannot be started.
    """

    def __init__(self, python: str = sys.executable) -> None:
        self._loop = asyncio.get_running_loop()
        self._processes: dict[int, ShellProcess] = {}
        self._numbers = count(1)
        self._outgoing: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._frames = Frames()
        self.lost = False
        self._link, self._process = _spawn(python)
        self._loop.add_reader(self._link, self._receive)

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(
        self, command: str, *, env: Mapping[str, str], cwd: str | None, kill_after: float, sink: OutputSink
    ) -> ShellProcess:
        """Start a command.

        `kill_after`: seconds from SIGTERM to SIGKILL when this instance is gone. Raises OSError (no
        descriptors).
        """
        pipe = OutputPipe(sink)
        process = ShellProcess(self, next(self._numbers), pipe)
        self._processes[process.number] = process
        frame = {"op": "start", "id": process.number, "command": command, "env": dict(env), "cwd": cwd}
        self.send({**frame, "kill_after": kill_after}, pipe.writer)
        return process

    def send(self, frame: Frame, *fds: int) -> None:
        """Send a frame and, with it, file descriptors, which are closed here."""
        self._outgoing.append((packed(frame), fds))
        self._flush()

    async def close(self, patience: float) -> None:
        """Let the supervisor end everything it runs, and itself.

        What takes longer than `patience` seconds it ends without us.
        """
        self._disconnect("the instance is stopping")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                # Looked at, not waited for: that takes a thread, and an interpreter that exits gives none.
                while self._process.poll() is None:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_INTERVAL)

    def _flush(self) -> None:
        while self._outgoing and not self.lost:
            data, fds = self._outgoing[0]
            try:
                sent = socket.send_fds(self._link, [data], fds) if fds else self._link.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._link, self._flush)
                return
            except OSError as error:
                self._lose(str(error))
                return
            _close_all(fds)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], ())
            else:
                self._outgoing.popleft()
        if not self.lost:
            self._loop.remove_writer(self._link)

    def _receive(self) -> None:
        try:
            data = self._link.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("it was killed, or failed")
            return
        for frame in self._frames.take(data):
            self._take(frame)

    def _take(self, frame: Mapping[str, Any]) -> None:
        process = self._processes.get(frame["id"])
        if process is not None and process.take(frame):
            del self._processes[frame["id"]]

    def _lose(self, why: str) -> None:
        for process in self._disconnect(why):
            process.kill_group()
        self._process.kill()  # its socket is closed, so it has ended or is just about to
        self._process.wait()

    def _disconnect(self, why: str) -> list[ShellProcess]:
        """Give up the supervisor, and return the commands that it was running."""
        if self.lost:
            return []
        self.lost = True
        self._loop.remove_reader(self._link)
        self._loop.remove_writer(self._link)
        self._link.close()
        for _, fds in self._outgoing:
            _close_all(fds)
        processes = list(self._processes.values())
        self._processes.clear()
        for process in processes:
            process.fail(SupervisorLostError(f"the shell supervisor of this instance is gone ({why})"))
        return processes


def _spawn(python: str) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Start the supervisor in a session of its own: a Ctrl-C in the terminal is the instance's business."""
    ours, theirs = socket.socketpair()
    link = theirs.fileno()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603  of our own program
                [python, "-I", "-S", "-c", PROGRAM, str(link), str(os.getpid()), _HOME],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(link,),
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)
    return ours, process


def _close_all(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
