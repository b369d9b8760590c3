"""What runs do here: they last a while, and the watcher sees them begin and end."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from watcher import Watcher

from cronexec.domain.run import Executor, Outcome, Output, RunState
from cronexec.domain.transcript import Transcript
from cronexec.ports import Execution, RunOutput


class _Nothing:
    """What these runs print."""

    written = 0

    def write(self, data: bytes | str) -> None:
        """Keep nothing."""

    def excerpt(self) -> Output:
        return Output()

    def transcript(self, since: int = 0) -> Transcript:
        return Transcript(pieces=(), written=since)


NOTHING = _Nothing()
ENDS = (RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.FAILED)


class SimulatedTargets:
    """Implements `ports.Targets`. `lease_left`: seconds, by the watcher's account. `absent`: handlers."""

    def __init__(
        self,
        watcher: Watcher,
        executor: Executor,
        random: Random,
        *,
        longest: float,
        lease_left: Callable[[], float],
    ) -> None:
        self._watcher = watcher
        self._executor = executor
        self._random = random
        self._longest = longest
        self._lease_left = lease_left
        self.absent: set[str] = set()

    def handlers(self) -> Sequence[str]:
        return []

    def pool_of(self, target: Any) -> str:  # noqa: ARG002  all are handlers
        return "handlers"

    def new_output(self) -> RunOutput:
        return NOTHING

    def unavailable(self, target: Any) -> str | None:
        return "no such handler here" if target.name in self.absent else None

    async def execute(self, execution: Execution) -> Outcome:
        self._watcher.begins(execution.run, self._executor, lease_left=self._lease_left())
        try:
            await asyncio.sleep(self._random.random() ** 2 * self._longest)
        finally:
            self._watcher.ends(execution.run)
        return Outcome(state=self._random.choice(ENDS))
