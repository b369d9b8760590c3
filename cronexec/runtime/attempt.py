"""One attempt of a run on this instance: from the committed start to the outcome.

Whatever ends it early (timeout, cancel, shutdown) decides the outcome first and then cancels the target,
which ends what it started as far as its kind can be ended. The first such reason wins; a target that finishes
by itself before it is cancelled keeps its own outcome.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from cronexec.domain.follow_up import next_attempt_at, stays_undecided
from cronexec.domain.job import JobDocument
from cronexec.domain.run import Outcome, Progress, Run, RunState
from cronexec.log import Log
from cronexec.ports import Clock, Execution, Finish, RunOutput, Targets
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.service import is_cancelled


class Attempt:
    """`outcome` is how it ended, once `start`'s callback was called."""

    def __init__(
        self,
        *,
        run: Run,
        document: JobDocument,
        token: str,
        targets: Targets,
        clock: Clock,
        recorder: Recorder,
        log: Log,
    ) -> None:
        self.run = run
        self.document = document
        self.token = token
        self.started_at: datetime = clock.now()
        self._targets = targets
        self._clock = clock
        self._recorder = recorder
        self._log = log
        self.outcome = Outcome(state=RunState.ABANDONED, reason="shutdown")
        self._ending: Outcome | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._execution = Execution(
            run=run,
            target=document.target,
            timeout=document.timeout,
            params=run.params if run.params is not None else document.params,
            output=targets.new_output(),
            report=self._report,
            labels=document.labels,
        )

    @property
    def output(self) -> RunOutput:
        """What it has written so far."""
        return self._execution.output

    @property
    def kept_until(self) -> "asyncio.Future[None] | None":
        """Resolves when a target that could not be ended has let go of its place."""
        kept: asyncio.Future[None] | None = self._execution.kept_until
        return kept

    @property
    def is_ending(self) -> bool:
        """Whether something has ended it early, and it has not gone yet."""
        return self._ending is not None

    def start(self, on_end: Callable[["Attempt"], None]) -> None:
        """Begin; `on_end` is called once, when `outcome` is known."""
        task = asyncio.create_task(self._run())
        self._task = task
        if (timeout := self._execution.timeout) is not None:
            outcome = Outcome(state=RunState.TIMED_OUT, error=f"no end within {timeout.total_seconds():g} s")
            self._call_after(timeout, self.end, outcome)
        if (expected := self.document.expected) is not None:
            self._call_after(expected, self._overrun, expected)
        task.add_done_callback(lambda _: on_end(self))

    def end(self, outcome: Outcome) -> None:
        """Cancel the target; unless it ends, or has ended, by itself, `outcome` is how the attempt ended."""
        if self._ending is None and not self._task.done():
            self._ending = self.outcome = (
                outcome  # a task that is cancelled before its first step runs nothing
            )
            self._task.cancel()

    def finish(self) -> Finish:
        """Return what is to be recorded: how it ended, and when the next attempt may start, if any."""
        run, outcome, ended_at = self.run, self.outcome, self._clock.now()
        again_at = next_attempt_at(
            self.document,
            attempt=run.attempt,
            outcome=outcome,
            ended_at=ended_at,
            chance=random.random(),  # noqa: S311  jitter
        )
        if again_at is not None:
            at, why = again_at.isoformat(), outcome.error
            self._log.info("run.retrying", run=run.id, attempt=run.attempt + 1, at=at, why=why)
        return Finish(
            run_id=run.id,
            attempt=run.attempt,
            token=self.token,
            outcome=outcome,
            started_at=self.started_at,
            finished_at=ended_at,
            again_at=again_at,
            undecided=again_at is None and stays_undecided(self.document, outcome),
        )

    async def _run(self) -> None:
        try:
            self.outcome = await self._targets.execute(self._execution)
        except asyncio.CancelledError as error:
            if not is_cancelled():  # something within it was, and nobody meant to end the attempt
                self.outcome = Outcome(state=RunState.FAILED, error=f"{type(error).__name__}: {error}")
            self.outcome = self._ending or self.outcome
        except Exception as error:  # noqa: BLE001  whatever a target does, the attempt has an outcome
            self._log.exception("run.target_crashed", run=self.run.id)
            self.outcome = Outcome(state=RunState.FAILED, error=f"{type(error).__name__}: {error}")
        if self.outcome.output is None:
            self.outcome = replace(self.outcome, output=self.output.excerpt())
        for timer in self._timers:
            timer.cancel()

    def _call_after(self, length: timedelta, action: Callable[..., None], *given: object) -> None:
        timer = asyncio.get_running_loop().call_later(length.total_seconds(), action, *given)
        self._timers.append(timer)

    def _overrun(self, expected: timedelta) -> None:
        if self._task.done():
            return
        self._log.warning(
            "run.overrun",
            run=self.run.id,
            job=self.run.job,
            attempt=self.run.attempt,
            expected_s=expected.total_seconds(),
        )
        self._recorder.overran(self.run.id, self.token, self._clock.now())

    def _report(self, done: float, total: float | None, message: str) -> None:
        progress = Progress(done=done, total=total, message=message, at=self._clock.now())
        self._recorder.progress(self.run.id, self.token, progress)
