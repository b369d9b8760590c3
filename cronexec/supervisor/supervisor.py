"""The supervisor's loop: the instance on one side, the keepers on the other."""

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

from cronexec.supervisor.frames import Frame, Frames, packed
from cronexec.supervisor.keeper import Keeper
from cronexec.supervisor.process import become_subreaper, wake_on_child_exit
from cronexec.supervisor.tree import descendants, kill_all, signal_process

LOOK_INTERVAL = 1.0  # seconds, for the instance's life
MOST_FDS = 64
NO_FD = -1  # one was sent, and this process has no room for it
READ_BYTES = 1 << 16

Start = Callable[[Frame, int], Any]


class Kept:
    """A keeper, as the supervisor sees it."""

    def __init__(self, number: int, pid: int, link: socket.socket, kill_after: float) -> None:
        self.number = number
        self.pid = pid
        self.link = link
        self.kill_after = kill_after
        self.last: Frame = {}
        self._frames = Frames()

    def stop(self, after: float) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.link.sendall(packed({"after": after}))
        signal_process(self.pid, signal.SIGCONT)  # its command may have made it stand still

    def receive(self) -> Iterator[Frame]:
        """Yield what the keeper tells, as far as it has."""
        while True:
            try:
                data = self.link.recv(READ_BYTES, socket.MSG_DONTWAIT)
            except OSError:
                return
            if not data:
                return
            for frame in self._frames.take(data):
                self.last = {"id": self.number, **frame}
                yield self.last


class Supervisor:
    """The loop over the instance's socket, the keepers' and the ends of children.

    `start` runs in a keeper, with the frame and the descriptor that came with it; it returns something with
    a `pid`, and raises OSError, ValueError or SubprocessError.
    """

    def __init__(self, link: socket.socket, instance: int, start: Start) -> None:
        self._link = link
        self._instance = instance
        self._start = start
        self._frames = Frames()
        self._fds: list[int] = []
        self._kept: dict[int, Kept] = {}  # by the descriptor of the keeper's link
        self._poll = select.poll()
        self._gone = False

    def run(self) -> None:
        become_subreaper()
        wakeup = wake_on_child_exit()
        self._poll.register(self._link, select.POLLIN)
        self._poll.register(wakeup, select.POLLIN)
        while self._kept or not self._gone:
            for fd, _ in self._poll.poll(LOOK_INTERVAL * 1000):
                if fd == wakeup:
                    os.read(wakeup, 4096)
                elif kept := self._kept.get(fd):
                    self._pass_on(kept)
                elif not self._receive():
                    self._poll.unregister(self._link)
                    self._end()
            self._reap()
            if not self._gone and os.getppid() != self._instance:
                self._end()

    def _receive(self) -> bool:
        """Take what the instance sent. False: it is gone, or nobody could understand it any more."""
        try:
            data, fds, flags, _ = socket.recv_fds(self._link, READ_BYTES, MOST_FDS)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._fds += fds or ([NO_FD] if flags & socket.MSG_CTRUNC else [])
        for frame in self._frames.take(data):
            if frame["op"] == "start":
                self._keep(frame, self._fds.pop(0))
            else:
                for kept in self._kept.values():
                    if kept.number == frame["id"]:
                        kept.stop(frame["after"])
        return bool(data)

    def _keep(self, frame: Frame, fd: int) -> None:
        """Have a keeper start what the frame says, or tell why there is none: others must not suffer."""
        if fd == NO_FD:
            self._tell({"id": frame["id"], "error": os.strerror(errno.EMFILE)})
            return
        try:
            self._fork(frame, fd)
        except OSError as error:
            self._tell({"id": frame["id"], "error": str(error)})
        finally:
            os.close(fd)

    def _fork(self, frame: Frame, fd: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                ours.close()
                self._become_keeper(frame, fd, theirs)
        kept = Kept(frame["id"], pid, ours, frame["kill_after"])
        self._kept[ours.fileno()] = kept
        self._poll.register(ours, select.POLLIN)

    def _become_keeper(self, frame: Frame, fd: int, link: socket.socket) -> None:
        """Do a keeper's work, and exit. What is others' is closed first: its end must be noticed."""
        try:
            self._link.close()
            for kept in self._kept.values():
                kept.link.close()
            for other in set(self._fds) - {NO_FD}:
                os.close(other)
            become_subreaper()
            Keeper(link).run(lambda: self._start_with(frame, fd))
        finally:
            os._exit(0)

    def _start_with(self, frame: Frame, fd: int) -> Any:
        """Start what the keeper keeps; only that holds its descriptor from then on."""
        try:
            return self._start(frame, fd)
        finally:
            os.close(fd)

    def _pass_on(self, kept: Kept) -> None:
        for frame in kept.receive():
            self._tell(frame)

    def _reap(self) -> None:
        """Take note of keepers that have ended; of orphans that came to us, there is nothing to say."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                for kept in list(self._kept.values()):
                    if kept.pid == pid:
                        self._forget(kept)

    def _forget(self, kept: Kept) -> None:
        self._pass_on(kept)
        fd = kept.link.fileno()
        self._poll.unregister(fd)
        del self._kept[fd]
        kept.link.close()
        if not kept.last.keys() & {"gone", "error"}:  # it was killed, and what it kept is ours now
            kill_all(self._strays)
            if "code" not in kept.last:
                self._tell({"id": kept.number, "code": -signal.SIGKILL})
            self._tell({"id": kept.number, "gone": True})

    def _strays(self) -> Iterator[int]:
        return descendants(os.getpid(), without={kept.pid for kept in self._kept.values()})

    def _end(self) -> None:
        self._gone = True
        for kept in self._kept.values():
            kept.stop(kept.kill_after)

    def _tell(self, frame: Frame) -> None:
        with contextlib.suppress(OSError):  # it is gone: reading tells us
            self._link.sendall(packed(frame))
