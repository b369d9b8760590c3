"""Whether what did not run had a reason, and what was missed and ran all the same was wanted.

A misfire must be later than its grace, and unwanted: older than its window; or, under `latest`, a newer slot
was decided with it; or, under `all`, as many as the limit were. What a policy does not want must not have
run, either. What is excluded must be so by the schedule, and what the schedule excludes must not have run. An
overlap needs as many earlier runs of the job, none of them over, as its policy lets run and wait; under
`replace`, a newer slot that was decided with it will do.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from checker_due import due, excluded, length
from checker_history import Entry
from checker_report import Report, Tolerances
from checker_timeline import Timeline

DEFAULT_GRACE = 60
DEFAULT_LIMIT = 100
MILLISECOND = 0.001
NOT_WANTED = {"misfire", "excluded", "blackout", "skip_next", "paused"}
ON_WISH = {"blackout", "skip_next"}
Document = Mapping[str, Any]


class JobSkips:
    """One job's slots, as its policies decide them.

    `disturbed`: whether there was a fault between two instants.
    """

    def __init__(
        self,
        timeline: Timeline,
        entries: Sequence[Entry],
        *,
        disturbed: Callable[[float, float], bool],
        tolerances: Tolerances,
        report: Report,
    ) -> None:
        self._documents = timeline.documents()
        self._entries = sorted(
            (entry for entry in entries if entry.cause == "schedule"), key=lambda entry: entry.slot
        )
        self._ran = [entry for entry in entries if not entry.is_skip]
        self._on_wish = [entry for entry in self._entries if entry.reason in ON_WISH]
        self._disturbed = disturbed
        self._tolerances = tolerances
        self._report = report

    def check(self) -> None:
        for entry in self._entries:
            if (document := self._documents.get(entry.version)) is None:
                continue
            if entry.is_skip:
                self._check_skip(entry, document)
            elif excluded(document, entry.slot):
                self._report.find("ran_while_excluded", entry=entry.id)
            elif why := self._why_not_wanted(entry, document):
                self._report.find("ran_though_missed", entry=entry.id, why=why)

    def _check_skip(self, entry: Entry, document: Document) -> None:
        match entry.reason:
            case "misfire":
                why = self._why_no_misfire(entry, document)
            case "overlap":
                why = self._why_no_overlap(entry, document)
            case "excluded":
                why = self._why_not_excluded(entry, document)
            case "paused" | "blackout" | "skip_next":  # `checker_slots` and `checker_wishes` judge
                why = ""
            case _:
                why = "no known reason"
        if why:
            self._report.find("skipped_without_cause", entry=entry.id, reason=entry.reason, why=why)

    # --- missed slots ---

    def _why_no_misfire(self, entry: Entry, document: Document) -> str:
        until = entry.slot if entry.until is None else entry.until
        slots = due(document, entry.slot - 1, until)
        lateness = (entry.claimed_at or 0.0) - (slots[-1] if slots else until)
        if not _is_missed(lateness, document):
            return f"it was {lateness:.1f} s late, within its grace"
        if _is_beyond_window(lateness, document):
            return ""
        policy, limit = _policy(document)
        newer = self._decided_with(entry, until)
        if policy == "latest" and not newer:
            return "no newer slot was decided"
        if policy == "all" and newer < limit:
            return "there were fewer than the limit"
        return ""

    def _decided_with(self, entry: Entry, after: float) -> int:
        """Return how many later slots a decision at that instant has made into something else."""
        first = bisect_left(self._entries, after + 1, key=lambda other: other.slot)
        return sum(
            other.reason not in NOT_WANTED and other.slot <= (entry.claimed_at or 0.0)
            for other in self._entries[first:]
        )

    def _why_not_wanted(self, entry: Entry, document: Document) -> str:
        """Return why a slot that was found too late should not have run, if there is a reason."""
        decided_at = entry.claimed_at or 0.0
        lateness = decided_at - entry.slot
        if not _is_missed(lateness - MILLISECOND, document):
            return ""
        if _is_beyond_window(lateness - MILLISECOND, document):
            return f"it was {lateness:.1f} s late, and the window is {document['misfire']['window']}"
        policy, limit = _policy(document)
        if policy == "skip":
            return f"it was {lateness:.1f} s late, and no such slot is wanted"
        newer = list(self._wanted(document, entry.slot, decided_at))
        if policy == "latest":
            return f"the slot {newer[-1]} was decided with it" if newer else ""
        missed = [slot for slot in newer if _is_missed(decided_at - slot - MILLISECOND, document)]
        return f"{len(missed)} newer ones were missed as well" if len(missed) >= limit else ""

    def _wanted(self, document: Document, after: float, until: float) -> Iterator[int]:
        for slot in due(document, after, until):
            if not excluded(document, slot) and not any(_covers(entry, slot) for entry in self._on_wish):
                yield slot

    # --- exclusions and overlaps ---

    def _why_not_excluded(self, entry: Entry, document: Document) -> str:
        slots = due(document, entry.slot - 1, entry.slot if entry.until is None else entry.until)
        wanted = [slot for slot in slots if not excluded(document, slot)]
        return f"its schedule wants {len(wanted)} of its {len(slots)} slots" if wanted or not slots else ""

    def _why_no_overlap(self, entry: Entry, document: Document) -> str:
        if most_at_once(document) is None:
            return "the job allows overlaps"
        if overlap_of(document) == "replace" and self._is_outdone(entry):
            return ""
        decided_at, last = entry.claimed_at or 0.0, entry.slot if entry.until is None else entry.until
        kinds = {_is_missed(decided_at - slot, document) for slot in (entry.slot, last)}
        places = max(places_of(document, is_missed=is_missed) for is_missed in kinds)
        there = sum(self._may_be_in_the_way(other, entry) for other in self._ran)
        return "" if there >= places else f"{there} runs were in the way, and there are {places} places"

    def _is_outdone(self, entry: Entry) -> bool:
        """Whether a newer slot was decided with it, which would have replaced its run at once."""
        last = entry.slot if entry.until is None else entry.until
        return any(
            other.slot > last and other.claimed_at == entry.claimed_at and not other.is_skip
            for other in self._entries
        )

    def _may_be_in_the_way(self, other: Entry, entry: Entry) -> bool:
        """Whether a run was claimed before, and not surely over as far as the holder could know."""
        decided_at, claimed_at = entry.claimed_at or 0.0, other.first_claimed_at
        if claimed_at > decided_at or (claimed_at == decided_at and other.slot > entry.slot):
            return False
        over_at = float("inf") if other.finished_at is None else other.finished_at
        if decided_at <= over_at + self._tolerances.known:
            return True
        return decided_at <= over_at + self._tolerances.settle and self._disturbed(over_at, decided_at)


def _policy(document: Document) -> tuple[str, int]:
    """Return what the document wants of missed slots, and how many at most under `all`."""
    misfire = document.get("misfire", {})
    return misfire.get("policy", "latest"), misfire.get("limit", DEFAULT_LIMIT)


def _is_missed(lateness: float, document: Document) -> bool:
    return lateness > length(document.get("misfire", {}).get("grace", DEFAULT_GRACE))


def _is_beyond_window(lateness: float, document: Document) -> bool:
    window = document.get("misfire", {}).get("window")
    return window is not None and lateness > length(window)


def _covers(entry: Entry, slot: int) -> bool:
    return entry.slot <= slot <= (entry.slot if entry.until is None else entry.until)


def overlap_of(document: Document) -> str:
    """Return the overlap policy that a document asks for."""
    overlap = document.get("overlap", "queue")
    policy: str = overlap if isinstance(overlap, str) else overlap["policy"]
    return policy


def most_at_once(document: Document) -> int | None:
    """Return how many runs of a job may be under way at the same time; None for any number."""
    overlap = document.get("overlap", "queue")
    fields = {"policy": overlap} if isinstance(overlap, str) else overlap
    most: int | None = fields.get("max_running") if fields["policy"] == "allow" else 1
    return most


def places_of(document: Document, *, is_missed: bool) -> int:
    """Return how many runs, under way and waiting, a job has before a slot is skipped."""
    most = most_at_once(document) or 0
    policy, limit = _policy(document)
    overlap = document.get("overlap", "queue")
    if overlap_of(document) == "skip":
        return most
    if is_missed:
        return most + (limit if policy == "all" else 1)
    return most + (1 if isinstance(overlap, str) else overlap.get("queue_limit", 1))
