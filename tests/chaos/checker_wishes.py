"""Whether windows and slots skipped once were kept: what somebody asked to have skipped, and no other slot.

A command counts from some instant between its sending and its reply (give or take the tolerance) on. A skip
must have somebody who may have asked for it by then; a slot that was surely asked for, and surely not taken
back before it came due, must not have run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checker_due import due, instant
from checker_history import Entry, Sent
from checker_report import Report
from checker_timeline import outcome

NEVER = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wish:
    """That slots are skipped: those in [first, last], or `slots`.

    Asked for in (`lo`, `hi`), and taken back in (`back_lo`, `back_hi`) if at all.
    """

    reason: str
    lo: float
    hi: float
    first: float = 0.0
    last: float = 0.0
    slots: frozenset[int] = frozenset()
    back_lo: float = NEVER
    back_hi: float = NEVER

    def is_about(self, slot: int) -> bool:
        return slot in self.slots or self.first <= slot <= self.last

    def may_hold(self, slot: int) -> bool:
        return self.is_about(slot) and self.lo < slot <= self.back_hi

    def must_hold(self, slot: int) -> bool:
        return self.is_about(slot) and self.hi < slot <= self.back_lo


class JobWishes:
    """One job's."""

    def __init__(
        self,
        commands: Sequence[Sent],
        recorded: Mapping[str, Mapping[str, Any]],
        *,
        tolerance: float,
        report: Report,
    ) -> None:
        self._tolerance = tolerance
        self._wishes = list(self._read(commands, recorded))
        self._report = report

    def _read(self, commands: Sequence[Sent], recorded: Mapping[str, Mapping[str, Any]]) -> Iterator[_Wish]:
        """Yield what was asked for, with the command that took it back."""
        done: list[tuple[Sent, Mapping[str, Any], float, float]] = []
        for sent in commands:
            reply, until = outcome(sent, recorded)
            if reply is not None and reply["ok"]:
                lo, hi = sent.sent_at - self._tolerance, until + self._tolerance
                done.append((sent, reply["result"], lo, hi))
        for number, (sent, result, lo, hi) in enumerate(done):
            ending = {"job.blackout": "job.unblackout", "job.skip": "job.skip"}.get(sent.type)
            later = [other for other in done[number + 1 :] if other[0].type in {ending, "job.delete"}]
            back_lo, back_hi = later[0][2:] if later else (NEVER, NEVER)
            if sent.type == "job.blackout":
                first = instant(sent.command["start"]) if "start" in sent.command else lo
                last = instant(sent.command["end"])
                yield _Wish(
                    reason="blackout", lo=lo, hi=hi, first=first, last=last, back_lo=back_lo, back_hi=back_hi
                )
            elif sent.type == "job.skip":
                slots = frozenset(int(instant(slot)) for slot in result["skipped"])
                yield _Wish(reason="skip_next", lo=lo, hi=hi, slots=slots, back_lo=back_lo, back_hi=back_hi)

    def check(self, entries: Sequence[Entry], documents: Mapping[int, Mapping[str, Any]]) -> None:
        for entry in entries:
            if entry.cause != "schedule":
                continue
            if not entry.is_skip and (broken := self._must_hold(entry.slot)):
                self._report.find("ran_although_skipped", entry=entry.id, reason=broken.reason)
            if entry.is_skip and entry.reason in {"blackout", "skip_next"} and entry.version in documents:
                for slot in self._not_asked(entry, documents[entry.version]):
                    why = f"nobody asked for {slot}"
                    self._report.find("skipped_without_cause", entry=entry.id, reason=entry.reason, why=why)

    def _must_hold(self, slot: int) -> _Wish | None:
        return next((wish for wish in self._wishes if wish.must_hold(slot)), None)

    def _not_asked(self, entry: Entry, document: Mapping[str, Any]) -> list[int]:
        """Return the slots that the entry covers and of which nobody may have asked that they be skipped."""
        wishes = [wish for wish in self._wishes if wish.reason == entry.reason]
        slots = due(document, entry.slot - 1, entry.slot if entry.until is None else entry.until)
        return [slot for slot in slots if not any(wish.may_hold(slot) for wish in wishes)]
