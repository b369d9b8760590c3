"""Commands in a tick: each is applied, in order, to the jobs as the ones before it leave them.

Nothing is kept here from one tick to the next. What the commands do goes into the tick's decision; they are
answered, and logged as applied, once that is committed. A command that crashes is rejected: it would end this
term, and every next.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cronexec.domain.apply import apply
from cronexec.domain.command import ErrorCode
from cronexec.domain.ending import MOST_ENDED
from cronexec.domain.job import Job
from cronexec.domain.ledger import Settle
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.run import Run
from cronexec.domain.situation import Effects, Situation
from cronexec.errors import UnreachableError
from cronexec.log import Log
from cronexec.ports import Clock
from cronexec.runtime.decision import Decision
from cronexec.runtime.inbox import Inbox, Prepared, Received, applied
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.service import Breather

LOGGED_SINGLY = 8
LOOK_UP_AGAIN_AFTER = 0.5  # seconds; a tick writes, and must not go round as fast as that fails


class Commands:
    """Belongs to one term."""

    def __init__(
        self, *, inbox: Inbox, table: JobTable, occupancy: Occupancy, epoch: int, clock: Clock, log: Log
    ) -> None:
        self._inbox = inbox
        self._table = table
        self._occupancy = occupancy
        self._epoch = epoch
        self._clock = clock
        self._log = log
        self._asked: set[str] = set()  # `domain.ending`
        self._again_at = clock.monotonic()  # nothing is looked up before then

    @property
    def are_waiting(self) -> bool:
        """Whether there are commands to be applied now."""
        return len(self._inbox) > 0 and self._clock.monotonic() >= self._again_at

    @property
    def waiting(self) -> int:
        return len(self._inbox)

    async def apply_to(self, decision: Decision, most: int) -> None:
        """Apply the first `most` that have arrived: those that were there before the decision's instant.

        Commands whose look-ups fail stay where they are, for a later tick.

        While a culprit is looked for among them, each waits for a write that carries nothing else.
        """
        if not self.are_waiting or (self._inbox.goes_singly and not decision.is_empty):
            return
        try:
            prepared = await self._inbox.prepare(most, self._table.jobs)
        except UnreachableError as error:
            self._log.warning("command.lookup_failed", error=str(error))
            self._again_at = self._clock.monotonic() + LOOK_UP_AGAIN_AFTER
            return
        self._inbox.answer(prepared.repeated)
        await self._apply_all(prepared, decision)

    async def _apply_all(self, prepared: Prepared, decision: Decision) -> None:
        jobs = _Overlay(self._table.jobs)
        claimed: defaultdict[str, list[Run]] = defaultdict(list)
        for entry in decision.entries.values():
            claimed[entry.job].append(entry)
        ended = 0
        breather = Breather(self._clock.monotonic)
        for position, received in enumerate(prepared.commands):
            if ended >= MOST_ENDED:
                self._inbox.put_back(prepared.commands[position:])
                break
            situation = Situation(
                at=decision.until,
                epoch=self._epoch,
                revision=decision.revision,
                jobs=jobs,
                occupancy=self._occupancy,
                runs=prepared.runs,
                claimed=claimed,
                kept=self._inbox.kept,
                asked=self._asked,
            )
            effects = self._apply(received, situation)
            if effects is not None and effects.ahead:
                self._end_ahead(effects.ahead, decision, prepared.commands[position:])
                break
            self._asked.clear()
            if effects is not None:
                jobs |= {effects.job.name: effects.job} if effects.job else {}
                self._take_effect(received, effects, decision, jobs)
                ended += len(effects.settles)
                for entry in effects.entries:
                    claimed[entry.job].append(entry)
            await breather.breathe()

    def _end_ahead(self, ahead: Sequence[Settle], decision: Decision, commands: Sequence[Received]) -> None:
        """Leave the first of `commands`, and all after it, for the next tick: it ends too many runs."""
        decision.end_ahead(ahead)
        self._asked.update(settle.run_id for settle in ahead)
        self._inbox.put_back(commands)

    def _apply(self, received: Received, situation: Situation) -> Effects | None:
        try:
            return apply(received.command, situation)
        except Exception as error:  # noqa: BLE001  see the module's docstring
            self._log.exception("command.crashed", type=received.command.type, id=received.command.id)
            why = f"it could not be applied: {type(error).__name__}: {error}"
            self._inbox.refuse(received, why, ErrorCode.INTERNAL)
            return None

    def _take_effect(
        self, received: Received, effects: Effects, decision: Decision, jobs: Mapping[str, Job]
    ) -> None:
        record = applied(received, effects.reply, at=decision.until, epoch=self._epoch)
        decision.apply(received, effects, record)
        for entry in effects.entries:
            decision.claim(entry, jobs[entry.job].document)

    def refuse_unwritable(self, decision: Decision, why: str, revision: int) -> None:
        """Take the commands out of a write that the database refuses; alone, the culprit is known."""
        commands = decision.drop_commands(revision)
        if len(commands) == 1 and decision.is_empty:
            self._inbox.refuse(commands[0], why)
        else:
            self._inbox.put_back_singly(commands)

    def committed(self, effects: Sequence[tuple[Received, Effects]]) -> None:
        """Answer commands: what they do is committed, and so are their replies."""
        if len(effects) > LOGGED_SINGLY:
            types = Counter(received.command.type for received, _ in effects)
            refused = sum(not each.reply["ok"] for _, each in effects)
            self._log.info("command.applied", count=len(effects), types=dict(types), refused=refused)
        else:
            for received, each in effects:
                self._log.info("command.applied", **_facts(received, each))
        self._inbox.answer([(received, each.reply) for received, each in effects])
        for received, each in effects:
            if each.discards is not None:
                self._inbox.discard(each.discards, received.command.issued_by or "somebody")


def _facts(received: Received, effects: Effects) -> dict[str, Any]:
    command = received.command
    facts = {
        "type": command.type,
        "id": command.id,
        "ok": effects.reply["ok"],
        "issued_by": command.issued_by,
    }
    return facts if effects.reply["ok"] else facts | {"why": effects.reply["error"]["message"]}


class _Overlay(dict[str, Job]):
    """The jobs as they will be after the commands that were applied so far."""

    def __init__(self, below: Mapping[str, Job]) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, name: str) -> Job:
        return self._below[name]

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name) or self._below.get(name, default)
