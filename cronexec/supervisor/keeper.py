"""A keeper: the process that stays with one command until nothing is left of it."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

from cronexec.supervisor.frames import Frame, Frames, packed
from cronexec.supervisor.process import wake_on_child_exit
from cronexec.supervisor.tree import LINUX, descendants, has_left, kill_all, signal_group, signal_process

LOOK_INTERVAL = 1.0  # seconds, for groups that have emptied, where nobody tells us
KILL_INTERVAL = 0.05  # seconds until what was killed and is not gone is killed again; doubled each time
LONGEST_WAIT = 86_400.0  # seconds; poll takes no more than 24 days at a time
READ_BYTES = 1 << 16


class Keeper:
    """One command with everything it started. This runs in the keeper's own process.

    `pid`: of the command, which leads a process group. `kill_at`: monotonic seconds.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._frames = Frames()
        self.pid = 0
        self._exited = False
        self._has_children = True
        self._kill_at: float | None = None
        self._pause = KILL_INTERVAL

    def run(self, start: Callable[[], Any]) -> None:
        """Start the command, and stay until nothing of it is left."""
        try:
            wakeup = wake_on_child_exit()
            process = start()  # kept: what goes out of scope while it runs would be waited for
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._tell({"error": str(error)})
            return
        self.pid = process.pid
        self._tell({"pid": self.pid})
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(wakeup, select.POLLIN)
        while not self._is_over():
            for fd, _ in poll.poll(self._patience()):
                if fd == wakeup:
                    os.read(wakeup, 4096)
                elif not self._obey():
                    poll.unregister(self._link)
                    self.stop(0)
            self._reap()
            if self._kill_at is not None and self._kill_at <= time.monotonic():
                self._kill()
        self._tell({"gone": True})

    def stop(self, after: float) -> None:
        """SIGTERM to all now, SIGKILL to what is left `after` seconds."""
        kill_at = time.monotonic() + after
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)
        if after > 0:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # one that is stopped would not notice

    def _obey(self) -> bool:
        """Take what the supervisor sent. False: it is gone."""
        try:
            data = self._link.recv(READ_BYTES)
        except OSError:  # reset: it ended before it had read what we told
            data = b""
        for frame in self._frames.take(data):
            self.stop(frame["after"])
        return bool(data)

    def _patience(self) -> float | None:
        """Return for how many milliseconds there is nothing to do; None: until something happens."""
        if self._kill_at is not None:
            return min(max(0.0, self._kill_at - time.monotonic()), LONGEST_WAIT) * 1000 + 1
        return None if LINUX else LOOK_INTERVAL * 1000

    def _reap(self) -> None:
        """Take note of every child that has ended, orphans that were passed on to us included."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.pid:
                    self._exited = True
                    self._tell({"code": os.waitstatus_to_exitcode(status)})
        except ChildProcessError:
            self._has_children = False

    def _is_over(self) -> bool:
        if not self._exited or self._has_children:
            return False
        return LINUX or not signal_group(self.pid, 0)

    def _signal(self, number: int) -> None:
        """Signal the group, all at once, and everybody who has left it, or may just be about to lead it."""
        may_have_group = not self._exited or not LINUX  # afterwards its number may be another's
        reached = may_have_group and signal_group(self.pid, number)
        for pid in descendants(os.getpid()):
            if not reached or has_left(pid, self.pid):
                signal_process(pid, number)

    def _kill(self) -> None:
        if LINUX:
            kill_all(lambda: descendants(os.getpid()))
        else:
            signal_group(self.pid, signal.SIGKILL)
        self._kill_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LOOK_INTERVAL)

    def _tell(self, frame: Frame) -> None:
        with contextlib.suppress(OSError):  # it is gone: reading tells us
            self._link.sendall(packed(frame))
