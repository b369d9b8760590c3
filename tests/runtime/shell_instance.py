"""An instance of its own that runs one shell command, to be killed."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = """
import asyncio, os, sys
sys.path[:0] = {paths!r}
from datetime import timedelta
from target_runs import execution_of
from cronexec.domain.targets import ShellTarget as Document
from cronexec.targets.secrets import Secrets
from cronexec.targets.shell import ShellTarget

async def main():
    shell = ShellTarget(allowed=True, secrets=Secrets({{}}))
    command = {command!r}
    await shell.execute(execution_of(Document(command=command, kill_after=timedelta(seconds=0.5))))

asyncio.run(main())
"""


def program_of(command: str) -> str:
    """Return the program of an instance that runs this command."""
    return PROGRAM.format(paths=[str(HERE), str(HERE.parent)], command=command)


def start_instance(program: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
