"""Shell commands: `/bin/sh -c COMMAND` in a session of its own, which dies with its instance.

Environment: PATH, HOME and LANG of the instance, the job's `env`, then the run's identity and the pipe for
its progress (`shell_progress`); nothing else, so neither the instance's URLs nor its secrets. stdin is empty;
stdout and stderr are the run's output. Values of `env` may have placeholders and secrets. The command itself
is the shell's: `{{ … }}` in it stays (it is what `docker --format` takes), and what a run is called it finds
in its environment, where no quoting can go wrong.
A `${secret:NAME}` in it becomes `${CRONEXEC_SECRET_NAME}`, and that variable is set: so the secret is not in
the list of processes, and is quoted like any other variable (and not expanded in single quotes).

A command has ended when the shell has. What it left in the background keeps running until the instance ends,
as under cron; its output is waited for one second and then discarded. When the run is cancelled, everything
that the command started gets SIGTERM, daemons too, and SIGKILL after `kill_after`; the run is over when all
of it is gone, so that the next one never finds some of it at work.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cronexec import supervisor
from cronexec.domain.run import Outcome, RunState
from cronexec.domain.template import TemplateError
from cronexec.ports import Execution
from cronexec.targets import identity
from cronexec.targets.output_pipe import OutputPipe, OutputPipes
from cronexec.targets.secrets import PREFIX, SecretError, Secrets
from cronexec.targets.shell_progress import ProgressPipes
from cronexec.targets.supervised import (
    StartError,
    SupervisedProcess,
    SupervisorClient,
    SupervisorLostError,
)
from cronexec.targets.template import Rendering

INHERITED = ("PATH", "HOME", "LANG")
CLOSE_TIMEOUT = 15.0
PROGRAM = "import sys; sys.path.append(sys.argv[1]); from cronexec.supervisor.commands import main; main()"

NOT_ALLOWED = "shell targets are not allowed on this instance: set CRONEXEC_ALLOW_SHELL=true"
_HINTS = {126: ": a command is not executable", 127: ": a command was not found"}
_HOME = str(Path(supervisor.__file__).parents[2])
_SECRET = re.compile(r"\$\{secret:([A-Za-z0-9_]+)\}")


class ShellTarget:
    """Executes shell commands.

    `environ`: the instance's variables, of which a command gets PATH, HOME and LANG.
    """

    def __init__(
        self,
        *,
        allowed: bool,
        secrets: Secrets,
        environ: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self._allowed = allowed
        self._secrets = secrets
        self._environ = os.environ if environ is None else environ
        self._python = python
        self._supervisor: SupervisorClient | None = None
        self._pipes = OutputPipes()
        self._progress = ProgressPipes()

    def unavailable(self, target: Any) -> str | None:  # noqa: ARG002  all alike
        return None if self._allowed else NOT_ALLOWED

    async def execute(self, execution: Execution) -> Outcome:
        rendering = Rendering(execution, self._secrets)
        if not self._allowed:
            return rendering.failed(NOT_ALLOWED)
        try:
            command, env = self._prepare(execution, rendering)
        except (TemplateError, SecretError) as error:
            return rendering.failed(str(error))
        sink = rendering.sink()
        try:
            with self._progress.open(rendering.report, sink.write) as progress:
                pipe = OutputPipe(sink)
                try:
                    process = self._start(command, env | progress.variables, execution, pipe)
                    return await self._wait(process, pipe, execution, rendering)
                finally:
                    if self._pipes.leave(pipe):
                        sink.cut()
                    await progress.drain()
        except OSError as error:
            return rendering.failed(f"the command could not be started: {error}")
        finally:
            sink.close()

    async def close(self) -> None:
        self._pipes.close()
        if self._supervisor is not None:
            await self._supervisor.close(CLOSE_TIMEOUT)
            self._supervisor = None
        self._progress.close()

    def _prepare(self, execution: Execution, rendering: Rendering) -> tuple[str, dict[str, str]]:
        target = execution.target
        env = {name: self._environ[name] for name in INHERITED if name in self._environ}
        env.setdefault("PATH", os.defpath)
        env |= {name: rendering.text(value) for name, value in target.env.items()}
        for name in _SECRET.findall(target.command):
            env[PREFIX + name] = rendering.secret(name)
        command = _SECRET.sub(rf"${{{PREFIX}\1}}", target.command)
        return command, env | identity.environment(execution.run, execution.params)

    def _start(
        self, command: str, env: Mapping[str, str], execution: Execution, pipe: OutputPipe
    ) -> SupervisedProcess:
        """Start the command. Raises OSError when there is no supervisor, and none can be started."""
        if self._supervisor is None or self._supervisor.lost:
            try:
                self._supervisor = SupervisorClient([self._python, "-I", "-S", "-c", PROGRAM, _HOME])
            except OSError:
                os.close(pipe.writer)
                raise
        what = {"command": command, "env": dict(env), "cwd": execution.target.cwd}
        kill_after = execution.target.kill_after.total_seconds()
        return self._supervisor.start(what, pipe.writer, kill_after=kill_after)

    async def _wait(
        self, process: SupervisedProcess, pipe: OutputPipe, execution: Execution, rendering: Rendering
    ) -> Outcome:
        try:
            await asyncio.wait({process.exited})
            await self._pipes.drain(pipe)
            return _outcome(process.exited.result(), rendering)
        except asyncio.CancelledError:
            await self._end(process, pipe, execution)
            raise
        except StartError as error:
            return rendering.failed(f"the command could not be started: {error}")
        except SupervisorLostError as error:
            return rendering.failed(f"{error}; the command was killed", reason="supervisor_lost")

    async def _end(self, process: SupervisedProcess, pipe: OutputPipe, execution: Execution) -> None:
        try:
            await process.end(execution.target.kill_after.total_seconds())
            await self._pipes.drain(pipe)
        finally:
            if not process.gone.done():
                execution.kept_until = process.gone


def _outcome(code: int, rendering: Rendering) -> Outcome:
    if code == 0:
        return Outcome(state=RunState.SUCCEEDED, exit_code=0)
    if code < 0:
        return rendering.failed(f"the command was ended by {_signal_name(-code)}", exit_code=code)
    return rendering.failed(f"the command ended with exit code {code}{_HINTS.get(code, '')}", exit_code=code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
