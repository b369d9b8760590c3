"""What runs on this instance: attempts, from their target's first step to the outcome that is to be recorded.

Terms begin and end beside it; a run that has begun goes on. Its place is free when its target has let go of
it, which may be later than its end (`Attempt.kept_until`), and is so whatever goes wrong at the end.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from cronexec.domain.run import Outcome
from cronexec.log import Log
from cronexec.ports import Clock, Targets
from cronexec.runtime.attempt import Attempt
from cronexec.runtime.ready import Ready
from cronexec.runtime.recorder import Recorder

Free = Callable[[], None]


class Running:
    """Belongs to an instance. `on_ended` is told of each attempt; `idle` is set while there is none."""

    def __init__(self, *, targets: Targets, recorder: Recorder, clock: Clock, log: Log) -> None:
        self._targets = targets
        self._recorder = recorder
        self._clock = clock
        self._log = log
        self._attempts: dict[str, Attempt] = {}
        self.on_ended: Callable[[Attempt], None] = lambda _: None
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def attempts(self) -> Mapping[str, Attempt]:
        """The attempts by run id."""
        return self._attempts

    def begin(self, item: Ready, token: str, free: Free) -> None:
        """Begin a run that was started with `token`; `free` is called when its place is free again."""
        attempt = Attempt(
            run=item.run,
            document=item.document,
            token=token,
            targets=self._targets,
            clock=self._clock,
            recorder=self._recorder,
            log=self._log,
        )
        self._attempts[item.run.id] = attempt
        self.idle.clear()
        attempt.start(partial(self._ended, free))

    def end(self, run_id: str, outcome: Outcome) -> bool:
        """End a running attempt with `outcome`. Returns whether it runs here."""
        attempt = self._attempts.get(run_id)
        if attempt is not None:
            attempt.end(outcome)
        return attempt is not None

    def _ended(self, free: Free, attempt: Attempt) -> None:
        del self._attempts[attempt.run.id]
        if not self._attempts:
            self.idle.set()
        try:
            self._recorder.finish(attempt.finish())
            self.on_ended(attempt)
        except Exception:  # noqa: BLE001  a defect, which must not cost the place
            self._log.exception("run.end_crashed", run=attempt.run.id)
        if attempt.kept_until is not None and not attempt.kept_until.done():
            attempt.kept_until.add_done_callback(lambda _: free())
        else:
            free()
