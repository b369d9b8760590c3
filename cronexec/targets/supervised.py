"""The engine's side of a supervisor (see `cronexec.supervisor`, which says why there is one).

When the supervisor is lost (killed), its processes are lost with it: their groups are killed from here, too,
and who waits for them gets `SupervisorLostError`. Whoever wants the next one started makes a new one.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from cronexec.errors import CronexecError
from cronexec.supervisor.frames import Frame, Frames, packed

READ_BYTES = 64 * 1024
LOOK_INTERVAL = 0.02  # seconds
UNKILLABLE_AFTER = 5.0  # seconds after SIGKILL in which a process should be gone


class StartError(CronexecError):
    """A process could not be started: no such directory, too long, too many processes."""


class SupervisorLostError(CronexecError):
    """The supervisor ended, and its processes with it; it is not known what they had done."""


class SupervisedProcess:
    """One process and what it starts.

    `exited` resolves to its exit code (negative: a signal), or to the error that it has none for; `gone` when
    nothing of what it started is left.
    """

    def __init__(self, supervisor: "SupervisorClient", number: int) -> None:
        self._supervisor = supervisor
        self.number = number
        self.pid: int | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self, after: float) -> None:
        """SIGTERM to all that it started now, SIGKILL to what is left `after` seconds; 0: SIGKILL at once."""
        self._supervisor.send({"op": "stop", "id": self.number, "after": after})

    async def end(self, after: float) -> None:
        """Stop it and wait until it is gone, or cannot be killed. Cancelled once more, kill at once."""
        self.stop(after)
        try:
            await asyncio.wait({self.gone}, timeout=after + UNKILLABLE_AFTER)
        except asyncio.CancelledError:
            self.stop(0)
            raise

    def take(self, frame: Mapping[str, Any]) -> bool:
        """Take a report. Returns whether it was the last one."""
        if "pid" in frame:
            self.pid = frame["pid"]
        elif "code" in frame:
            self.pid = None  # it may be another's from now on
            self.exited.set_result(frame["code"])
        elif "error" in frame:
            self.fail(StartError(frame["error"]))
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


class SupervisorClient:
    """A running supervisor process, made on the engine's loop within a few milliseconds.

    `program`: the command that runs it; the descriptor of its socket and our process id are added. Raises
    OSError when it cannot be started.
    """

    def __init__(self, program: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._processes: dict[int, SupervisedProcess] = {}
        self._numbers = count(1)
        self._outgoing: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._frames = Frames()
        self.lost = False
        self._link, self._process = _spawn(program)
        self._loop.add_reader(self._link, self._receive)

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, what: Frame, fd: int, *, kill_after: float) -> SupervisedProcess:
        """Start a process; `fd` goes to it, and is closed here.

        `kill_after`: seconds from SIGTERM to SIGKILL when this instance is gone.
        """
        process = SupervisedProcess(self, next(self._numbers))
        self._processes[process.number] = process
        self.send({"op": "start", "id": process.number, "kill_after": kill_after, **what}, fd)
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

    def _disconnect(self, why: str) -> list[SupervisedProcess]:
        """Give up the supervisor, and return what it was running."""
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
            process.fail(SupervisorLostError(f"the supervisor of this instance is gone ({why})"))
        return processes


def _spawn(program: Sequence[str]) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Start the supervisor in a session of its own: a Ctrl-C in the terminal is the instance's business."""
    ours, theirs = socket.socketpair()
    link = theirs.fileno()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603  of our own program
                [*program, str(link), str(os.getpid())],
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
