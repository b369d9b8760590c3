"""One fault that is tried: its instants, what an operator sees of it, and what must hold after it.

What must hold after every fault:

- nothing is missing and nothing doubled in the ledger, and nothing skipped (every slot is wanted);
- no (job, slot, attempt) is twice in the evidence; what succeeded is in it, what is in it is in the ledger;
- whatever ran under an epoch ran on the instance that held it, and was claimed before the next term began;
- what is abandoned was started before the fault on an instance that the fault hit;
- what an instance that lives has logged as a warning or an error, its heartbeat tells, as often; and `doctor`
  tells of each notable event by which the fault was seen.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from chaos.evidence import Work
from fault_table import Row
from members import Member, wait_for
from operators_view import COUNTED, doctor_says, metrics

from cronexec.doctor import Finding, Level
from cronexec.doctor.events import CHECK, NOTABLE
from cronexec.domain.run import Run, RunState
from cronexec.errors import CronexecError
from cronexec.ports import RunFilter
from cronexec.verify import verify_ledger

if TYPE_CHECKING:
    from stage import Stage

AGREES_WITHIN = 0.5  # seconds: a log's instant and the database's, on a busy machine
NO_PAUSE = 2.0  # seconds without a run's beginning that say nothing: there is a slot every second
SETTLED_WITHIN = 150.0
BEFORE = timedelta(minutes=1)  # what of the time before the fault is judged once more
UNSETTLED = (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True)
class LogEvent:
    """A line of an instance's log. `at` in seconds since 1970, by a clock that no fault touches."""

    fields: dict[str, Any]
    at: float
    by: str

    @classmethod
    def read(cls, line: str, by: str) -> "LogEvent":
        fields = json.loads(line)
        return cls(fields, datetime.fromisoformat(fields["timestamp"]).timestamp(), by)

    def __getitem__(self, name: str) -> Any:
        return self.fields.get(name)

    def has(self, wanted: dict[str, Any]) -> bool:
        return all(_matches(self[name], value) for name, value in wanted.items())


def _matches(found: Any, wanted: Any) -> bool:
    return str(found).startswith(wanted) if isinstance(wanted, str) else bool(found == wanted)


