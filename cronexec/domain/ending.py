"""Ending many runs at once: one command, or one newer run that replaces others, may end 100,000 that wait.

A fenced write must not outlast the lease. So once what is applied or claimed in it has ended `MOST_ENDED`,
the rest waits for the next. Where one thing alone ends more, the first of them end *ahead*, in writes of
their own, and it is decided anew after each; it comes into effect with the last. Should the term end
half-way, the next holder decides it: a command as it was sent, a slot by its misfire policy, should it be
later than its grace by then.
"""

from collections.abc import Callable, Collection, Iterable
from itertools import islice

from cronexec.domain.ledger import Settle
from cronexec.domain.run import Run, RunState

MOST_ENDED = 2_000


def ends_ahead(
    runs: Iterable[Run], asked: Collection[str], settle: Callable[[Run], Settle]
) -> tuple[Settle, ...]:
    """Return what ends the first of the queued runs, where they are more than one write takes; else nothing.

    `asked`: the ids of those that earlier writes were to end. What is left of these had started before.
    """
    queued = (run for run in runs if run.state is RunState.QUEUED and run.id not in asked)
    first = list(islice(queued, MOST_ENDED + 1))
    return tuple(settle(run) for run in first[:MOST_ENDED]) if len(first) > MOST_ENDED else ()
