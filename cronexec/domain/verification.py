"""Verification: what was due, recomputed from the versions of a job, compared with its entries in the ledger.

Invariant I1 says that every slot of every version of a job in its (from, to], up to the watermark, has
exactly one entry, or is covered by exactly one range entry, of that same version. So due slots and entries
are both walked in the order of time, version by version, and every slot is found to be accounted for, missing
or doubled; an entry for a slot that its version does not have is unexpected.

A version may begin before its put (a single instant that was past already), and two versions then have slots
in the same stretch of time. Nothing is kept but counts and the first few findings: a month of a job that runs
every second costs time, not memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cronexec.domain.job import JobVersion
from cronexec.domain.run import Run, RunState

FINDINGS_KEPT = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A slot that is not accounted for as it must be. `entries`: the ids of those that cover it."""

    job: str
    version: int
    slot: datetime
    entries: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a comparison found.

    `runs` counts entries that are runs by state, `skips` the slots that were skipped by reason. `missing`,
    `doubled` and `unexpected` are counts; `findings` has the first of each kind, by that name.
    """

    due: int = 0
    runs: Mapping[RunState, int] = field(default_factory=dict)
    skips: Mapping[str, int] = field(default_factory=dict)
    missing: int = 0
    doubled: int = 0
    unexpected: int = 0
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)

    @property
    def run(self) -> int:
        return sum(self.runs.values())

    @property
    def skipped(self) -> int:
        return sum(self.skips.values())

    @property
    def abandoned(self) -> int:
        return self.runs.get(RunState.ABANDONED, 0)

    @property
    def ok(self) -> bool:
        """Whether every due slot is accounted for exactly once, and nothing else is in the ledger."""
        return not (self.missing or self.doubled or self.unexpected)

    def __add__(self, other: "Verification") -> "Verification":
        return Verification(
            due=self.due + other.due,
            runs=Counter(self.runs) + Counter(other.runs),
            skips=Counter(self.skips) + Counter(other.skips),
            missing=self.missing + other.missing,
            doubled=self.doubled + other.doubled,
            unexpected=self.unexpected + other.unexpected,
            findings={
                kind: [*self.findings.get(kind, ()), *other.findings.get(kind, ())][:FINDINGS_KEPT]
                for kind in {**self.findings, **other.findings}
            },
        )


def verify_job(
    versions: Iterable[JobVersion], entries: Iterable[Run], *, watermark: datetime, since: datetime
) -> Verification:
    """Compare the slots in (since, watermark] of one job with its entries, given in the order of slots."""
    verifier = JobVerifier(versions, watermark=watermark, since=since)
    for entry in entries:
        verifier.take(entry)
    return verifier.finish()


class JobVerifier:
    """The same, fed entry by entry."""

    def __init__(self, versions: Iterable[JobVersion], *, watermark: datetime, since: datetime) -> None:
        self._watermark = watermark
        self._since = since
        self._tally = _Tally()
        self._walks = {
            version.version: _Walk(version, self._tally, watermark=watermark, since=since)
            for version in versions
        }

    def take(self, entry: Run) -> None:
        """Take the next entry; entries come in the order of their slots."""
        if entry.slot > self._watermark:
            return
        walk = self._walks.get(entry.version)
        if walk is not None:
            walk.take(entry)
        elif not self._is_newer(entry):
            self._tally.unexpected(entry)

    def _is_newer(self, entry: Run) -> bool:
        """Whether the entry may be of a version that was put after the versions were read."""
        return entry.claimed_at is not None and entry.claimed_at > self._watermark

    def finish(self) -> Verification:
        """Decide what is left and return the outcome."""
        for walk in self._walks.values():
            walk.finish()
        return self._tally.verification()


class _Tally:
    """Counts, and the first findings of each kind."""

    def __init__(self) -> None:
        self._due = 0
        self._runs: Counter[RunState] = Counter()
        self._skips: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._findings: dict[str, list[Finding]] = {}

    def account(self, entry: Run) -> None:
        if entry.state is RunState.SKIPPED:
            self._skips[entry.reason or "unknown"] += 1
        else:
            self._runs[entry.state] += 1

    def decide(self, version: JobVersion, slot: datetime, covering: Sequence[Run]) -> None:
        """Count one due slot with all entries that cover it."""
        self._due += 1
        if not covering:
            self._find("missing", Finding(job=version.name, version=version.version, slot=slot))
            return
        self.account(covering[0])
        if len(covering) > 1:
            ids = tuple(entry.id for entry in covering)
            self._find("doubled", Finding(job=version.name, version=version.version, slot=slot, entries=ids))

    def unexpected(self, entry: Run) -> None:
        self._find(
            "unexpected", Finding(job=entry.job, version=entry.version, slot=entry.slot, entries=(entry.id,))
        )

    def _find(self, kind: str, finding: Finding) -> None:
        self._counts[kind] += 1
        kept = self._findings.setdefault(kind, [])
        if len(kept) < FINDINGS_KEPT:
            kept.append(finding)

    def verification(self) -> Verification:
        return Verification(
            due=self._due,
            runs=self._runs,
            skips=self._skips,
            missing=self._counts["missing"],
            doubled=self._counts["doubled"],
            unexpected=self._counts["unexpected"],
            findings=self._findings,
        )


class _Walk:
    """One version: its due slots and its entries side by side.

    `_here` are the entries of the next due slot alone, `_ranges` those that may reach further.
    """

    def __init__(self, version: JobVersion, tally: _Tally, *, watermark: datetime, since: datetime) -> None:
        self._version = version
        self._tally = tally
        self._since = since
        after = max(since, version.from_at)
        until = min(watermark, version.to_at) if version.to_at else watermark
        self._due = _Peekable(version.document.schedule.slots(after, until) if after < until else iter(()))
        self._here: list[Run] = []
        self._ranges: list[Run] = []

    def take(self, entry: Run) -> None:
        self._advance(entry.slot)
        if entry.slot != self._due.head and entry.slot > self._since:
            self._tally.unexpected(entry)
        elif entry.until is not None or entry.open_ended:
            self._ranges.append(entry)
        elif entry.slot > self._since:
            self._here.append(entry)

    def finish(self) -> None:
        self._advance(None)

    def _advance(self, to: datetime | None) -> None:
        """Decide every due slot before `to`; all of them where it is None."""
        while (slot := self._due.head) is not None and (to is None or slot < to):
            self._ranges = [
                entry for entry in self._ranges if entry.open_ended or slot <= (entry.until or slot)
            ]
            self._tally.decide(self._version, slot, [*self._here, *self._ranges])
            self._here = []
            self._due.advance()


class _Peekable:
    """An iterator whose next item, `head`, can be looked at; None at the end."""

    def __init__(self, slots: Iterator[datetime]) -> None:
        self._slots = slots
        self.head: datetime | None = next(slots, None)

    def advance(self) -> None:
        self.head = next(self._slots, None)
