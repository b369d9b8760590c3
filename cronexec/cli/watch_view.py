"""How a run that is watched is shown: in a terminal with a bar below its output, else line by line.

What the run writes goes to standard output as it is, everything about it to standard error: so in a pipe
there is the output and nothing else.
"""

import asyncio
import sys
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from cronexec.cli.output import STYLES, people, seconds
from cronexec.cli.records import reason_of
from cronexec.cli.session import Session
from cronexec.domain.run import RETRY, Outcome, Progress, Run, RunState
from cronexec.watching import Sight, watch

if TYPE_CHECKING:
    from rich.progress import TaskID


class View(AbstractContextManager["View"], Protocol):
    """Shows what is seen of a run."""

    def show(self, sight: Sight) -> None: ...


class SilentView(ExitStack):
    """Shows nothing: for programs, which get one document at the end."""

    def show(self, sight: Sight) -> None:
        """Leave it."""


class OutputView(ExitStack):
    """Shows what a run writes, of one attempt or of all, and nothing else."""

    def __init__(self, attempt: int | None = None) -> None:
        super().__init__()
        self._attempt = attempt

    def show(self, sight: Sight) -> None:
        if sight.text and self._attempt in (None, sight.attempt):
            click.echo(sight.text, nl=False)


class PlainView(ExitStack):
    """Shows a line for each change on standard error, and the output on standard output."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[tuple[int, str]] = set()
        self._at_line_start = True

    def show(self, sight: Sight) -> None:
        run = sight.run
        self._say(sight, state_line(sight))
        if sight.text:
            click.echo(sight.text, nl=False)
            self._at_line_start = sight.text.endswith("\n")
        if run.progress is not None and sight.attempt == run.attempt:
            self._say(sight, progress_text(run.progress))
        if sight.is_over:
            self._say(sight, ended_line(sight))

    def _say(self, sight: Sight, line: str | None) -> None:
        """Say it, once for each attempt."""
        if line is not None and (sight.attempt, line) not in self._said:
            self._said.add((sight.attempt, line))
            self._end_line()
            click.echo(line, err=True)

    def _end_line(self) -> None:
        if not self._at_line_start:
            click.echo()
            self._at_line_start = True


class TerminalView(ExitStack):
    """Shows a bar that stays below the output. Lines of the output are shown when they are whole."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  costs what `cronexec --help` may not
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415

        super().__init__()
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[far]}", markup=False),
            TimeElapsedColumn(),
            console=Console(highlight=False),
            transient=True,
        )
        self._bar: TaskID | None = None
        self._line = ""

    def __enter__(self) -> Self:
        super().__enter__()
        self.enter_context(self._bars)
        return self

    def show(self, sight: Sight) -> None:
        self._write(sight.text)
        if sight.is_over:
            self._write("\n" if self._line else "")
            state = sight.outcome.state if sight.outcome else sight.run.state
            self._bars.console.print(ended_line(sight), style=STYLES.get(state.value, ""), markup=False)
            return
        run, progress = sight.run, sight.run.progress
        fields: dict[str, Any] = {
            "description": f"{run.id} {state_text(run)}",
            "completed": progress.done if progress else 0,
            "far": progress_text(progress) if progress else "",
        }
        if self._bar is None:
            self._bar = self._bars.add_task(fields.pop("description"), total=None, **fields)
        self._bars.update(self._bar, total=progress.total if progress else None, **fields)

    def _write(self, text: str) -> None:
        whole, newline, self._line = f"{self._line}{text}".rpartition("\n")
        if newline:
            self._bars.console.print(whole, markup=False, soft_wrap=True)


def new_view(*, as_json: bool) -> View:
    """Return the view for this standard output."""
    if as_json:
        return SilentView()
    return TerminalView() if sys.stdout.isatty() else PlainView()


async def show_run(session: Session, run_id: str, view: View, timeout: timedelta | None = None) -> Run | None:
    """Show a run until it is settled. Returns it; None where that took longer than `timeout`."""
    seen: Run | None = None
    try:
        async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
            with view:
                async for sight in watch(session.store, run_id):
                    seen = sight.run
                    view.show(sight)
    except TimeoutError:
        return None
    except asyncio.CancelledError:  # Ctrl-C
        if seen is not None and not seen.state.is_final:
            click.echo(f"{run_id} goes on; 'cronexec run cancel {run_id}' ends it", err=True)
        raise
    return seen


def state_line(sight: Sight) -> str | None:
    """Say where the run is, while this is its present attempt."""
    run = sight.run
    return None if sight.is_over or run.state.is_final else f"{run.id}: {state_text(run)}"


def state_text(run: Run) -> str:
    attempt = f" (attempt {run.attempt})" if run.attempt > 1 else ""
    if run.state is RunState.RUNNING:
        return f"running on {run.executor.name}{attempt}" if run.executor else f"running{attempt}"
    why = f": {run.reason}" if run.reason not in (None, RETRY) else ""  # which the attempt's number says
    later = f", not before {people(run.not_before)}" if run.not_before else ""
    return f"{run.state.value}{attempt}{later}{why}"


def ended_line(sight: Sight) -> str:
    """Say how an attempt ended."""
    run, outcome = sight.run, sight.outcome
    if outcome is None:
        return f"{run.id}: {run.state.value}{f': {run.reason}' if run.reason else ''}"
    attempt = f" (attempt {sight.attempt})" if run.attempt > 1 else ""
    length = seconds(run.duration_s) if sight.attempt == run.attempt else None
    after = f" after {length}" if length else ""
    return f"{run.id}: {outcome.state.value}{attempt}{after}{_details(run, outcome)}"


def _details(run: Run, outcome: Outcome) -> str:
    error, code = outcome.error or "", outcome.exit_code
    exited = f"exit code {code}" if code is not None and "exit code" not in error else ""
    reason = outcome.reason or (reason_of(run) if run.outcome is outcome else None)
    open_still = "a person has to retry or resolve it" if run.undecided else ""
    parts = (exited, error, reason, open_still)
    told = ", ".join(part for part in parts if part)
    return f": {told}" if told else ""


def progress_text(progress: Progress) -> str:
    """Return how far a run is."""
    done = f"{progress.done:g}" if progress.total is None else f"{progress.done:g}/{progress.total:g}"
    return f"{done} {progress.message}".rstrip()
