"""Replacement (`overlap: replace`): what becomes of a job's unsettled runs when a newer one is claimed.

Those that run are asked to end, wherever they are, by the same mark in the ledger as a cancelled run; those
that wait are cancelled. All of it travels in the fenced write that claims the newer run, so that no failover
finds the one without the other; only of very many that wait the first end before (`domain.ending`). The
newer run waits in its job's line until what ran has settled: asked is not ended. Backfills, which somebody
asked for, are left alone: they end in peace, and wait behind live runs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from cronexec.domain.ending import ends_ahead
from cronexec.domain.job import JobDocument
from cronexec.domain.ledger import Settle, settle_cancelled
from cronexec.domain.run import Cause, Outcome, Run, RunState
from cronexec.domain.situation import Situation

_REPLACED_BY = "replaced by "


@dataclass(frozen=True, kw_only=True, slots=True)
class Replacement:
    """`settles`: the runs that wait, or may not have started yet. `cancels`: marks, by run id.

    With `ahead` there is nothing else yet: so many runs are to end before.
    """

    settles: tuple[Settle, ...] = ()
    cancels: Mapping[str, str] = field(default_factory=dict)
    ahead: tuple[Settle, ...] = ()


def replaces(document: JobDocument, run: Run) -> bool:
    """Whether a run that is claimed takes the place of others; one that catches up waits."""
    return document.overlap.replaces and run.state is RunState.QUEUED and not run.catch_up


def replacement(
    run: Run, unsettled: Iterable[Run], at: datetime, *, asked: Collection[str] = ()
) -> Replacement:
    """Return what `run` does to the other runs of its job. `asked`: as of `domain.ending`.

    One that is queued may start meanwhile: then it is not settled, but marked. One that a person has to
    decide on is left to that person.
    """
    others = [other for other in unsettled if other.id != run.id and _gives_way(other)]
    mark = f"{_REPLACED_BY}{run.id}"
    settle = partial(settle_cancelled, reason=cancel_reason(mark), at=at)
    if ahead := ends_ahead(others, asked, settle):
        return Replacement(ahead=ahead)
    queued = (other for other in others if other.state is RunState.QUEUED)
    return Replacement(
        settles=tuple(map(settle, queued)),
        cancels={other.id: mark for other in others},
    )


def replaced_by(entries: Sequence[Run], document: JobDocument, situation: Situation) -> Replacement:
    """Return what the newest of a command's `entries` does to the other runs of the job."""
    newest = next((entry for entry in reversed(entries) if replaces(document, entry)), None)
    if newest is None:
        return Replacement()
    return replacement(newest, situation.unsettled(newest.job), situation.at, asked=situation.asked)


def cancel_reason(asked_by: str) -> str:
    """Return why a run was cancelled that bears the mark `asked_by`: somebody's name, or a newer run's."""
    return asked_by if asked_by.startswith(_REPLACED_BY) else f"cancelled by {asked_by}"


def cancellation(asked_by: str) -> Outcome:
    """Return the outcome of a run that bears the mark `asked_by`."""
    return Outcome(state=RunState.CANCELLED, reason=cancel_reason(asked_by))


def _gives_way(run: Run) -> bool:
    return not run.state.is_final and run.cause is not Cause.BACKFILL
