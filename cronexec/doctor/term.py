"""Judges the term: whether there is a holder, and whether it keeps up."""

from collections.abc import Iterator
from datetime import timedelta

from cronexec.doctor.finding import Finding, fail, ok, warn
from cronexec.domain.term import TermRecord

NOTICEABLE_LAG = timedelta(seconds=5)


def judge_term(term: TermRecord, lost_after: timedelta) -> Iterator[Finding]:
    """Yield what is to be said of the holder; its silence counts from `lost_after` on."""
    lag = f"{term.lag.total_seconds():.1f} s"
    if term.holder_id is None:
        yield fail(
            "holder",
            "nobody holds the baton",
            "Start an instance; if several live, insert a baton: cronexec baton reinsert.",
        )
    elif term.lag > lost_after:
        yield fail(
            "holder",
            f"the schedule is {lag} behind; the last holder is {term.holder_name} (epoch {term.epoch})",
            "See its log; insert a baton if nobody takes over: cronexec baton reinsert.",
        )
    else:
        yield ok("holder", f"{term.holder_name} holds the baton (epoch {term.epoch})")
        if term.lag > NOTICEABLE_LAG:
            yield warn("lag", f"the schedule is {lag} behind", "See the holder's log and its load.")
        else:
            yield ok("lag", f"the schedule is {lag} behind")
