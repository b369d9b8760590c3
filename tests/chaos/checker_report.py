"""What the checker has found: counts, and the first few of each kind of violation."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

KEPT = 20
BEATS = 6.0  # seconds

VIOLATIONS = {
    "missed": "a slot was due and nothing in the ledger accounts for it",
    "doubled": "a slot is accounted for twice, or an attempt began twice",
    "unexpected": "an entry is for a slot that its version of the job does not have",
    "ran_while_paused": "a run for a slot of a pause, or begun in it",
    "ran_while_excluded": "a run for a slot that its schedule excludes",
    "ran_although_skipped": "a run for a slot of a blackout window, or for one that was to be skipped once",
    "ran_while_deleted": "a run for a slot after the job's end, or begun then",
    "ran_though_missed": "a run for a slot that was found too late for what its job wants",
    "skipped_without_cause": "a skip whose reason does not hold",
    "overlapped": "more runs of a job were under way than its overlap policy lets be",
    "cancelled_without_cause": "a run was cancelled, and nobody had asked",
    "ran_although_cancelled": "a run was started after it had been cancelled",
    "failed": "an attempt failed although its work cannot",
    "wrong_attempts": "a run was tried more or less often than was wanted, or succeeded too early",
    "unsettled": "a run is not over although everything has settled",
    "early": "the work began before its slot",
    "late": "the work began late although nothing was wrong",
    "wrong_epoch": "a claim or a start by a term after a later one's first claim, or by none that claimed it",
    "ran_though_not_started": "the work was done for an entry that was never started, or before it was",
    "wrong_identity": "a run was told another job, slot or attempt than the ledger has, or ran elsewhere",
    "without_evidence": "a run succeeded and left no evidence",
    "ended_later": "an outcome was recorded before the work had ended",
    "outlived": "an outcome was recorded for an instance that was dead by then",
    "without_entry": "there is evidence for which the ledger has no entry",
    "abandoned_without_kill": "a run was abandoned and its instance was not killed while it ran",
    "hung": "an attempt stood still long before its instance was killed, and nothing was wrong",
    "wrong_backfill": "a backfill was answered otherwise than its range and its job demand",
    "lost_command": "the broker confirmed a command and nobody ever applied or rejected it",
    "unrecorded_command": "a command was answered and is not in the audit log as it was answered",
    "wrongly_answered": "a command was refused, or accepted, and should not have been",
    "unsent_command": "a command is in the audit log that nobody sent",
    "trigger_without_run": "a trigger was answered with a run that is not in the ledger",
    "term_went_back": "an epoch, its sequence or the watermark went back",
    "unclear": "two changes of a job were too close to each other to be told apart",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerances:
    """In seconds.

    `change`: between a command's application and its message or reply (the fence lets the holder's clock be
    1 s ahead). `early`: of the clock by which slots come due. `fence`: by which a committed start may begin
    after the next term's first claim. `late`: beyond which work is late. `recovery`: after a fault is healed.
    `known`: until the holder knows that a run is over, wherever it ran; `settle`: the same in a fault.
    `lost_after`: how long an instance may be away before its runs are given up. `under_way`: how long a run
    may last, and its outcome take to be recorded, where nothing is wrong.
    """

    change: float = 1.25
    early: float = 0.3
    fence: float = 2.0
    late: float = 30.0
    recovery: float = 30.0
    known: float = 10.0
    settle: float = 75.0
    lost_after: float = 60.0
    under_way: float = 30.0

    @property
    def given_up_after(self) -> float:
        """Seconds after which an instance's runs may be given up: a heartbeat is old when it goes away."""
        return self.lost_after - BEATS


@dataclass
class Report:
    """`ok` where there is no violation; figures and counts are only told."""

    due: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    triggered: Counter[str] = field(default_factory=Counter)
    backfilled: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    abandoned: Counter[str] = field(default_factory=Counter)
    running_at_kills: int = 0
    late: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def ok(self) -> bool:
        return not self.counts

    def find(self, violation: str, **what: Any) -> None:
        """Note a violation, one of `VIOLATIONS`."""
        assert violation in VIOLATIONS, violation
        self.counts[violation] += 1
        if len(self.first[violation]) < KEPT:
            self.first[violation].append(what)

    def to_json(self) -> dict[str, Any]:
        return {
            "due": self.due,
            "run": sum(self.runs.values()),
            "runs": dict(self.runs),
            "skipped": dict(self.skips),
            "triggered": dict(self.triggered),
            "backfilled": dict(self.backfilled),
            "targets": dict(self.targets),
            "commands": dict(self.commands),
            "abandoned": dict(self.abandoned),
            "running_at_kills": self.running_at_kills,
            "late": dict(self.late),
            "violations": {name: self.counts[name] for name in VIOLATIONS},
            "first": dict(self.first),
            "ok": self.ok,
        }
