"""The evidence against the ledger: what ran, once, in time, by the right term, there, and while it might.

A start by the term of epoch *e* is wrong when a later epoch had made its first claim more than `fence`
seconds before, both by the ledger's `started_at` and by the evidence: a start that was committed in time may
begin its work late, for instance in a process that was frozen in between, and is the instance's, not the
term's. It is wrong as well when its epoch is not the one that the entry carries: the one that claimed or
adopted the run; when no term of that epoch ever wrote anything; and when the entry was claimed by a term
that was over.

An attempt that was abandoned must have been under way when its instance was killed: not begun, or recorded,
long before, and not given up before. An outcome after a kill cannot be the instance's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from checker_ends import NO_CONNECTION
from checker_history import Entry, Former, History
from checker_report import Report, Tolerances
from checker_timeline import Timeline
from evidence import NOBODY, Work

STARTED = {"running", "succeeded", "failed", "timed_out", "abandoned", "cancelled"}
LEAVES_EVIDENCE = {"succeeded", "failed"}
LATE = (1, 10, 60)  # seconds, for the figures


class Evidence:
    """All work of a history, beside all entries."""

    def __init__(
        self,
        history: History,
        timelines: Mapping[str, Timeline],
        *,
        tolerances: Tolerances,
        report: Report,
    ) -> None:
        self._history = history
        self._timelines = timelines
        self._tolerances = tolerances
        self._report = report
        self._entries = {entry.id: entry for entry in history.entries}
        first_claims = history.first_claims()
        self._superseded = _superseded(first_claims)
        self._holders = {step.epoch: step.holder for step in history.steps if step.holder is not None}
        self._by_run: dict[str, list[Work]] = defaultdict(list)
        for work in history.work:
            self._by_run[work.run].append(work)

    def check(self) -> None:
        for run, works in self._by_run.items():
            self._once(run, works)
            if (entry := self._entries.get(run)) is None:
                self._report.find("without_entry", run=run, times=len(works))
            else:
                for work in works:
                    self._fits(work, entry)
        for entry in self._history.entries:
            self._claimed_in_time(entry)
            for tried in entry.tries():
                self._report.running_at_kills += self._was_running_at_kill(tried)
                if tried.state in LEAVES_EVIDENCE:
                    self._ended(entry, tried)
                elif tried.state == "abandoned":
                    self._abandoned(entry, tried)

    def _claimed_in_time(self, entry: Entry) -> None:
        """Check that the term which claimed an entry was not over, and that its slot had come."""
        claimed_at = entry.claimed_at or 0.0
        over_at = self._superseded.get(entry.epoch)
        if over_at is None:
            why = f"no term of epoch {entry.epoch} has claimed anything"
            self._report.find("wrong_epoch", entry=entry.id, why=why)
        elif claimed_at > over_at + self._tolerances.change:
            why = f"epoch {entry.epoch} was over {claimed_at - over_at:.1f} s before the claim"
            self._report.find("wrong_epoch", entry=entry.id, why=why)
        by_seconds = entry.slot - claimed_at
        if entry.cause == "schedule" and entry.reason != "paused" and by_seconds > self._tolerances.change:
            self._report.find("early", entry=entry.id, by_seconds=by_seconds)

    def _ended(self, entry: Entry, tried: Former) -> None:
        """Check that what has an outcome did its work, to the end, and that its instance could tell."""
        work = self._work_of(entry, tried)
        if work is None:
            if not (tried.error or "").startswith(NO_CONNECTION):  # those are judged in `checker_ends`
                self._report.find("without_evidence", entry=entry.id, executor=tried.executor)
            return
        finished_at = tried.finished_at or 0.0
        if work.ended_at is None or work.ended_at > finished_at + self._tolerances.fence:
            self._report.find("ended_later", entry=entry.id, finished_at=finished_at, ended_at=work.ended_at)
        if (
            finished_at
            > self._history.killed.get(tried.executor or "", float("inf")) + self._tolerances.fence
        ):
            self._report.find("outlived", entry=entry.id, executor=tried.executor)

    def _once(self, run: str, works: Iterable[Work]) -> None:
        for attempt, times in Counter(work.attempt for work in works).items():
            if times > 1:
                began = [(work.began_at, work.instance, work.epoch) for work in works]
                self._report.find("doubled", run=run, attempt=attempt, began=began)

    def _fits(self, work: Work, entry: Entry) -> None:
        tried = next((each for each in entry.tries() if each.attempt == work.attempt), None)
        is_started = tried is not None and tried.state in STARTED
        if tried is None or not is_started or (tried.started_at is None and tried.state != "abandoned"):
            self._report.find("ran_though_not_started", run=work.run, state=entry.state, by=work.instance)
        if (work.job, work.slot) != (entry.job, entry.slot) or work.attempt > entry.attempt:
            told = (work.job, work.slot, work.attempt)
            self._report.find("wrong_identity", run=work.run, told=told, attempt=entry.attempt)
        elif tried is not None and work.instance not in {NOBODY, tried.executor}:
            self._report.find("wrong_identity", run=work.run, by=work.instance, executor=tried.executor)
        elif tried is not None and tried.executor not in {None, self._holders.get(work.epoch)}:
            self._wrong_epoch(work, f"{tried.executor} did not hold under epoch {work.epoch}")
        started_at = tried.started_at if tried is not None else None
        if started_at is not None and work.began_at < started_at - self._tolerances.fence:
            began = (work.began_at, started_at)
            self._report.find("ran_though_not_started", run=work.run, began=began, by=work.instance)
        self._fenced(work, entry, started_at)
        self._allowed(work, entry, started_at)
        if entry.cause == "schedule" and work.attempt == 1:
            self._in_time(work, entry)

    def _fenced(self, work: Work, entry: Entry, started_at: float | None) -> None:
        superseded_at = self._superseded.get(work.epoch, 0.0) + self._tolerances.fence
        by_ledger = started_at if started_at is not None else work.began_at
        if min(work.began_at, by_ledger) > superseded_at:
            self._wrong_epoch(work, f"epoch {work.epoch} was over {work.began_at - superseded_at:.1f} s ago")
        elif work.attempt == entry.attempt and work.epoch != entry.epoch:
            self._wrong_epoch(work, f"the ledger has epoch {entry.epoch}, the evidence {work.epoch}")

    def _wrong_epoch(self, work: Work, why: str) -> None:
        self._report.find("wrong_epoch", run=work.run, by=work.instance, began_at=work.began_at, why=why)

    def _allowed(self, work: Work, entry: Entry, started_at: float | None) -> None:
        """Check that the job was there, and not paused, when the work was started."""
        timeline = self._timelines.get(work.job)
        state = timeline.certain(work.began_at) if timeline is not None else None
        if state is None or state.is_active:
            return
        if started_at is not None and started_at <= state.hi:
            return  # what runs goes on
        if state.document is None:
            self._report.find("ran_while_deleted", run=work.run, began_at=work.began_at)
        elif entry.cause == "schedule":
            self._report.find("ran_while_paused", run=work.run, began_at=work.began_at)

    def _in_time(self, work: Work, entry: Entry) -> None:
        lateness = work.began_at - entry.slot
        if lateness < -self._tolerances.early:
            self._report.find("early", run=work.run, by_seconds=-lateness)
        for limit in LATE:
            self._report.late[f"> {limit} s"] += lateness > limit
        if lateness > self._tolerances.late and not self._disturbed(entry.slot, work.began_at):
            self._report.find("late", run=work.run, seconds=lateness)

    def _disturbed(self, since: float, until: float) -> bool:
        return self._history.disturbed(since, until, recovery=self._tolerances.recovery)

    def _work_of(self, entry: Entry, tried: Former) -> Work | None:
        works = self._by_run.get(entry.id, ())
        return next((work for work in works if work.attempt == tried.attempt), None)

    def _was_running_at_kill(self, tried: Former) -> bool:
        killed_at = self._history.killed.get(tried.executor or "")
        if killed_at is None or tried.started_at is None or tried.started_at > killed_at:
            return False
        return tried.finished_at is None or tried.finished_at > killed_at

    def _abandoned(self, entry: Entry, tried: Former) -> None:
        """Check that an abandoned attempt was under way when its instance was killed."""
        killed_at = self._history.killed.get(tried.executor or "")
        started_at, given_up_at = tried.started_at or 0.0, tried.finished_at or float("inf")
        away = self._history.was_away(tried.executor, started_at, given_up_at)
        too_soon = given_up_at < (killed_at or 0.0) and away < self._tolerances.given_up_after
        if killed_at is None or started_at > killed_at + self._tolerances.early or too_soon:
            self._report.find("abandoned_without_kill", entry=entry.id, executor=tried.executor)
            return
        work = self._work_of(entry, tried)
        if work is None:
            how, since = "before its work began", started_at
        elif work.ended_at is None:
            how, since = "within its work", work.began_at
        else:
            how, since = "before its outcome was recorded", work.ended_at
        self._report.abandoned[how] += 1
        over_by = since + self._tolerances.under_way
        if over_by < killed_at and not self._disturbed(since, over_by):
            self._report.find("hung", entry=entry.id, how=how, seconds=killed_at - since)


def _superseded(first_claims: Mapping[int, float]) -> dict[int, float]:
    """Return, by epoch, when the first claim of any later one was made."""
    found: dict[int, float] = {}
    earliest = float("inf")
    for epoch in sorted(first_claims, reverse=True):
        found[epoch] = earliest
        earliest = min(earliest, first_claims[epoch])
    return found
