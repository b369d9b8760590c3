"""Moves of runs: each allowed, each by who may do it, and only where somebody wanted it."""

from collections import defaultdict
from datetime import datetime

from account import SECOND, Account

from cronexec.domain.follow_up import MOST_REPEATS
from cronexec.domain.job import Abandoned, Job
from cronexec.domain.run import ALLOWED_MOVES, Cause, Executor, Run, RunState

REPLACED_BY = "replaced by "


class Moves:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._history = account.history
        self._database = account.database
        self._running: defaultdict[str, dict[str, Run]] = defaultdict(dict)

    def running_at(self, executor: Executor) -> list[str]:
        """Return the runs that this executor has started, says the ledger."""
        runs = [run for line in self._running.values() for run in line.values()]
        return [run.id for run in runs if run.executor == executor]

    def moved(self, old: Run, new: Run) -> None:
        if new.state not in ALLOWED_MOVES[old.state]:
            self._history.violate("I2", f"{new.id} went from {old.state} to {new.state}")
        self._running[new.job].pop(new.id, None)
        if new.state is RunState.RUNNING:
            self.started(new)
        elif new.attempt > old.attempt:
            self._tried_again(old, new)
        elif new.state is RunState.QUEUED:
            self._given_back(new)
        else:
            self._ended(old, new)

    def _given_back(self, run: Run) -> None:
        self._account.returned.add(run.id)
        self._history.add("db", "returned", run=run.id, epoch=run.epoch)
        if (run.id, run.attempt) in self._account.begun:
            self._history.violate("I2", f"{run.id} was given back, and its target had begun")

    def _tried_again(self, old: Run, new: Run) -> None:
        """See a run queued for its next attempt: its executor says so, or a fenced write."""
        self._account.returned.add(new.id)
        self._history.add("db", "again", run=new.id, attempt=new.attempt, why=new.reason)
        if (new.attempt, len(new.attempts)) != (old.attempt + 1, old.attempt):
            self._history.violate("I2", f"{new.id} has {len(new.attempts)} attempts before {new.attempt}")
        by_hand = self._account.write is not None and old.state.is_final
        if not by_hand and (wrong := self._unwanted(old, new)) is not None:
            self._history.violate("I2", wrong)

    def _unwanted(self, old: Run, new: Run) -> str | None:
        """Return what is wrong with an attempt that nobody has asked for by hand; None: a policy wants it."""
        document = self._database.versions[old.job, old.version].document
        ended = new.attempts[-1].outcome
        most = document.retry.max_attempts if document.retry else MOST_REPEATS
        lost = ended.state is RunState.ABANDONED and document.abandoned is Abandoned.RETRY
        failed = ended.state in {RunState.FAILED, RunState.TIMED_OUT} and document.retry is not None
        if not (lost or failed) or old.attempt >= most:
            return f"nobody wanted attempt {new.attempt} of {new.id}"
        if ended.state is RunState.FAILED and (new.id, old.attempt) not in self._account.begun:
            return f"attempt {old.attempt} of {new.id} failed, and never began"
        return None

    def started(self, run: Run) -> None:
        """See a run started, in a write of its own or with its claim."""
        assert run.executor is not None
        self._history.add("db", "started", run=run.id, by=run.executor.name, epoch=run.epoch)
        self._check_term(run, run.executor)
        if (run.id, run.attempt) in self._account.begun:
            self._history.violate("I2", f"{run.id} was started again")
        job = self._database.jobs.get(run.job)
        if job is None or job.deleted_at is not None:
            self._history.violate("I6", f"{run.id} was started, though its job is deleted")
        elif self._is_paused(job, run):
            self._history.violate("I6", f"{run.id} was started, though its job is paused")
        others = self._running[run.job]
        most = job.document.overlap.most_active if job is not None else None
        if most is not None and len(others) >= most:
            self._history.violate("overlap", f"{run.id} was started while {list(others)} ran")
        others[run.id] = run

    def _check_term(self, run: Run, executor: Executor) -> None:
        write, holders = self._account.write, self._account.holders
        if write is not None and holders.get(write.term.epoch) != executor:
            self._history.violate("I3", f"{executor.name} claimed {run.id} for epoch {write.term.epoch}")
        if run.epoch < self._account.written_epoch:
            late = (
                f"{run.id} was started for epoch {run.epoch}, and {self._account.written_epoch} had written"
            )
            self._history.violate("I3", late)
        if holders.get(run.epoch) != executor:
            self._history.violate("I3", f"{executor.name} started {run.id} for epoch {run.epoch}")

    def _is_paused(self, job: Job, run: Run) -> bool:
        """Whether the run is for a slot of a pause that lasts, or from before it.

        Who starts it may take the pause for over a little too early: clocks differ.
        """
        assert self._database.term is not None
        lasting = job.paused_at(max(self._database.term.watermark, self._database.clock.now()) + SECOND)
        if lasting is None or run.cause is not Cause.SCHEDULE:
            return False
        return lasting.until_at is None or run.slot <= lasting.until_at

    def _ended(self, old: Run, new: Run) -> None:
        outcome = new.outcome
        self._history.add("db", new.state.value, run=new.id, why=outcome.reason if outcome else None)
        if outcome is None:
            self._history.violate("I7", f"{new.id} ended without an outcome")
            return
        reason = outcome.reason or ""
        if reason.startswith(REPLACED_BY):
            self._account.successors[new.id] = reason.removeprefix(REPLACED_BY)  # there in the end
        elif new.state is RunState.ABANDONED and reason == "instance_lost":
            assert old.executor is not None
            if old.executor.id not in self._account.disturbed:
                self._history.violate("I7", f"{new.id} was abandoned, and {old.executor.name} was well")

    def check_successors(self) -> None:
        """In the end, whatever replaced a run is in the ledger; a slot, where it was missed, as skipped."""
        runs = self._database.runs
        for run_id, successor in self._account.successors.items():
            job, _, slot = successor.partition("@")
            at = datetime.fromisoformat(slot) if slot else None
            covered = (run.job == job and at is not None and run.covers(at) for run in runs.values())
            if successor not in runs and not any(covered):
                why = f"{run_id} was replaced by {successor}, which is no run of its job"
                self._history.violate("I7", why)
