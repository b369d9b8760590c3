"""Attempts: whether a run was tried again as often as its job says, and as somebody asked: no more, no less.

A job of a chaos run tells in its params at which attempt its work succeeds (`succeeds_at`); an attempt before
that fails. So each run of it must end there, unless it was cancelled, or an attempt was cut off by a kill.
"""

from collections.abc import Mapping, Sequence

from checker_history import Entry
from checker_report import Report
from checker_timeline import Document, Timeline

TRIED_AGAIN = {"failed", "timed_out"}


class JobAttempts:
    """One job's runs, and how often somebody had one of them tried again (`retried`, by run)."""

    def __init__(
        self,
        timeline: Timeline,
        entries: Sequence[Entry],
        retried: Mapping[str, int],
        *,
        report: Report,
    ) -> None:
        self._documents = timeline.documents()
        self._entries = entries
        self._retried = retried
        self._report = report

    def check(self) -> None:
        for entry in self._entries:
            document = self._documents.get(entry.version)
            if entry.is_skip or document is None:
                continue
            self._report.targets[_kind(document)] += entry.state == "succeeded"
            if (why := self._why_wrong(entry, document)) != "":
                self._report.find("wrong_attempts", entry=entry.id, attempt=entry.attempt, why=why)

    def _why_wrong(self, entry: Entry, document: Document) -> str:
        if [former.attempt for former in entry.former] != list(range(1, entry.attempt)):
            return f"the former attempts are {[former.attempt for former in entry.former]}"
        retry = document.get("retry")
        most = retry["max_attempts"] if retry else 1
        by_hand = self._retried.get(entry.id, 0)
        repeats = document.get("abandoned") == "retry"
        wanted = sum(
            (former.state in TRIED_AGAIN and former.attempt < most)
            or (former.state == "abandoned" and repeats)
            for former in entry.former
        )
        if len(entry.former) > wanted + by_hand:
            return f"{wanted} attempts of {len(entry.former)} were to be followed by another"
        if len(entry.former) < by_hand:
            return f"{by_hand} times somebody had it tried again"
        succeeds_at = document.get("params", {}).get("succeeds_at", 1)
        if entry.state == "succeeded" and entry.attempt < succeeds_at:
            return f"it succeeded, and its work cannot before attempt {succeeds_at}"
        return ""


def _kind(document: Document) -> str:
    """Return what sort of a target a document has, for the figures."""
    target = document["target"]
    kind: str = target["type"]
    return kind + "".join(f", {name}: {target[name]}" for name in ("wait", "isolation") if name in target)
