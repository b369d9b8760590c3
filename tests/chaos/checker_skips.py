"""Whether what did not run had a reason: skips, cancellations, failures, and what is not over.

A misfire must be later than its grace, and unwanted by its policy: under `latest` a newer slot was decided
with it, under `all` there were more than the limit. What is excluded must be so by the schedule, and what the
schedule excludes must not have run. An overlap needs an earlier run of the job that was not over. A
cancellation needs somebody who asked: for the run, or by deleting or pausing the job. A failure needs an
instance that stood still meanwhile: a webhook's connection, say, was then not made in time.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from checker_due import due, excluded, length
from checker_history import Entry, Former, Sent
from checker_report import Report, Tolerances
from checker_timeline import Timeline

DEFAULT_GRACE = 60
DEFAULT_LIMIT = 100
REPLACED_BY = "replaced by "
Document = Mapping[str, Any]


class JobSkips:
    """One job's entries that are no proper runs."""

    def __init__(
        self, timeline: Timeline, entries: Sequence[Entry], *, tolerances: Tolerances, report: Report
    ) -> None:
        self._documents = {
            state.version: state.document for state in timeline.states if state.document is not None
        }
        self._timeline = timeline
        self._entries = sorted(entries, key=lambda entry: entry.slot)
        self._ran = [entry for entry in self._entries if not entry.is_skip]
        self._tolerances = tolerances
        self._report = report

    def check(self) -> None:
        for entry in self._entries:
            document = self._documents.get(entry.version)
            if document is None:
                continue
            if not entry.is_skip:
                if entry.cause == "schedule" and excluded(document, entry.slot):
                    self._report.find("ran_while_excluded", entry=entry.id)
                continue
            if entry.reason == "misfire":
                why = self._why_no_misfire(entry, document)
            elif entry.reason == "overlap":
                why = self._why_no_overlap(entry, document)
            elif entry.reason == "excluded":
                why = self._why_not_excluded(entry, document)
            else:  # of the others, `checker_slots` and `checker_wishes` judge
                why = "" if entry.reason in {"paused", "blackout", "skip_next"} else "no known reason"
            if why:
                self._report.find("skipped_without_cause", entry=entry.id, reason=entry.reason, why=why)

    def _why_no_misfire(self, entry: Entry, document: Document) -> str:
        misfire = document.get("misfire", {})
        policy = misfire.get("policy", "latest")
        until = entry.slot if entry.until is None else entry.until
        slots = due(document, entry.slot - 1, until)
        judged_at = entry.claimed_at or 0.0
        if slots and judged_at - slots[-1] <= length(misfire.get("grace", DEFAULT_GRACE)):
            return f"it was {judged_at - slots[-1]:.1f} s late, within its grace"
        newer = [other for other in self._decided_with(entry) if other.slot > until]
        if policy == "latest" and not newer:
            return "no newer slot was decided"
        if policy == "all" and len(newer) < misfire.get("limit", DEFAULT_LIMIT):
            return "there were fewer than the limit"
        return ""

    def _decided_with(self, entry: Entry) -> list[Entry]:
        """Return later entries that a decision at that instant may have made, other than misfires."""
        first = bisect_left(self._entries, entry.slot + 1, key=lambda other: other.slot)
        return [
            other
            for other in self._entries[first:]
            if other.reason not in {"misfire", "excluded", "blackout", "skip_next"}
            and other.slot <= (entry.claimed_at or 0.0)
        ]

    def _why_not_excluded(self, entry: Entry, document: Document) -> str:
        slots = due(document, entry.slot - 1, entry.slot if entry.until is None else entry.until)
        wanted = [slot for slot in slots if not excluded(document, slot)]
        return f"its schedule wants {len(wanted)} of its {len(slots)} slots" if wanted or not slots else ""

    def _why_no_overlap(self, entry: Entry, document: Document) -> str:
        if overlap_of(document) == "allow" and "max_running" not in document["overlap"]:
            return "the job allows overlaps"
        decided_at = entry.claimed_at or 0.0
        if any(self._may_be_in_the_way(other, decided_at) for other in self._ran):
            return ""
        return "no run of the job was in the way"

    def _may_be_in_the_way(self, other: Entry, decided_at: float) -> bool:
        """Whether a run was claimed by then, and not surely over as far as the holder could know."""
        claimed_at = other.claimed_at or 0.0
        over_at = float("inf") if other.finished_at is None else other.finished_at
        return claimed_at <= decided_at <= over_at + self._tolerances.settle


def overlap_of(document: Document) -> str:
    """Return the overlap policy that a document asks for."""
    overlap = document.get("overlap", "queue")
    policy: str = overlap if isinstance(overlap, str) else overlap["policy"]
    return policy


class JobRuns:
    """One job's runs whose end is not what their target gives."""

    def __init__(
        self,
        timeline: Timeline,
        entries: Sequence[Entry],
        commands: Sequence[Sent],
        cancelled: Mapping[str, Sent],
        *,
        stood_still: Callable[[Former], bool],
        tolerances: Tolerances,
        report: Report,
    ) -> None:
        self._timeline = timeline
        self._entries = entries
        self._stood_still = stood_still
        self._ends = [sent for sent in commands if sent.type in {"job.delete", "job.pause"}]
        self._cancelled = cancelled
        self._tolerances = tolerances
        self._report = report

    def check(self) -> None:
        for entry in self._entries:
            if entry.state in {"queued", "running"}:
                self._report.find("unsettled", entry=entry.id, state=entry.state)
            elif entry.state in {"failed", "timed_out"} and not self._stood_still(entry.tries()[-1]):
                self._report.find("failed", entry=entry.id, state=entry.state, reason=entry.reason)
            for tried in entry.tries():
                if tried.state == "cancelled" and not self._was_asked(entry, tried):
                    self._report.find("cancelled_without_cause", entry=entry.id, reason=tried.reason)

    def _was_asked(self, entry: Entry, tried: Former) -> bool:
        """Whether somebody cancelled or replaced the run, or ended or paused its job around that time."""
        if entry.id in self._cancelled:
            return True
        if tried.reason is not None and tried.reason.startswith(REPLACED_BY):
            return self._is_replaced_by(entry, tried.reason.removeprefix(REPLACED_BY))
        at = tried.finished_at or 0.0
        change = self._tolerances.change
        return any(
            sent.sent_at - change <= at <= (sent.replied_at or float("inf")) + change for sent in self._ends
        )

    def _is_replaced_by(self, entry: Entry, successor: str) -> bool:
        """Whether there is a later run of the job under that id, and the job replaces its runs."""
        later = any(other.id == successor and other.slot >= entry.slot for other in self._entries)
        documents = (state.document for state in self._timeline.states if state.document is not None)
        return later and any(overlap_of(document) == "replace" for document in documents)
