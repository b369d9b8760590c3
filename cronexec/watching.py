"""Watching a run: its state, its progress and its output as they come, from any instance.

Everything is read from the database, so it does not matter who executes the run or holds the baton, nor
whether either is still there. What a run writes is stored every half second by its instance; a watcher asks
for what came after what it has shown. Attempts follow each other: the output of a former one is shown to its
end before the next one's. A watch ends when the run is settled.
"""

import asyncio
import codecs
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cronexec.domain.run import Outcome, Output, Run, RunState
from cronexec.domain.transcript import Transcript, output_of
from cronexec.ports import OutputStore, Store

INTERVAL = 0.5  # seconds
FIRST_INTERVAL = 0.1  # of a run that may be over at once
STORED_WITHIN = 3.0  # seconds after an outcome: its instance stores the rest of an output
BEGUN_WITHIN = 1.0  # seconds likewise: it stores the first of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What was seen of a run at one look: the entry, and what came since of the output of an attempt.

    `outcome`: with which that attempt ended; None while it lasts, and where it never began.
    """

    run: Run
    attempt: int
    text: str = ""
    outcome: Outcome | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of that attempt."""
        return self.outcome is not None or self.attempt < self.run.attempt or self.run.state.is_final


async def watch(store: Store, run_id: str, *, interval: float = INTERVAL) -> AsyncIterator[Sight]:
    """Iterate over what is new of a run until it is settled. Ends at once where there is no such run."""
    attempt, output = 1, _Reader(store.outputs, run_id, 1)
    pause = min(FIRST_INTERVAL, interval)
    while (run := await store.runs.get(run_id)) is not None:
        while attempt < run.attempt:
            outcome = outcome_of(run, attempt)
            yield Sight(run=run, attempt=attempt, text=await output.rest(outcome), outcome=outcome)
            attempt += 1
            output = _Reader(store.outputs, run_id, attempt)
        if run.state.is_final:
            yield Sight(run=run, attempt=attempt, text=await output.rest(run.outcome), outcome=run.outcome)
            return
        yield Sight(run=run, attempt=attempt, text=await output.read())
        await asyncio.sleep(pause)
        pause = min(interval, pause * 1.5)


async def output_of_attempt(store: Store, run: Run, attempt: int) -> Output | None:
    """Return what an attempt wrote, as far as it is kept; None where nothing is known of it."""
    outcome = outcome_of(run, attempt)
    excerpt = outcome.output if outcome else None
    if excerpt is not None and not excerpt.dropped:
        return excerpt
    if run.state is RunState.SKIPPED or (outcome is None and run.started_at is None):
        return excerpt
    stored = await _stored(store.outputs, run.id, attempt, ended=excerpt is not None)
    return output_of(stored) if stored is not None and stored.written else excerpt


def outcome_of(run: Run, attempt: int) -> Outcome | None:
    """Return with what an attempt of the run ended, None while it lasts or where that is not known."""
    if attempt == run.attempt:
        return run.outcome
    return next((each.outcome for each in run.attempts if each.attempt == attempt), None)


class _Reader:
    """Reads the output of an attempt as it grows, from a position on."""

    def __init__(self, outputs: OutputStore, run_id: str, attempt: int) -> None:
        self._outputs = outputs
        self._run_id = run_id
        self._attempt = attempt
        self._position = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    async def read(self) -> str:
        """Return what is new."""
        found = await self._outputs.read(self._run_id, self._attempt, since=self._position)
        return "" if found is None else self._shown(found)

    async def rest(self, outcome: Outcome | None) -> str:
        """Return what is left when the attempt has ended: at once, where its excerpt is all there is."""
        excerpt = outcome.output if outcome else None
        if excerpt is None:
            return await self.read()
        if self._position == 0 and not excerpt.dropped:
            return excerpt.text
        stored = await _stored(self._outputs, self._run_id, self._attempt, since=self._position, ended=True)
        if stored is not None:
            return self._shown(stored) + self._decoder.decode(b"", final=True)
        return excerpt.text if self._position == 0 else ""

    def _shown(self, found: Transcript) -> str:
        parts = []
        for piece in found.pieces:
            if piece.at > self._position:
                parts.append(f"\n… {piece.at - self._position} bytes not kept …\n")
                self._decoder.reset()
            parts.append(self._decoder.decode(piece.data))
            self._position = piece.end
        return "".join(parts)


async def _stored(
    outputs: OutputStore, run_id: str, attempt: int, *, since: int = 0, ended: bool
) -> Transcript | None:
    """Return what is stored. `ended`: the attempt has, and the rest of it is on its way or there."""
    since_at = time.monotonic()
    while True:
        found = await outputs.read(run_id, attempt, since=since)
        patience = BEGUN_WITHIN if found is None else STORED_WITHIN
        if not ended or (found is not None and found.ended) or time.monotonic() > since_at + patience:
            return found
        await asyncio.sleep(FIRST_INTERVAL)
