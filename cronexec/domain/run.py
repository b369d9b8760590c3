"""Runs: the entries of the ledger, their states, and the one table of moves between the states.

A *run* is the execution for one slot of a job (or for one trigger). A *skip* is an entry too, with a reason;
adjacent skips of one job with one reason are one *range entry*, which covers every slot of that version of
the job from `slot` to `until`, both included. The store performs every move as a compare-and-set and says
whether it happened (invariant I2): nothing here changes anything.

```
queued ──▶ running ──▶ succeeded | failed | timed_out | cancelled | abandoned
  │  ▲        │                        │          │           │         │
  │  │        │                                                      └─▶ any outcome that arrives late,
  │  │        │                                                          if no attempt followed
  │  ├────────┤ returned: the start was committed, the target never started; the same attempt
  │  ├────────┘ retried: the attempt ended, and the policy wants the next one, from `not_before` on
  │  └── failed | timed_out | cancelled | abandoned   (`run.retry`, or `abandoned: retry`)
  └─▶ cancelled | failed (its target never became available)
```

A run whose policy wants another attempt never reads as failed in between: the outcome of the attempt is kept
in `attempts`, and the run waits as `queued`, in one write. No failover finds a retry that nobody has noted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any


class RunState(StrEnum):
    """The state of a run, as stored, printed and filtered by."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        return self not in UNSETTLED


UNSETTLED = frozenset({RunState.QUEUED, RunState.RUNNING})

OUTCOMES = frozenset(
    {RunState.SUCCEEDED, RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELLED, RunState.ABANDONED}
)

ALLOWED_MOVES: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.FAILED}),
    RunState.RUNNING: OUTCOMES | {RunState.QUEUED},
    RunState.ABANDONED: OUTCOMES - {RunState.ABANDONED} | {RunState.QUEUED},
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset({RunState.QUEUED}),
    RunState.TIMED_OUT: frozenset({RunState.QUEUED}),
    RunState.CANCELLED: frozenset({RunState.QUEUED}),
    RunState.SKIPPED: frozenset(),
}


@cache
def sources_of(state: RunState) -> tuple[RunState, ...]:
    """Return the states from which `state` may be reached, in the order of the enum."""
    return tuple(source for source in RunState if state in ALLOWED_MOVES[source])


class Cause(StrEnum):
    """Why there is an entry: a slot of the schedule, a trigger, or the backfill of a past slot."""

    SCHEDULE = "schedule"
    TRIGGER = "trigger"
    BACKFILL = "backfill"


BACKFILL = "backfill:"  # begins the keys of backfills
RETRY = "retry"  # why a run is queued again: its policy wants another attempt
INSTANCE_LOST = "instance_lost"  # or its instance vanished, and the job says `abandoned: retry`


