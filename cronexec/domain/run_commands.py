"""Commands about runs: cancelling one, trying one again, and saying what became of one that was abandoned.

Each names a run as the ledger had it a moment ago. What the holder writes says which state and which attempt
it expects, so that a run which has moved on meanwhile stays as it is.
"""

from cronexec.domain.command import CancelRun, ErrorCode, ResolveRun, RetryRun, ok_reply
from cronexec.domain.job import OverlapPolicy
from cronexec.domain.ledger import Requeue, Settle, settle_cancelled
from cronexec.domain.replacement import cancel_reason
from cronexec.domain.run import Outcome, Run, RunState, job_of
from cronexec.domain.situation import Effects, Situation
from cronexec.errors import RefusedError

RETRIED = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELLED, RunState.ABANDONED})


def cancel(command: CancelRun, situation: Situation) -> Effects:
    """Cancel a queued run at once; ask the instance of a running one to end it."""
    run = _named(command.run, situation)
    who = command.issued_by or "somebody"
    if run.state is RunState.QUEUED:
        return Effects(
            reply=ok_reply(command.id, {"run": run.id, "state": RunState.CANCELLED.value}),
            settles=(settle_cancelled(run, cancel_reason(who), situation.at),),
            cancels={run.id: who},  # it may start meanwhile, and then is not settled but marked
        )
    if run.state is RunState.RUNNING:
        return Effects(
            reply=ok_reply(command.id, {"run": run.id, "state": "cancel_requested"}), cancels={run.id: who}
        )
    raise RefusedError(ErrorCode.ALREADY_SETTLED, f"the run {run.id} is over: it is {run.state.value}", "run")


def retry(command: RetryRun, situation: Situation) -> Effects:
    """Queue a run that has not succeeded for another attempt, whatever its retry policy says."""
    run = _named(command.run, situation)
    job = situation.jobs.get(run.job)
    if job is None or job.deleted_at is not None:
        raise RefusedError(ErrorCode.NOT_FOUND, f"the job {run.job} is deleted: its runs are over", "run")
    if run.state not in RETRIED:
        raise RefusedError(*_why_not(run), "run")
    others = [each for each in situation.unsettled(run.job) if each.id != run.id]
    if others and job.document.overlap.policy is OverlapPolicy.SKIP:
        why = f"the job {run.job} is running ({others[0].id}), and its overlap policy is skip"
        raise RefusedError(ErrorCode.CONFLICT, why, "run")
    again = Requeue(
        run_id=run.id,
        attempt=run.attempt,
        expected=run.state,
        at=situation.at,
        reason=f"retried by {command.issued_by or 'somebody'}",
    )
    result = {"run": run.id, "state": RunState.QUEUED.value, "attempt": run.attempt + 1}
    return Effects(reply=ok_reply(command.id, result), requeues=(again,))


def resolve(command: ResolveRun, situation: Situation) -> Effects:
    """Say what became of an abandoned run that waits for a person: the next run of its job may start."""
    run = _named(command.run, situation)
    if not run.undecided:
        why = f"the run {run.id} is {run.state.value}, and waits for no decision"
        raise RefusedError(ErrorCode.ALREADY_SETTLED, why, "run")
    state = RunState(command.state)
    reason = f"resolved by {command.issued_by or 'somebody'}"
    outcome = Outcome(state=state, reason=reason, error=run.outcome.error if run.outcome else None)
    settle = Settle(
        run_id=run.id, attempt=run.attempt, expected=RunState.ABANDONED, outcome=outcome, at=situation.at
    )
    return Effects(reply=ok_reply(command.id, {"run": run.id, "state": state.value}), settles=(settle,))


def _named(run_id: str, situation: Situation) -> Run:
    run = situation.entry(job_of(run_id), run_id)
    if run is None:
        raise RefusedError(ErrorCode.NOT_FOUND, f"there is no run {run_id}", "run")
    return run


def _why_not(run: Run) -> tuple[ErrorCode, str]:
    """Return why a run is not tried again."""
    if run.state is RunState.SUCCEEDED:
        return ErrorCode.ALREADY_SETTLED, f"the run {run.id} succeeded; trigger its job to run it once more"
    if run.state is RunState.SKIPPED:
        return ErrorCode.ALREADY_SETTLED, f"{run.id} was skipped: there is no run to try again"
    waits = run.state is RunState.QUEUED and run.not_before is not None
    at_once = "; to have it tried at once, cancel it first" if waits else ""
    return ErrorCode.CONFLICT, f"the run {run.id} is {run.state.value}: it is not over{at_once}"
