"""The process between an instance and its shell commands: it starts them and ends what a dead instance left.

A program of its own, run as `python -I -S shell_supervisor.py SOCKET_FD INSTANCE_PID`; it imports nothing of
cronexec. One for each instance, started with its first command and kept: starting a Python for each command
would cost tens of milliseconds of CPU.

Why a process: a killed instance (-9) can end nothing any more, and Linux's parent-death signal cannot stand
in for it. It goes to the direct child only (not to what `/bin/sh` starts), and fires when the *thread* that
forked ends. Here the end of the instance is the end of file on the socket, which no way of dying can avoid; a
copy of the socket in a forked child of the instance would hide it, so the parent's id is looked at once a
second as well.

Why one thread and fork: `preexec_fn` is safe only in a process without threads, and the parent-death signal
wants a thread that lives as long as the process. It is the second line here: killed itself (-9), the
supervisor takes its `/bin/sh`s along, and the instance, which knows the process groups, kills the rest.

Frames in both directions are a length (4 bytes, big endian) and JSON. From the instance:
`{"op": "start", "id", "command", "env", "cwd", "kill_after"}`, with the file descriptor that becomes stdout
and stderr beside it, and `{"op": "stop", "id", "after"}`. To the instance: `{"id", "pid"}`, then
`{"id", "code"}` (negative: a signal); or `{"id", "error"}`.

What a command leaves running in the background when it ends is left running, as under cron, but not longer
than the instance. The supervisor is a subreaper, so that such processes leave no zombies in a container
without an init.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
LENGTH = struct.Struct(">I")
LOOK_INTERVAL = 1.0  # seconds: for the instance's life and for groups that have emptied
_MOST_FDS = 64
_READ_BYTES = 1 << 16


class Group:
    """One command with everything it started, as far as that stayed in its process group.

    `kill_at`: monotonic seconds.
    """

    def __init__(self, number: int, process: "subprocess.Popen[bytes]", kill_after: float) -> None:
        self.number = number
        self.process = process
        self.kill_after = kill_after
        self.kill_at: float | None = None
        self.exited = False

    def signal(self, number: int) -> bool:
        """Return whether there was anybody to get it (macOS refuses where there are only zombies)."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def stop(self, after: float) -> None:
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # one that is stopped would not notice
        kill_at = time.monotonic() + after
        self.kill_at = kill_at if self.kill_at is None else min(kill_at, self.kill_at)


class Supervisor:
    """The loop over the instance's socket and the ends of children.

    `tie` runs in each child before its command.
    """

    def __init__(self, link: socket.socket, instance: int, tie: Callable[[], None] | None) -> None:
        self._link = link
        self._instance = instance
        self._tie = tie
        self._groups: dict[int, Group] = {}
        self._received = bytearray()
        self._fds: list[int] = []
        self._gone = False

    def run(self) -> None:
        wakeup = _wake_on_child_exit()
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(wakeup, select.POLLIN)
        while self._groups or not self._gone:
            for fd, _ in poll.poll(self._patience() * 1000):
                if fd == wakeup:
                    os.read(wakeup, 4096)
                elif not self._receive():
                    poll.unregister(self._link)
                    self._end()
            self._reap()
            self._look()

    def _patience(self) -> float:
        deadlines = [group.kill_at for group in self._groups.values() if group.kill_at is not None]
        return (
            max(0.0, min([LOOK_INTERVAL, *(deadline - time.monotonic() for deadline in deadlines)])) + 0.001
        )

    def _receive(self) -> bool:
        """Take what the instance sent. False: it is gone, or nobody could understand it any more."""
        try:
            data, fds, _, _ = socket.recv_fds(self._link, _READ_BYTES, _MOST_FDS)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._received += data
        self._fds += fds
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                break
            frame = json.loads(self._received[LENGTH.size : end])
            del self._received[:end]
            self._obey(frame)
        return bool(data)

    def _obey(self, frame: dict[str, Any]) -> None:
        if frame["op"] == "start":
            self._start(frame, self._fds.pop(0))
            return
        for group in self._groups.values():
            if group.number == frame["id"]:
                group.stop(frame["after"])

    def _start(self, frame: dict[str, Any], output: int) -> None:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", frame["command"]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=frame["env"],
                cwd=frame["cwd"],
                start_new_session=True,
                preexec_fn=self._tie,  # noqa: PLW1509  this process has one thread
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._tell({"id": frame["id"], "error": str(error)})
            return
        finally:
            os.close(output)
        self._groups[process.pid] = Group(frame["id"], process, frame["kill_after"])
        self._tell({"id": frame["id"], "pid": process.pid})

    def _reap(self) -> None:
        """Take note of every child that has ended, orphans that were passed on to us included."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                group = self._groups.get(pid)
                if group is not None and not group.exited:
                    group.exited = True
                    group.process.returncode = os.waitstatus_to_exitcode(status)
                    self._tell({"id": group.number, "code": group.process.returncode})

    def _look(self) -> None:
        """Kill what has had its time, forget groups that are empty, and notice that the instance is gone."""
        now = time.monotonic()
        for pid, group in list(self._groups.items()):
            overdue = group.kill_at is not None and group.kill_at <= now
            alive = group.signal(signal.SIGKILL if overdue else 0)
            if group.exited and (overdue or not alive):
                del self._groups[pid]
        if not self._gone and os.getppid() != self._instance:
            self._end()

    def _end(self) -> None:
        self._gone = True
        for group in self._groups.values():
            group.stop(group.kill_after)

    def _tell(self, frame: dict[str, Any]) -> None:
        body = json.dumps(frame).encode()
        with contextlib.suppress(OSError):  # it is gone: reading tells us
            self._link.sendall(LENGTH.pack(len(body)) + body)


def _wake_on_child_exit() -> int:
    """Return a file descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _notice)
    return reader


def _outlive_signals() -> None:
    """Stay when a whole process group or service is asked to end: only the instance decides.

    A handler, not SIG_IGN, which the commands would inherit.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _notice)


def _notice(_number: int, _frame: object) -> None:
    pass


def _parent_death_signal() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # it died before the signal was asked for
            os._exit(1)

    return tie


def main() -> None:
    _outlive_signals()
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    Supervisor(link, int(sys.argv[2]), _parent_death_signal()).run()


if __name__ == "__main__":
    main()