class SkipReason(StrEnum):
    """Why a slot was not run."""

    MISFIRE = "misfire"
    OVERLAP = "overlap"
    PAUSED = "paused"
    SKIP_NEXT = "skip_next"
    BLACKOUT = "blackout"
    EXCLUDED = "excluded"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is; `total` is None where it is not known."""

    done: float
    total: float | None = None
    message: str = ""
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What a run printed, bounded: the first and the last bytes, and how many were dropped between them."""

    head: str = ""
    tail: str = ""
    dropped: int = 0

    @property
    def text(self) -> str:
        gap = f"\n… {self.dropped} bytes not kept …\n" if self.dropped else ""
        return f"{self.head}{gap}{self.tail}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an attempt ended. `state` is one of `OUTCOMES`.

    `error` is a sentence; `exit_code` a process's (negative: the signal that ended it); `status` is HTTP's.
    What a retry policy looks at and the ledger does not keep: `retry_after`, for which the receiver asked
    (429, 503), and `exceptions`, the names of the class that a handler raised and of its bases, the nearest
    first, with their modules (`requests.exceptions.Timeout`) where they are not built in (`OSError`).
    """

    state: RunState
    reason: str | None = None
    error: str | None = None
    exit_code: int | None = None
    status: int | None = None
    output: Output | None = None
    retry_after: timedelta | None = None
    exceptions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Executor:
    """The instance that executes a run, as people know it."""

    id: str
    name: str
    datacenter: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptRecord:
    """A former attempt of a run that was tried again. `token`: of its start."""

    attempt: int
    outcome: Outcome
    started_at: datetime | None = None
    finished_at: datetime | None = None
    executor: Executor | None = None
    token: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One entry of the ledger.

    `id`: `JOB@SLOT` or `JOB#KEY`. `version`: of the job, which the run is executed with. `slot`: the nominal
    instant, whole seconds (of a trigger: the instant it was applied). `until`: of a range entry, the last
    instant it covers; an open one (a pause that lasts) has `open_ended`. `epoch`: of the term that claimed
    or adopted it. `note`: of a skip, what was said by whoever asked for it (`issued_by`).
    `token`: drawn at each start; an executor's writes name it. `catch_up`: a missed slot that
    the misfire policy runs. `not_before`: a queued run starts no earlier (a retry's delay, jitter).
    `attempts`: the former ones. `overrun_at`: since then the attempt takes longer
    than its job's `expected`. `undecided`: abandoned, and a person has to say what becomes of it; until
    then it keeps its place in its job's line.
    """

    id: str
    job: str
    version: int
    slot: datetime
    state: RunState
    epoch: int
    cause: Cause = Cause.SCHEDULE
    attempt: int = 1
    reason: str | None = None
    note: str | None = None
    until: datetime | None = None
    open_ended: bool = False
    catch_up: bool = False
    claimed_at: datetime | None = None
    params: Mapping[str, Any] | None = None
    issued_by: str | None = None
    token: str | None = None
    executor: Executor | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    overrun_at: datetime | None = None
    outcome: Outcome | None = None
    cancel_requested_by: str | None = None
    not_before: datetime | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    undecided: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is to come of it, but for an outcome that arrives late."""
        return self.state.is_final and not self.undecided

    @property
    def lateness_s(self) -> float | None:
        """Seconds from the slot to the first start of the target; None before it, and for a past slot."""
        if self.cause is Cause.BACKFILL:
            return None
        first_at = self.attempts[0].started_at if self.attempts else self.started_at
        return None if first_at is None else (first_at - self.slot).total_seconds()

    @property
    def duration_s(self) -> float | None:
        """Seconds from the start to the outcome; None while there is none."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    def queued_again(
        self, outcome: Outcome | None, *, ended_at: datetime, not_before: datetime | None, reason: str
    ) -> "Run":
        """Return the run as it waits for its next attempt; the former one ended with `outcome`."""
        former = AttemptRecord(
            attempt=self.attempt,
            outcome=outcome or self.outcome or Outcome(state=self.state),
            started_at=self.started_at,
            finished_at=ended_at,
            executor=self.executor,
            token=self.token,
        )
        return replace(
            self,
            state=RunState.QUEUED,
            attempt=self.attempt + 1,
            attempts=(*self.attempts, former),
            not_before=not_before,
            reason=reason,
            token=None,
            executor=None,
            started_at=None,
            finished_at=None,
            progress=None,
            overrun_at=None,
            outcome=None,
            undecided=False,
        )

    def covers(self, slot: datetime) -> bool:
        """Whether this entry accounts for `slot` of its version of the job; one by command does for none."""
        if self.cause is not Cause.SCHEDULE:
            return False
        if self.open_ended:
            return self.slot <= slot
        return slot == self.slot if self.until is None else self.slot <= slot <= self.until


def slot_text(slot: datetime) -> str:
    """Return a slot as it stands in run ids and in `CRONEXEC_SLOT`: ISO 8601, UTC, `Z`."""
    return slot.strftime("%Y-%m-%dT%H:%M:%SZ")


def slot_run_id(job: str, slot: datetime) -> str:
    return f"{job}@{slot_text(slot)}"


def trigger_run_id(job: str, key: str) -> str:
    return f"{job}#{key}"


def backfill_run_id(job: str, slot: datetime) -> str:
    return trigger_run_id(job, f"{BACKFILL}{slot_text(slot)}")


def job_of(run_id: str) -> str:
    """Return the name of the job whose run this is: no name has `@` or `#` in it."""
    return run_id.partition("#")[0].partition("@")[0]
