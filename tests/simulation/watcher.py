"""The watcher: sees every write as it is committed, and every effect as it begins, and believes nobody.

It has its own account of what has happened: which epoch was raised last, which messages there were, which
attempts began. What it finds is checked at once, against that account, never against what an instance says.

| rule | checked |
|---|---|
| I1 | with every move of the watermark: each slot in between has exactly one entry, of the right version |
| I2 | with every write of a run: an allowed move; at every begin of a target: the first of its attempt |
| I3 | with every fenced write and every start: no later epoch has been raised, or has written |
| I4 | at every ack of a baton, and in the end: there is one (`simulated_broker`, `settling`) |
| I5 | at every begin of a target: its run is running here, and the lease is not over |
| I6 | with every recorded command: in the queue's order, once; acked and answered only then (`orders`) |
| I7 | with every skip and every end: a reason; what a window skips, or somebody once, and no more, says so |
| overlap | at every start: no more run than may; at every claim: no line is too long, or not replaced |
| I8 | at every release and stop (`simulated_broker`, `settling`) |
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from history import History
from orders import Orders
from overlaps import wrong_line

from cronexec.adapters.memory_hub import MemoryMessage
from cronexec.adapters.memory_store import MemoryDatabase
from cronexec.domain.follow_up import MOST_REPEATS
from cronexec.domain.job import Abandoned, Job, JobVersion
from cronexec.domain.run import ALLOWED_MOVES, Cause, Executor, Run, RunState, SkipReason
from cronexec.domain.term import Term, TermRecord
from cronexec.ports import Batch

SECOND = timedelta(seconds=1)
REPLACED_BY = "replaced by "
MARKS = {RunState.QUEUED: "", RunState.RUNNING: "+"}  # else "!"


class WatchedRuns(dict[str, Run]):
    """The ledger, whose every write is seen."""

    def __init__(self, watcher: "Watcher") -> None:
        super().__init__()
        self._watcher = watcher

    def __setitem__(self, run_id: str, run: Run) -> None:
        old = self.get(run_id)
        super().__setitem__(run_id, run)
        self._watcher.run_written(old, run)

    def __delitem__(self, run_id: str) -> None:
        self._watcher.run_removed(self[run_id])
        super().__delitem__(run_id)

    def __ior__(self, entries: Any) -> Self:  # type: ignore[override, misc]
        for run_id, run in entries.items():
            self[run_id] = run
        return self


@dataclass(kw_only=True)
class Effect:
    """A target that runs: in which process, which attempt of what."""

    run: Run
    executor: Executor
    at: float


@dataclass(kw_only=True)
class _Write:
    """A fenced write while it is under way.

    `before`: the term document that it found. `still`: the jobs that were paused or deleted before.
    `jobs`: as they were before.
    """

    term: Term
    batch: Batch
    before: TermRecord
    still: frozenset[str]
    jobs: Mapping[str, Job]
    inserted: list[Run] = field(default_factory=list)


class Watcher:
    def __init__(self, history: History) -> None:
        self._history = history
        self.database: MemoryDatabase  # set by the world, which needs the watcher first
        self.orders: Orders
        self._epoch = 0
        self._written_epoch = 0
        self._holders: dict[int, Executor] = {}
        self._write: _Write | None = None
        self._entries: defaultdict[str, list[str]] = defaultdict(list)
        self._removed: set[str] = set()
        self._returned: set[str] = set()
        self._running: defaultdict[str, dict[str, Run]] = defaultdict(dict)
        self.begun: dict[tuple[str, int], str] = {}
        self.active: dict[tuple[str, int], Effect] = {}
        self.disturbed: set[str] = set()  # executors that were killed, stopped or cut off: they may be lost

    # --- the term ---

    def epoch_raised(self, term: Term, holder: Executor) -> None:
        if term.epoch <= self._epoch:
            self._history.violate("I3", f"epoch {term.epoch} was given again")
        self._epoch = term.epoch
        self._holders[term.epoch] = holder

    @contextmanager
    def fenced_write(self, term: Term, batch: Batch) -> Iterator[None]:
        """Watch one fenced write being done; what raises has written nothing."""
        before = self.database.term
        assert before is not None
        known = dict(self.database.jobs)
        still = frozenset(
            job.name
            for job in known.values()
            if job.paused_at(before.watermark) is not None or job.deleted_at is not None
        )
        self._write = write = _Write(term=term, batch=batch, before=before, still=still, jobs=known)
        try:
            yield
            self._written(write)
        finally:
            self._write = None

    def _written(self, write: _Write) -> None:
        term, batch, before, after = write.term, write.batch, write.before, self.database.term
        assert after is not None
        self._tell(write)
        found = f"the write of epoch {term.epoch} (seq {term.seq}) was applied at {before.epoch}/{before.seq}"
        if (before.epoch, before.seq) != (term.epoch, term.seq):
            self._history.violate("I3", found)
        if after.watermark < before.watermark or after.revision < before.revision:
            self._history.violate("I1", f"the watermark or the revision went back: {found}")
        if after.watermark > self.database.clock.now() + SECOND:
            self._history.violate("I1", f"the watermark is in the future: {after.watermark}")
        self._written_epoch = max(self._written_epoch, term.epoch)
        for entry in write.inserted:
            self._check_entry(entry, term)
            self._check_exceptions(entry, write.jobs.get(entry.job))
            if entry.state is RunState.RUNNING:
                self._started(entry)  # claimed and started in one write
            self._check_line(entry)
        self._check_slots(batch, before, after)
        self.orders.applied(batch)
        for job in batch.jobs:
            is_off = job.deleted_at is not None or job.paused_at(batch.until) is not None
            if job.name not in write.still and is_off:
                self._check_nothing_queued(job.name, write)

    def _tell(self, write: _Write) -> None:
        batch = write.batch
        if not (batch.entries or batch.commands or batch.settles or batch.adopt):
            return
        self._history.add(
            "db",
            "committed",
            epoch=write.term.epoch,
            seq=write.term.seq,
            watermark=batch.until,
            entries=[entry.id[-9:] + MARKS.get(entry.state, "!") for entry in batch.entries] or None,
            commands=[command.id for command in batch.commands] or None,
            settles=[settle.run_id[-9:] for settle in batch.settles] or None,
            adopt=batch.adopt or None,
        )

    # --- the ledger ---

    def _check_entry(self, entry: Run, term: Term) -> None:
        if entry.epoch != term.epoch:
            self._history.violate("I3", f"epoch {term.epoch} claimed {entry.id} for epoch {entry.epoch}")
        if entry.state is RunState.SKIPPED and not entry.reason:
            self._history.violate("I7", f"{entry.id} was skipped without a reason")
        version = self.database.versions.get((entry.job, entry.version))
        if version is None:
            self._history.violate("I1", f"{entry.id} is of no version of its job")
        elif entry.cause is Cause.SCHEDULE and entry.slot <= version.from_at:
            self._history.violate("I1", f"{entry.id} is before version {entry.version} counted")

    def _check_line(self, entry: Run) -> None:
        version = self.database.versions.get((entry.job, entry.version))
        known = (self.database.runs.get(run_id) for run_id in self._entries[entry.job])
        unsettled = [run for run in known if run is not None and not run.is_settled]
        if version is not None and (wrong := wrong_line(version.document, entry, unsettled)) is not None:
            self._history.violate("overlap", wrong)

    def _check_exceptions(self, entry: Run, job: Job | None) -> None:
        """What was skipped by somebody's will is what the job said it would skip, and nothing else."""
        if entry.cause is not Cause.SCHEDULE or job is None or job.version != entry.version:
            return
        why = job.controlled(entry.slot)
        is_exception = entry.reason in {SkipReason.SKIP_NEXT, SkipReason.BLACKOUT}
        if is_exception != (why is not None) and entry.reason != SkipReason.PAUSED:
            self._history.violate(
                "I7", f"{entry.id} is {entry.state} ({entry.reason}), and the job says {why}"
            )

    def _check_slots(self, batch: Batch, before: TermRecord, after: TermRecord) -> None:
        """I1 for what the watermark has passed now."""
        opened = {(each.name, each.version) for each in batch.versions if each.to_at is None}
        for version in self.database.versions.values():
            if version.to_at is not None and version.to_at <= before.watermark:
                continue
            is_new = (version.name, version.version) in opened
            since = version.from_at if is_new else max(version.from_at, before.watermark)
            until = min(after.watermark, version.to_at) if version.to_at else after.watermark
            if since < until:
                self._check_version(version, since, until)

    def _check_version(self, version: JobVersion, since: Any, until: Any) -> None:
        runs = self.database.runs
        for slot in version.document.schedule.slots(since, until):
            covering = [
                run_id
                for run_id in self._entries[version.name]
                if (run := runs.get(run_id)) and run.version == version.version and run.covers(slot)
            ]
            if len(covering) != 1:
                what = f"{version.name} v{version.version} {slot:%H:%M:%S} has the entries {covering}"
                self._history.violate("I1", what)

    def _check_nothing_queued(self, name: str, write: _Write) -> None:
        """After a delete or a pause nothing of the job waits, but what was triggered after it."""
        triggered = {entry.id for entry in write.inserted if entry.cause is not Cause.SCHEDULE}
        for run_id in self._entries[name]:
            run = self.database.runs.get(run_id)
            wanted = run_id in triggered or run_id in self._returned  # these are looked at when they start
            if run is not None and run.state is RunState.QUEUED and not wanted:
                self._history.violate("I6", f"{run_id} is queued still, though its job is paused or deleted")

    def run_written(self, old: Run | None, new: Run) -> None:
        if old is None:
            self._inserted(new)
        elif old.state is not new.state:
            self._moved(old, new)
        elif (old.slot, old.version, old.attempt) != (new.slot, new.version, new.attempt):
            self._history.violate("I2", f"{new.id} became another run")

    def _inserted(self, run: Run) -> None:
        if self._write is None:
            self._history.violate("I3", f"{run.id} was claimed without a fenced write")
        elif run.id in self._removed:
            self._history.violate("I2", f"{run.id} was claimed again")
        else:
            self._write.inserted.append(run)
        self._entries[run.job].append(run.id)
        if run.state not in {RunState.QUEUED, RunState.SKIPPED, RunState.RUNNING}:
            self._history.violate("I2", f"{run.id} came into the ledger {run.state}")

    def run_removed(self, run: Run) -> None:
        self._removed.add(run.id)
        if self._write is None or run.reason != SkipReason.PAUSED:
            self._history.violate("I1", f"{run.id} was removed from the ledger")

    def _moved(self, old: Run, new: Run) -> None:
        if new.state not in ALLOWED_MOVES[old.state]:
            self._history.violate("I2", f"{new.id} went from {old.state} to {new.state}")
        self._running[new.job].pop(new.id, None)
        if new.state is RunState.RUNNING:
            self._started(new)
        elif new.attempt > old.attempt:
            self._tried_again(old, new)
        elif new.state is RunState.QUEUED:
            self._returned.add(new.id)
            self._history.add("db", "returned", run=new.id, epoch=new.epoch)
            if (new.id, new.attempt) in self.begun:
                self._history.violate("I2", f"{new.id} was given back, and its target had begun")
        else:
            self._ended(old, new)

    def _tried_again(self, old: Run, new: Run) -> None:
        """See a run queued for its next attempt: its executor says so, or a fenced write."""
        self._returned.add(new.id)
        self._history.add("db", "again", run=new.id, attempt=new.attempt, why=new.reason)
        document = self.database.versions[old.job, old.version].document
        ended = new.attempts[-1].outcome
        most = document.retry.max_attempts if document.retry else MOST_REPEATS
        lost = ended.state is RunState.ABANDONED and document.abandoned is Abandoned.RETRY
        failed = ended.state in {RunState.FAILED, RunState.TIMED_OUT} and document.retry is not None
        by_hand = self._write is not None and old.state.is_final
        if (new.attempt, len(new.attempts)) != (old.attempt + 1, old.attempt):
            self._history.violate("I2", f"{new.id} has {len(new.attempts)} attempts before {new.attempt}")
        elif not by_hand and (not (lost or failed) or old.attempt >= most):
            self._history.violate("I2", f"nobody wanted attempt {new.attempt} of {new.id}")
        elif (
            failed
            and not by_hand
            and ended.state is RunState.FAILED
            and (new.id, old.attempt) not in self.begun
        ):
            self._history.violate("I2", f"attempt {old.attempt} of {new.id} failed, and never began")

    def _started(self, run: Run) -> None:
        assert run.executor is not None
        write = self._write
        if write is not None and self._holders.get(write.term.epoch) != run.executor:
            self._history.violate("I3", f"{run.executor.name} claimed {run.id} for epoch {write.term.epoch}")
        self._history.add("db", "started", run=run.id, by=run.executor.name, epoch=run.epoch)
        if run.epoch < self._written_epoch:
            self._history.violate(
                "I3", f"{run.id} was started for epoch {run.epoch}, and {self._written_epoch} had written"
            )
        if self._holders.get(run.epoch) != run.executor:
            self._history.violate("I3", f"{run.executor.name} started {run.id} for epoch {run.epoch}")
        if (run.id, run.attempt) in self.begun:
            self._history.violate("I2", f"{run.id} was started again")
        job = self.database.jobs.get(run.job)
        if job is None or job.deleted_at is not None:
            self._history.violate("I6", f"{run.id} was started, though its job is deleted")
        elif self._is_paused(job, run):
            self._history.violate("I6", f"{run.id} was started, though its job is paused")
        others = self._running[run.job]
        most = job.document.overlap.most_active if job is not None else None
        if most is not None and len(others) >= most:
            self._history.violate("overlap", f"{run.id} was started while {list(others)} ran")
        others[run.id] = run

    def _is_paused(self, job: Job, run: Run) -> bool:
        """Whether the run is for a slot of a pause that lasts, or from before it.

        Who starts it may take the pause for over a little too early: clocks differ.
        """
        assert self.database.term is not None
        lasting = job.paused_at(max(self.database.term.watermark, self.database.clock.now()) + SECOND)
        if lasting is None or run.cause is not Cause.SCHEDULE:
            return False
        return lasting.until_at is None or run.slot <= lasting.until_at

    def _ended(self, old: Run, new: Run) -> None:
        outcome = new.outcome
        self._history.add("db", new.state.value, run=new.id, why=outcome.reason if outcome else None)
        if outcome is None:
            self._history.violate("I7", f"{new.id} ended without an outcome")
        elif (outcome.reason or "").startswith(REPLACED_BY) and outcome.reason[
            len(REPLACED_BY) :
        ] not in self._entries[new.job]:
            self._history.violate("I7", f"{new.id} was {outcome.reason}, which is no run of its job")
        elif new.state is RunState.ABANDONED and outcome.reason == "instance_lost":
            assert old.executor is not None
            if old.executor.id not in self.disturbed:
                self._history.violate("I7", f"{new.id} was abandoned, and {old.executor.name} was well")

    def running_at(self, executor: Executor) -> list[str]:
        """Return the runs that this executor has started, says the ledger."""
        runs = [run for line in self._running.values() for run in line.values()]
        return [run.id for run in runs if run.executor == executor]

    # --- effects ---

    def begins(self, run: Run, executor: Executor, *, lease_left: float) -> None:
        """See a target begin, in the process of `executor`."""
        there = self.database.runs.get(run.id)
        key = (run.id, run.attempt)
        self._history.add(executor.name, "begins", run=run.id)
        if key in self.begun:
            self._history.violate(
                "I2", f"{run.id} began twice: at {self.begun[key]}, then at {executor.name}"
            )
        self.begun[key] = executor.name
        if run.not_before is not None and run.not_before > self.database.clock.now() + SECOND:
            self._history.violate("retry", f"{run.id} began before {run.not_before}")
        if there is None or there.state is not RunState.RUNNING or there.executor != executor:
            state = there.state.value if there else "not in the ledger"
            self._history.violate("I5", f"{run.id} began at {executor.name}, and it is {state}")
        if lease_left <= 0:
            self._history.violate(
                "I5", f"{run.id} began {-lease_left:.3f} s after the lease of {executor.name}"
            )
        self.active[key] = Effect(run=run, executor=executor, at=0.0)

    def ends(self, run: Run) -> None:
        self.active.pop((run.id, run.attempt), None)

    # --- commands ---

    def command_acked(self, message: MemoryMessage) -> None:
        self.orders.acked(message)

    def replied(self, body: bytes) -> None:
        self.orders.replied(json.loads(body))
