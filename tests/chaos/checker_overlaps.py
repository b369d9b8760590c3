"""Whether a job's runs were under way one beside the other only as far as its overlap policy lets them.

By the evidence: work lasts from its beginning to its end; that which has none (its instance was killed, it
was cancelled) to what ended it, by the driver's log and by the ledger. Who was away for so long that it was
given up may still be at it: that is left out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from checker_history import Entry, Former
from checker_report import Report, Tolerances
from checker_skips import most_at_once
from checker_timeline import Timeline
from evidence import Work

ABOUT = 0.5  # of two processes' evidence, and of the ledger beside it


class JobOverlaps:
    """One job's work. `was_away`: for how long an instance was harmed at most between two instants."""

    def __init__(
        self,
        timeline: Timeline,
        entries: Iterable[Entry],
        work: Sequence[Work],
        *,
        killed: Mapping[str, float],
        was_away: Callable[[str | None, float, float], float],
        tolerances: Tolerances,
        report: Report,
    ) -> None:
        self._documents = timeline.documents().values()
        self._tries = {(entry.id, tried.attempt): tried for entry in entries for tried in entry.tries()}
        self._work = work
        self._killed = killed
        self._was_away = was_away
        self._given_up_after = tolerances.given_up_after
        self._report = report

    def check(self) -> None:
        bounds = [most_at_once(document) for document in self._documents]
        if None in bounds or not bounds:
            return
        most = max(bound for bound in bounds if bound is not None)
        under_way: list[tuple[float, Work]] = []
        for work in sorted(self._work, key=lambda each: each.began_at):
            under_way = [(end, each) for end, each in under_way if end - ABOUT > work.began_at]
            if len(under_way) >= most:
                beside = [each.run for _, each in under_way]
                self._report.find("overlapped", run=work.run, beside=beside, most=most)
            if (end := self._end(work)) is not None:
                under_way.append((end, work))

    def _end(self, work: Work) -> float | None:
        """Return when the work was over; None where nobody can know."""
        tried = self._tries.get((work.run, work.attempt))
        if tried is None or self._was_given_up(work, tried):
            return None
        ends = [work.ended_at, self._killed.get(tried.executor or "")]
        if tried.state != "abandoned":
            ends.append(tried.finished_at)
        return min((end for end in ends if end is not None), default=float("inf"))

    def _was_given_up(self, work: Work, tried: Former) -> bool:
        until = work.ended_at or tried.finished_at or float("inf")
        return self._was_away(tried.executor, work.began_at, until) >= self._given_up_after
