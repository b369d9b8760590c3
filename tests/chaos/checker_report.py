"""What the checker has found: counts, and the first few of each kind of violation."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

KEPT = 20

VIOLATIONS = {
    "missed": "a slot was due and nothing in the ledger accounts for it",
    "doubled": "a slot is accounted for twice, or an attempt began twice",
    "unexpected": "an entry is for a slot that its version of the job does not have",
    "ran_while_paused": "a run for a slot of a pause, or begun in it",
    "ran_while_excluded": "a run for a slot that its schedule excludes",
    "ran_although_skipped": "a run for a slot of a blackout window, or for one that was to be skipped once",
    "ran_while_deleted": "a run for a slot after the job's end, or begun then",
    "skipped_without_cause": "a skip whose reason does not hold",
    "cancelled_without_cause": "a run was cancelled, and nobody had asked",
    "failed": "a run failed although its target cannot",
    "wrong_attempts": "a run was tried more often than its job or anybody wanted, or succeeded too early",
    "unsettled": "a run is not over although everything has settled",
    "early": "the work began before its slot",
    "late": "the work began late although nothing was wrong",
    "wrong_epoch": "work was started by a term after a later one's first claim, or by none that claimed it",
    "ran_though_not_started": "the work was done for an entry that was never started",
    "wrong_identity": "a run was told another job or slot than the ledger has, or an attempt that never was",
    "without_evidence": "a run succeeded and left no evidence",
    "without_entry": "there is evidence for which the ledger has no entry",
    "abandoned_without_kill": "a run was abandoned and its instance was not killed while it ran",
    "lost_command": "the broker confirmed a command and nobody ever applied or rejected it",
    "unrecorded_command": "a command was answered and is not in the audit log as it was answered",
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
    `settle`: until the holder knows that a run of another instance is over.
    """

    change: float = 1.25
    early: float = 0.3
    fence: float = 2.0
    late: float = 30.0
    recovery: float = 30.0
    settle: float = 75.0
    lost_after: float = 60.0


@dataclass
class Report:
    """`ok` where there is no violation; figures and counts are only told."""

    due: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    triggered: Counter[str] = field(default_factory=Counter)
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
            "commands": dict(self.commands),
            "abandoned": dict(self.abandoned),
            "running_at_kills": self.running_at_kills,
            "late": dict(self.late),
            "violations": {name: self.counts[name] for name in VIOLATIONS},
            "first": dict(self.first),
            "ok": self.ok,
        }
