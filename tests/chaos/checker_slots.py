"""Every slot of a job is matched with the ledger: accounted for once, missed, doubled or unexpected.

A state of the job counts for the slots in (T, T'], where T and T' are instants within the windows of two
changes. Between the windows every slot must be accounted for exactly once, by an entry of the state's
version (and by a skip for the pause, where it was paused). Within a window the entries must agree on some T:
slots that the old state accounts for lie before it, as do those that the new one leaves out; those that the
new one accounts for lie after it, as do those that the old one leaves out. Where there is no such T, a slot
was missed or doubled.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from checker_due import due, instant
from checker_history import Entry
from checker_report import Report
from checker_timeline import State, Timeline

PAUSED = "paused"


class JobSlots:
    """One job's slots and entries; `check` finds what is wrong and counts what is right."""

    def __init__(
        self, job: str, timeline: Timeline, entries: Iterable[Entry], *, watermark: float, report: Report
    ) -> None:
        self._job = job
        self._timeline = timeline
        self._watermark = watermark
        self._report = report
        self._entries = [entry for entry in entries if entry.cause == "schedule"]
        self._single: dict[tuple[int, int], list[Entry]] = defaultdict(list)
        self._ranges: dict[int, list[Entry]] = defaultdict(list)
        self._used: set[str] = set()
        for entry in self._entries:
            if entry.until is None:
                self._single[entry.version, entry.slot].append(entry)
            else:
                self._ranges[entry.version].append(entry)

    def check(self) -> None:
        states = self._timeline.states
        if not self._timeline.clear:
            self._report.find("unclear", job=self._job)
            return
        for before, state, after in zip(states, states[1:], [*states[2:], None], strict=False):
            self._window(before, state)
            self._between(state, self._watermark if after is None else min(after.lo, self._watermark))
        for entry in self._entries:
            if entry.id not in self._used:
                self._stray(entry)

    def _between(self, state: State, until: float) -> None:
        """Check the slots after the state's window, where there is no doubt."""
        for slot in [*_passed(state), *_due(state, state.hi, until)]:
            covering = self._covering(state, slot)
            if not covering and _is_instant(state):  # it had its entry by an earlier version
                covering = [entry for entry in self._entries if entry.slot == slot]
            if not covering:
                self._report.due += 1
                self._report.find("missed", job=self._job, slot=slot, version=state.version)
            self._account(slot, covering)

    def _window(self, old: State, new: State) -> None:
        """Check the slots around a change: there must be an instant at which it can have happened."""
        until = min(new.hi, self._watermark)
        first, beyond = new.lo, float("inf")
        left_out: list[tuple[int, State]] = []
        accounted: list[tuple[int, State]] = []
        for state in (old, new):
            for slot in _due(state, new.lo, until):
                if state is new and _is_instant(state):
                    continue
                covering = self._covering(state, slot)
                self._account(slot, covering)
                (accounted if covering else left_out).append((slot, state))
                if bool(covering) is (state is old):
                    first = max(first, slot)
                else:
                    beyond = min(beyond, slot)
        if first < beyond:
            return
        missed = {
            slot: state.version
            for slot, state in left_out
            if (slot <= first if state is old else slot >= beyond)
        }
        for slot, version in missed.items():
            self._report.due += 1
            self._report.find("missed", job=self._job, slot=slot, version=version)
        if not missed:
            self._report.find("doubled", job=self._job, slot=beyond, versions=[old.version, new.version])

    def _covering(self, state: State, slot: int) -> list[Entry]:
        """Return the entries of the state's version that account for `slot` as the state demands."""
        found = self._single.get((state.version, slot), [])
        ranges = self._ranges.get(state.version, [])
        reaching = [entry for entry in ranges if entry.slot <= slot <= (entry.until or slot)]
        return [entry for entry in [*found, *reaching] if _is_of_pause(entry) is state.paused]

    def _account(self, slot: int, covering: Sequence[Entry]) -> None:
        if not covering:
            return
        self._used.update(entry.id for entry in covering)
        self._report.due += 1
        if (entry := covering[0]).is_skip:
            self._report.skips[entry.reason or "?"] += 1
        else:
            self._report.runs[entry.state] += 1
        if len(covering) > 1:
            entries = [entry.id for entry in covering]
            self._report.find("doubled", job=self._job, slot=slot, entries=entries)

    def _stray(self, entry: Entry) -> None:
        """Say what is wrong with an entry that accounts for nothing."""
        state = self._timeline.certain(entry.slot)
        kind = "unexpected"
        if state is not None and not entry.is_skip:
            kind = "ran_while_deleted" if state.document is None else kind
            kind = "ran_while_paused" if state.paused else kind
        self._report.find(kind, entry=entry.id, version=entry.version, state=entry.state)


def _due(state: State, after: float, until: float) -> list[int]:
    return [] if state.document is None or after >= until else due(state.document, after, until)


def _is_instant(state: State) -> bool:
    return state.document is not None and "at" in state.document["schedule"]


def _passed(state: State) -> list[int]:
    """Return a single instant that was past when it was put: that is decided at once."""
    if not _is_instant(state) or state.document is None or state.paused:
        return []
    slot = int(instant(state.document["schedule"]["at"]))
    return [slot] if slot <= state.hi else []


def _is_of_pause(entry: Entry) -> bool:
    return entry.is_skip and entry.reason == PAUSED
