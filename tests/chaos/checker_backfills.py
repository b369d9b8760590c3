"""Whether backfills ran what they were asked for: each slot of the past once, and what ran already as said.

The slots of a range are those of the job's schedule when the command was applied, without excluded ones. A
slot has run where there is an entry for it, by the schedule or by another backfill, that was started or is
still to be. Where that came about while the command was under way, either answer is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from checker_due import due, excluded, instant
from checker_history import Entry, Sent
from checker_report import Report
from checker_timeline import Timeline, accepted, outcome

BACKFILL = "backfill"
MILLISECOND = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """One command, applied between `lo` and `hi`, and what was due then."""

    sent: Sent
    lo: float
    hi: float
    wanted: frozenset[int]
    excluded: int

    @property
    def ran(self) -> str:
        """What was to become of slots that ran already."""
        said: str = self.sent.command.get("ran", "refuse")
        return said


class JobBackfills:
    """One job's."""

    def __init__(
        self,
        job: str,
        timeline: Timeline,
        entries: Sequence[Entry],
        *,
        tolerance: float,
        report: Report,
    ) -> None:
        self._job = job
        self._timeline = timeline
        self._tolerance = tolerance
        self._report = report
        self._entries = [entry for entry in entries if entry.cause in {"schedule", BACKFILL}]
        self._used: set[str] = set()

    def check(self, commands: Sequence[Sent], recorded: Mapping[str, Any]) -> None:
        for sent in commands:
            if sent.type != "job.backfill":
                continue
            if (window := accepted(sent, recorded, tolerance=self._tolerance)) is not None:
                self._check_accepted(self._asked(sent, *window), outcome(sent, recorded)[0] or {})
            elif (reply := outcome(sent, recorded))[0] is not None:
                self._check_refused(self._asked(sent, sent.sent_at, reply[1] + self._tolerance))
        for entry in self._entries:
            if entry.cause == BACKFILL:
                self._report.backfilled[entry.state] += 1
                if entry.id not in self._used:
                    self._report.find("unexpected", entry=entry.id, state=entry.state)

    def _asked(self, sent: Sent, lo: float, hi: float) -> _Asked:
        state = self._timeline.known(sent.sent_at, tolerance=self._tolerance)
        document = state.document or {"schedule": {"at": 0.0}}
        since, until = instant(sent.command["since"]), instant(sent.command["until"])
        slots = due(document, since - MILLISECOND, until)
        wanted = frozenset(slot for slot in slots if not excluded(document, slot))
        return _Asked(sent=sent, lo=lo, hi=hi, wanted=wanted, excluded=len(slots) - len(wanted))

    def _check_accepted(self, asked: _Asked, reply: Mapping[str, Any]) -> None:
        made = [
            entry
            for entry in self._entries
            if entry.cause == BACKFILL and entry.id in _ids(self._job, asked) and entry.id not in self._used
            if asked.lo <= (entry.claimed_at or 0.0) <= asked.hi
        ]
        self._used.update(entry.id for entry in made)
        slots = [entry.slot for entry in made]
        before, perhaps = self._ran_before(asked, {entry.id for entry in made})
        doubled = {slot for slot in slots if slots.count(slot) > 1}
        doubled |= set() if asked.ran == "again" else before & set(slots)
        missed = asked.wanted - set(slots) - (before | perhaps if asked.ran == "skip" else set())
        for kind, found in (("doubled", doubled), ("missed", missed)):
            for slot in sorted(found):
                self._report.find(kind, job=self._job, slot=slot, backfill=asked.sent.id)
        result = reply["result"]
        told = (result["queued"], result["excluded"], result["next"])
        if told != (len(made), asked.excluded, None):
            self._report.find("wrong_backfill", id=asked.sent.id, told=told, made=len(made))
        if not len(before) <= result["ran_before"] <= len(before | perhaps):
            ran = (len(before), len(before | perhaps))
            self._report.find("wrong_backfill", id=asked.sent.id, ran_before=result["ran_before"], ran=ran)

    def _check_refused(self, asked: _Asked) -> None:
        before, perhaps = self._ran_before(asked, set())
        if asked.ran != "refuse" or not before | perhaps:
            self._report.find("wrong_backfill", id=asked.sent.id, job=self._job, why="no slot had run before")

    def _ran_before(self, asked: _Asked, made: set[str]) -> tuple[set[int], set[int]]:
        """Return the slots that had surely run before, or were to, and those of which that is in doubt."""
        surely, perhaps = set(), set()
        for entry in self._entries:
            if entry.is_skip or entry.id in made or entry.slot not in asked.wanted:
                continue
            claimed_at = entry.claimed_at or 0.0
            never_started = entry.state == "cancelled" and entry.started_at is None and not entry.former
            if claimed_at < asked.lo and not never_started:
                surely.add(entry.slot)
            elif claimed_at <= asked.hi:
                perhaps.add(entry.slot)
        return surely, perhaps - surely


def _ids(job: str, asked: _Asked) -> set[str]:
    """Return the ids that the command's runs may have."""
    texts = [f"{datetime.fromtimestamp(slot, UTC):%Y-%m-%dT%H:%M:%SZ}" for slot in asked.wanted]
    first = {f"{job}#{BACKFILL}:{text}" for text in texts}
    return first | {f"{each}:{asked.sent.id}" for each in first}
