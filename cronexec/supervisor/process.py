"""What a supervisor and its keepers ask of the system for themselves."""

import ctypes
import os
import signal
from collections.abc import Callable

from cronexec.supervisor.tree import LINUX

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def wake_on_child_exit() -> int:
    """Return a file descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if former >= 0:  # the supervisor's, in a keeper
        os.close(former)
    signal.signal(signal.SIGCHLD, _notice)
    return reader


def outlive_signals() -> None:
    """Stay when a whole process group or service is asked to end: only the instance decides.

    A handler, not SIG_IGN, which the commands would inherit. So they would what the thread that started us
    had blocked (one that waits for signals itself, as under uWSGI): no child's end would be noticed, and no
    command would ever get SIGTERM.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _notice)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _notice(_number: int, _frame: object) -> None:
    pass


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def become_subreaper() -> None:
    """Have orphans among our descendants become our children."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def tie_to_parent() -> Callable[[], None]:
    """Return what a child of this process calls, to be killed when this process ends."""
    parent = os.getpid()

    def tie() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the signal was asked for
            os._exit(1)

    return tie