@dataclass
class Trial:
    """`epoch`: of the term before the fault. `allowed`: states of runs that this fault may bring about."""

    stage: "Stage"
    row: Row
    epoch: int
    opened_at: float = field(default_factory=time.time)
    began_at: float = 0.0
    healed_at: float | None = None
    allowed: frozenset[RunState] = frozenset()
    seen: list[LogEvent] = field(default_factory=list)

    # --- the course of it ---

    def began(self, *hit: Member, at: float | None = None) -> float:
        """Take note that the fault begins: now, or at an instant that somebody else noted."""
        self.began_at = time.time() if at is None else at
        for member in hit:
            self.stage.hit_at[member.name] = self.began_at
        return self.began_at

    def healed(self, at: float | None = None) -> float:
        """Take note that the fault is over."""
        self.healed_at = time.time() if at is None else at
        return self.healed_at

    async def reaches(self, member: Member, point: str, then: str, times: int = 1) -> LogEvent:
        """Have a member come to harm at a point, and wait until it has: there the fault begins."""
        since = time.time()
        self.stage.order(member, "arm", point=point, then=then, times=times)
        reached = await self.stage.event("fault.reached", since=since, by=member, point=point)
        self.began(member, at=reached.at)
        return reached

    async def next_term(self, *, timeout: float = 60) -> LogEvent:
        """Wait for the first commit of a later term."""

        async def has_begun() -> LogEvent | None:
            return next(iter(self.first_commits()), None)

        return await wait_for(has_begun, "the next term's first commit", timeout=timeout, interval=0.02)

    def first_commits(self) -> list[LogEvent]:
        found = self.stage.events("term.first_commit", since=self.began_at)
        return [entry for entry in found if entry["epoch"] > self.epoch]

    async def runs_again(self, *, timeout: float = 60) -> None:
        """Wait until runs of a later term have begun."""

        async def has_run() -> bool:
            return any(work.epoch > self.epoch for work in self.stage.work())

        await wait_for(has_run, "runs of the next term", timeout=timeout)

    async def sees(
        self, name: str, *, by: Member | None = None, timeout: float = 30, **fields: Any
    ) -> LogEvent:
        """Wait for the log event by which an operator sees the fault."""
        found = await self.stage.event(name, since=self.began_at, by=by, timeout=timeout, **fields)
        reason = "" if found["reason"] is None else f" reason={found['reason']}"
        self.row.events.append(f"{name}{reason}"[:80])
        self.seen.append(found)
        return found

    async def doctor_says(
        self, check: str, text: str, *, level: Level = Level.WARN, timeout: float = 30
    ) -> Finding:
        """Wait for the finding by which an operator sees the fault, wherever he is."""
        found = await doctor_says(self.stage, check, text, level=level, timeout=timeout)
        self.row.doctor.append(check)
        return found

    def terms_since(self) -> list[LogEvent]:
        """Return the beginnings of terms since the fault."""
        return self.stage.events("term.began", since=self.began_at)

    def acted_as_former_holder(self, member: Member, since: float, *, due_after: float = 0.0) -> list[Work]:
        """Return what a member began after `since` on behalf of the term before the fault.

        `due_after`: of slots after that alone. What was started before belongs to the instance, and may have
        had to wait for its loop's or its thread's turn.
        """
        return [
            work
            for work in self.stage.work()
            if work.instance == member.name
            and work.epoch <= self.epoch
            and work.began_at > since
            and work.slot > due_after
        ]

    # --- what must hold ---

    async def judge(self) -> None:
        """Wait until slots run and everything up to now is settled, and assert what must hold."""
        await self.stage.slots_run(1, timeout=90)
        until = await self._settled()
        self._measure()
        since = datetime.fromtimestamp(self.opened_at, UTC) - BEFORE
        store, retention = self.stage.connection.store, self.stage.settings.retention
        total, row = (await verify_ledger(store, retention=retention, since=since)).total, self.row
        row.missing, row.doubled = total.missing, total.doubled
        assert (total.missing, total.doubled, total.unexpected) == (0, 0, 0), total.findings
        runs = [run async for run in store.runs.scheduled(since) if run.slot <= until]
        self._judge_evidence(runs, since.timestamp())
        self._judge_terms(runs)
        self._judge_states(runs)
        await self._judge_what_is_seen()

    async def _judge_what_is_seen(self) -> None:
        """Assert that a metric, and the doctor, tell what the log does."""
        counts = await metrics(self.stage)
        for entry in self.seen:
            event = str(entry["event"])
            if entry["level"] in COUNTED and entry.by in self.stage.members:
                self.row.metrics[event] = counts[entry.by][event]
                if event in NOTABLE:
                    await self.doctor_says(CHECK, f"{event}: {NOTABLE[event][0]}")

    async def _settled(self) -> datetime:
        """Wait until all slots up to now are decided and settled; returns that instant."""
        until = datetime.now(UTC)

        async def are_settled() -> bool:
            try:
                if (await self.stage.connection.store.terms.read()).watermark < until:
                    return False
                which = RunFilter(states=UNSETTLED, until=until, limit=1)
                return not await self.stage.client.runs.list(which)
            except CronexecError:
                return False

        await wait_for(are_settled, "all slots to be settled", timeout=SETTLED_WITHIN, interval=0.2)
        return until

    def _judge_evidence(self, runs: list[Run], since: float) -> None:
        work = [each for each in self.stage.work() if "@" in each.run]
        times = Counter((each.run, each.attempt) for each in work)
        assert [key for key, count in times.items() if count > 1] == [], "run twice"
        succeeded = {(run.id, run.attempt) for run in runs if run.state is RunState.SUCCEEDED}
        without = sorted(succeeded - times.keys())
        assert without == [], "succeeded and left no evidence"
        known, last = {run.id for run in runs}, max(run.slot for run in runs).timestamp()
        unknown = [each for each in work if since < each.slot <= last and each.run not in known]
        assert unknown == [], "left evidence and is not in the ledger"

    def _judge_terms(self, runs: list[Run]) -> None:
        begun = self.stage.events("term.began", since=0.0)
        holders = {entry["epoch"]: entry.by for entry in begun}
        strangers = [work for work in self.stage.work() if holders.get(work.epoch) != work.instance]
        assert strangers == [], "run under an epoch by an instance that did not hold it"
        began_at = {entry["epoch"]: entry.at for entry in begun}
        late = [
            run for run in runs if _claimed_at(run) > began_at.get(run.epoch + 1, time.time()) + AGREES_WITHIN
        ]
        assert late == [], "claimed by a term that was over"

    def _judge_states(self, runs: list[Run]) -> None:
        recent = [run for run in runs if run.slot.timestamp() > self.opened_at]
        self.row.due = len(recent)
        self.row.abandoned = sum(run.state is RunState.ABANDONED for run in recent)
        for run in recent:
            if run.state is RunState.ABANDONED:
                self._judge_abandoned(run)
        other = {run.state for run in recent} - {RunState.SUCCEEDED, RunState.ABANDONED}
        assert other <= self.allowed, "every slot is wanted, and succeeds"

    def _judge_abandoned(self, run: Run) -> None:
        assert run.executor is not None
        assert run.started_at is not None
        hit_at = self.stage.hit_at.get(run.executor.name)
        assert hit_at is not None, f"{run.id} was abandoned by {run.executor.name}, which no fault has hit"
        assert run.started_at.timestamp() <= hit_at + AGREES_WITHIN, f"{run.id} was started after the fault"

    def _measure(self) -> None:
        commits = self.first_commits()
        if commits:
            self.row.next_term_s = commits[0].at - self.began_at
        begun = sorted(work.began_at for work in self.stage.work() if work.began_at > self.began_at - 1.5)
        self.row.pause_s = max((after - before for before, after in pairwise(begun)), default=0.0)
        if self.healed_at is not None and self.row.pause_s > NO_PAUSE:
            later = [at for at in begun if at > self.healed_at]
            self.row.back_s = later[0] - self.healed_at if later else None


def _claimed_at(run: Run) -> float:
    return 0.0 if run.claimed_at is None else run.claimed_at.timestamp()


async def seconds(length: float) -> None:
    """Let the fault last."""
    await asyncio.sleep(length)
