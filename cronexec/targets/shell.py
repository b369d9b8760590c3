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
from typing import Any

from cronexec.domain.run import Outcome, RunState
from cronexec.domain.template import TemplateError
from cronexec.ports import Execution
from cronexec.targets import identity
from cronexec.targets.secrets import PREFIX, SecretError, Secrets
from cronexec.targets.shell_progress import ProgressPipes
from cronexec.targets.supervised import (
    OutputPipe,
    ShellProcess,
    ShellStartError,
    ShellSupervisor,
    SupervisorLostError,
)
from cronexec.targets.template import Rendering

INHERITED = ("PATH", "HOME", "LANG")
DRAIN_TIMEOUT = 1.0  # seconds to wait for output after the command ended
UNKILLABLE_AFTER = 5.0  # seconds after SIGKILL in which a process should be gone
CLOSE_TIMEOUT = 15.0

NOT_ALLOWED = "shell targets are not allowed on this instance: set CRONEXEC_ALLOW_SHELL=true"
_HINTS = {126: ": a command is not executable", 127: ": a command was not found"}
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
        self._supervisor: ShellSupervisor | None = None
        self._left_open: set[OutputPipe] = set()
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
                process = self._running_supervisor().start(
                    command,
                    env=env | progress.variables,
                    cwd=execution.target.cwd,
                    kill_after=execution.target.kill_after.total_seconds(),
                    sink=sink,
                )
                return await self._wait(process, execution, rendering)
        except OSError as error:
            return rendering.failed(f"the command could not be started: {error}")
        finally:
            sink.close()

    async def close(self) -> None:
        for pipe in list(self._left_open):
            pipe.close()
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

    def _running_supervisor(self) -> ShellSupervisor:
        if self._supervisor is None or self._supervisor.lost:
            self._supervisor = ShellSupervisor(self._python)
        return self._supervisor

    async def _wait(self, process: ShellProcess, execution: Execution, rendering: Rendering) -> Outcome:
        try:
            await asyncio.wait({process.exited})
            await self._drain(process.pipe)
            return _outcome(process.exited.result(), rendering)
        except asyncio.CancelledError:
            await self._stop(process, execution)
            raise
        except ShellStartError as error:
            return rendering.failed(str(error))
        except SupervisorLostError as error:
            return rendering.failed(f"{error}; the command was killed", reason="supervisor_lost")
        finally:
            self._leave(process.pipe)

    async def _stop(self, process: ShellProcess, execution: Execution) -> None:
        """End all of it and wait until it is gone. Cancelled once more, kill at once."""
        after = execution.target.kill_after.total_seconds()
        process.stop(after)
        try:
            await asyncio.wait({process.gone}, timeout=after + UNKILLABLE_AFTER)
            await self._drain(process.pipe)
        except asyncio.CancelledError:
            process.stop(0)
            raise
        finally:
            if not process.gone.done():
                execution.kept_until = process.gone

    async def _drain(self, pipe: OutputPipe) -> None:
        """Wait for the rest of the output, but not for a background process that never closes it."""
        await asyncio.wait({pipe.ended}, timeout=DRAIN_TIMEOUT)

    def _leave(self, pipe: OutputPipe) -> None:
        if not pipe.ended.done():
            pipe.discard()
            self._left_open.add(pipe)
            pipe.ended.add_done_callback(lambda _: self._left_open.discard(pipe))


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
