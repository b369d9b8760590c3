"""What runs do here: they last a while, and the watcher sees them begin and end."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from effects import Effects

from cronexec.domain.run import Executor, Outcome, Output, RunState
from cronexec.domain.transcript import Transcript
from cronexec.ports import Execution, RunOutput


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A look at the lease: when, and how many seconds were left."""

    at: float
    lease_left: float


class _Nothing:
    """What these runs print. It is made with the attempt: `look` is the instance's last before it begins."""

    written = 0

    def __init__(self, look: Look) -> None:
        self.look = look

    def write(self, data: bytes | str) -> None:
        """Keep nothing."""

    def excerpt(self) -> Output:
        return Output()

    def transcript(self, since: int = 0) -> Transcript:
        return Transcript(pieces=(), written=since)


ENDS = (RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.FAILED)


class SimulatedTargets:
    """Implements `ports.Targets`.

    `look`: at the lease, by the watcher's account. `stood_still_after`: whether the process has, after an
    instant. `absent`: handlers.
    """

    def __init__(
        self,
        effects: Effects,
        executor: Executor,
        random: Random,
        *,
        longest: float,
        look: Callable[[], Look],
        stood_still_after: Callable[[float], bool],
    ) -> None:
        self._effects = effects
        self._executor = executor
        self._random = random
        self._longest = longest
        self._look = look
        self._stood_still_after = stood_still_after
        self.absent: set[str] = set()

    def handlers(self) -> Sequence[str]:
        return []

    def pool_of(self, target: Any) -> str:  # noqa: ARG002  all are handlers
        return "handlers"

    def new_output(self) -> RunOutput:
        return _Nothing(self._look())

    def unavailable(self, target: Any) -> str | None:
        return "no such handler here" if target.name in self.absent else None

    async def execute(self, execution: Execution) -> Outcome:
        assert isinstance(execution.output, _Nothing)
        look = execution.output.look
        stood_still = self._stood_still_after(look.at)
        lease_left = (look if stood_still else self._look()).lease_left
        self._effects.begins(execution.run, self._executor, lease_left=lease_left, stood_still=stood_still)
        await asyncio.sleep(self._random.random() ** 2 * self._longest)
        return Outcome(state=self._random.choice(ENDS))
