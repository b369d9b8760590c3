"""Replaces itself by a command that dies with the process that started it.

Run as a program, `tether.py PARENT_PID COMMAND [ARGUMENT...]`, between fork and the real command.
Linux keeps the parent-death signal across exec, so the command has it although it knows nothing of
it. This is a program and not a `preexec_fn`, because Python code between fork and exec can deadlock
in a process with threads. Elsewhere than on Linux it only runs the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(parent: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was asked for
        os._exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  no shell is the point
