"""How long a run still takes, from how long those of its job took: for people who wait for it.

Only what took longer than this run has taken by now says anything: of a job that usually takes a minute and
sometimes an hour, a run that is two minutes old is one of the long ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAST_RUNS = 20  # the newest succeeded runs of a job, from which it is told
LONG = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Remaining:
    """Seconds: the median, and what nine of ten do not exceed."""

    likely_s: float
    long_s: float


def remaining(durations_s: Iterable[float], elapsed_s: float) -> Remaining | None:
    """Return what a run of that age still takes; None where no past run took longer."""
    left = sorted(duration - elapsed_s for duration in durations_s if duration > elapsed_s)
    if not left:
        return None
    return Remaining(likely_s=_quantile(left, 0.5), long_s=_quantile(left, LONG))


def remaining_together(each: Iterable[Remaining | None]) -> Remaining | None:
    """Return when the last of several has ended; those of which nothing is known are left out."""
    known = [one for one in each if one is not None]
    if not known:
        return None
    return Remaining(likely_s=max(one.likely_s for one in known), long_s=max(one.long_s for one in known))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
