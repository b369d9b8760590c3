"""Targets: what a run does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from cronexec.domain.run import Outcome, Output, Run
from cronexec.domain.transcript import Transcript


class OutputSink(Protocol):
    """Takes what a run prints."""

    def write(self, data: bytes | str) -> None: ...


class RunOutput(OutputSink, Protocol):
    """What a run has printed: head and tail, bounded. `written`: how many bytes that was in all."""

    @property
    def written(self) -> int: ...

    def excerpt(self) -> Output:
        """Return the few KB of it that the ledger keeps: all of it, where it is no more than that."""
        ...

    def transcript(self, since: int = 0) -> Transcript:
        """Return what is kept of what was printed after a position."""
        ...


@dataclass(kw_only=True, slots=True)
class Execution:
    """One attempt, as its target sees it. `target` is the target part of the job document.

    `report` records progress (callable on the engine's loop). A target that keeps its place after it was
    given up (a thread that cannot be stopped) sets `kept_until` to a future that resolves when the place is
    free.
    """

    run: Run
    target: Any
    timeout: timedelta | None
    params: Mapping[str, Any]
    output: RunOutput
    report: Any
    labels: Mapping[str, str] = field(default_factory=dict)
    kept_until: Any = None


class Target(Protocol):
    """Does what a run does. One object for each kind; executes many runs at once."""

    def unavailable(self, target: Any) -> str | None:
        """Return why this instance cannot execute it (no such handler, shell not allowed), or None."""
        ...

    async def execute(self, execution: Execution) -> Outcome:
        """Run to the end.

        On cancellation (timeout, cancel, shutdown) it ends what it started as far as its kind can, and
        re-raises.

        Never raises otherwise: an error is an outcome.
        """
        ...

    async def close(self) -> None: ...


class Targets(Protocol):
    """All kinds of targets of an instance together."""

    def handlers(self) -> Sequence[str]:
        """Return the names of the handlers that are registered here."""
        ...

    def pool_of(self, target: Any) -> str:
        """Return which of the instance's limits on running targets counts for it."""
        ...

    def new_output(self) -> RunOutput:
        """Return an empty, bounded output for an attempt."""
        ...

    def unavailable(self, target: Any) -> str | None:
        """Return why this instance cannot execute it, or None."""
        ...

    async def execute(self, execution: Execution) -> Outcome:
        """Execute by kind, as `Target.execute`."""
        ...
