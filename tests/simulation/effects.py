"""Effects: targets as they begin, in the process of an instance that still may.

An instance looks at its term for the last time when it makes an attempt, and the target begins with the next
step of its loop. What happens while the process stands still in between nobody can notice: the lease runs
out, others hold, and after `instance_lost_after` they give the run up for lost and may try it again. So each
begin is judged by that last look, and by what the ledger may have made of this very attempt since.
"""

from account import SECOND, Account

from cronexec.domain.run import Executor, Outcome, Run, RunState


class Effects:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._history = account.history
        self._database = account.database

    def begins(self, run: Run, executor: Executor, *, lease_left: float, stood_still: bool) -> None:
        """See a target begin.

        `lease_left`: seconds, at the last look at it. `stood_still`: the process did, after that look.
        """
        key, begun = (run.id, run.attempt), self._account.begun
        self._history.add(executor.name, "begins", run=run.id)
        if key in begun:
            self._history.violate("I2", f"{run.id} began twice: at {begun[key]}, then at {executor.name}")
        begun[key] = executor.name
        if run.not_before is not None and run.not_before > self._database.clock.now() + SECOND:
            self._history.violate("retry", f"{run.id} began before {run.not_before}")
        there = self._database.runs.get(run.id)
        if not _runs_at(there, run, executor) and not (stood_still and _was_given_up(there, run, executor)):
            state = there.state.value if there else "not in the ledger"
            self._history.violate("I5", f"{run.id} began at {executor.name}, and it is {state}")
        if lease_left <= 0:
            late = f"{run.id} began {-lease_left:.3f} s after the lease of {executor.name}"
            self._history.violate("I5", late)


def _runs_at(there: Run | None, run: Run, executor: Executor) -> bool:
    if there is None or there.attempt != run.attempt:
        return False
    return there.state is RunState.RUNNING and there.executor == executor


def _was_given_up(there: Run | None, run: Run, executor: Executor) -> bool:
    """Whether the ledger says of this attempt that its instance was lost; another may have followed."""
    if there is None or there.attempt < run.attempt:
        return False
    started = there if there.attempt == run.attempt else there.attempts[run.attempt - 1]
    return started.executor == executor and _is_lost(started.outcome)


def _is_lost(outcome: Outcome | None) -> bool:
    return outcome is not None and (outcome.state, outcome.reason) == (RunState.ABANDONED, "instance_lost")
