"""The supervisor of shell commands, a program: `… HOME SOCKET_FD INSTANCE_PID`."""

import socket
import subprocess
import sys

from cronexec.supervisor.frames import Frame
from cronexec.supervisor.process import outlive_signals, tie_to_parent
from cronexec.supervisor.supervisor import Supervisor


def start_command(frame: Frame, output: int) -> "subprocess.Popen[bytes]":
    """Start a shell with a session of its own, in a keeper."""
    return subprocess.Popen(  # noqa: S603  running commands is what it is for
        ["/bin/sh", "-c", frame["command"]],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=frame["env"],
        cwd=frame["cwd"],
        start_new_session=True,
        preexec_fn=tie_to_parent(),  # noqa: PLW1509  this process has one thread
    )


def main() -> None:
    outlive_signals()
    link = socket.socket(fileno=int(sys.argv[2]))
    link.set_inheritable(False)
    Supervisor(link, int(sys.argv[3]), start_command).run()
