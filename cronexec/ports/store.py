"""The database: the term document and its fenced writes, jobs, the ledger, the audit log, instances.

Every write of the holder is a `TermStore.commit`; executors' own writes are compare-and-sets of the
`RunStore`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from cronexec.domain.job import Job, JobVersion
from cronexec.domain.ledger import CloseRange, Requeue, Settle
from cronexec.domain.run import Cause, Executor, Outcome, Progress, Run, RunState
from cronexec.domain.term import Term, TermRecord
from cronexec.ports.outputs import OutputStore


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedCommand:
    """The audit record of a command, with the reply it got.

    `user` is the AMQP user, which the broker verified. `document` has the fields as they were sent: what a
    command of the same id is compared with.
    """

    id: str
    type: str
    received_at: datetime
    reply: Mapping[str, Any]
    document: Mapping[str, Any]
    issued_by: str | None = None
    user: str | None = None
    epoch: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedReply:
    """What is looked up of a command that was applied or refused already. `document`: as in its record."""

    reply: Mapping[str, Any]
    document: Mapping[str, Any]


MOST_ADOPTED = 5_000  # in one write: a line of a million must not outlast the lease


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that one fenced write carries. `until` becomes the watermark.

    The store writes, in one transaction: `entries` (inserted), `versions` (inserted, or replaced: a closed
    one gets its `to_at`), `jobs` (replaced), `settles`, `requeues`, `closes`, `cancels` (marks: run id -> who
    asked),
    `reasons` (why queued runs wait: run id -> reason, None for nothing but their turn), `commands`;
    with `adopt`, queued runs of earlier epochs get this one's, at most `MOST_ADOPTED` of them. Last, on
    (epoch, seq) and `until <= $$NOW + 1 s`: the term document. `catching_up` is for observers: the watermark
    stays behind because there is more to write, not because nothing is decided.
    """

    until: datetime
    revision: int
    entries: Sequence[Run] = ()
    jobs: Sequence[Job] = ()
    versions: Sequence[JobVersion] = ()
    settles: Sequence[Settle] = ()
    requeues: Sequence[Requeue] = ()
    closes: Sequence[CloseRange] = ()
    cancels: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str | None] = field(default_factory=dict)
    commands: Sequence[AppliedCommand] = ()
    adopt: bool = False
    catching_up: bool = False


class TermStore(Protocol):
    """The term document and the fenced write. One document a namespace."""

    async def prepare(self) -> bool:
        """Create what is missing: indexes, and the term document with watermark = the database's now.

        Returns whether this call created the term document (then the caller publishes the first baton).
        """
        ...

    async def ping(self) -> datetime:
        """Return the database's clock, as its primary answers a majority of members."""
        ...

    async def read(self) -> TermRecord: ...

    async def raise_epoch(self, holder: Executor) -> Term:
        """Begin a term.

        Epoch + 1, seq + 1, majority. Ends the former term's session where that holds the document locked.
        """
        ...

    async def commit(self, term: Term, batch: Batch) -> Term:
        """Perform one fenced write; returns the term with its new `seq`, `watermark` and `revision`.

        Raises:
            TermLostError: (epoch, seq) has moved on: nothing was written, and nothing ever will be by this
            term.
            DuplicateEntryError: entries are in the ledger already: nothing was written.
            UnwritableError: the database refuses the content for good: nothing was written.
            UnclearCommitError: it may have been applied; `read` tells (seq).
        """
        ...

    async def depose(self, epoch: int, seq: int) -> bool:
        """End a silent holder's term by raising the epoch, if the document is still at (epoch, seq).

        Returns whether it was.
        """
        ...

    async def reserve_insertion(self, at_most_every: timedelta) -> bool:
        """Return True for at most one caller in each `at_most_every`: that one inserts a baton."""
        ...

    async def reserve_closing(self, at_most_every: timedelta, *, epoch: int) -> bool:
        """Return True likewise for the one that has a silent holder's connection closed, in each term."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadableJob:
    """A job whose document this release cannot read: of a newer release, or edited by hand."""

    name: str
    revision: int
    why: str


ReportUnreadable = Callable[[UnreadableJob], None]


class JobStore(Protocol):
    """One unreadable document never stops the rest: it is left out, and told to `report`, or logged."""

    async def changed_since(self, revision: int, *, report: ReportUnreadable | None = None) -> list[Job]:
        """Return jobs (tombstones of deleted ones included) with a revision above `revision`.

        Majority, primary; ascending.
        """
        ...

    async def get(self, name: str) -> Job | None:
        """Return the job, None if there is none. Raises InvalidDocumentError if it cannot be read."""
        ...

    async def list(self, *, report: ReportUnreadable | None = None) -> list[Job]:
        """Return the jobs that are not deleted, by name."""
        ...

    async def versions(self, name: str | None = None, since: datetime | None = None) -> Sequence[JobVersion]:
        """Return versions whose (from, to] reaches beyond `since`, by name and version."""
        ...

    async def versions_of(self, which: Collection[tuple[str, int]]) -> Sequence[JobVersion]:
        """Return those of the versions (job, number) that there are: one query, however many they are."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFilter:
    """Which runs to list; newest slot first. `since`/`until` bound the slot; `executor`: an instance's id."""

    job: str | None = None
    executor: str | None = None
    states: Sequence[RunState] = ()
    undecided: bool = False
    causes: Sequence[Cause] = ()
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What is written when runs start together: one token for the group."""

    token: str
    executor: Executor
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """The outcome of an attempt, with the token of its start.

    `progress`: what it reported last, if that is not recorded yet. `again_at`: when the next attempt may
    start; None where there is none. `undecided`: a person has to say what becomes of the run.
    """

    run_id: str
    attempt: int
    token: str
    outcome: Outcome
    started_at: datetime
    finished_at: datetime
    progress: Progress | None = None
    again_at: datetime | None = None
    undecided: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """Up to where an entry covers its job's slots. `until`: the end of a range; None if it has none yet."""

    job: str
    slot: datetime
    until: datetime | None = None


class RunStore(Protocol):
    async def unsettled(self) -> list[Run]:
        """Return every queued, running and undecided run, by slot; majority, primary."""
        ...

    async def beyond(self, watermark: datetime) -> list[Reach]:
        """Return what the scheduled entries that reach beyond the watermark cover, by slot.

        Left by a claim cut into several writes. Not those of pauses: how long a job is paused is said by the
        job, and who resumes it shortens the range.
        """
        ...

    async def start(self, runs: Sequence[Run], start: Start) -> list[str]:
        """Move runs (queued, their epoch, their attempt) to running.

        Majority. Returns the ids that were moved: those that the same token had moved before, too, and none
        that were given back with it (`give_back`).
        """
        ...

    async def give_back(self, run_ids: Sequence[str], token: str) -> None:
        """Move runs that were started with `token` and whose target never began back to queued.

        Burns the token: the entries keep it as `returned`, and no `start` with it moves any of these runs
        from now on, not even one that was sent before and arrives later. So runs that are queued still, whose
        start was never answered, may be given back as well; runs of another token are left alone. A start
        with another token moves them as ever.
        """
        ...

    async def finish(self, finishes: Sequence[Finish]) -> list[str]:
        """Record outcomes, each a compare-and-set on (run, attempt, token, running or abandoned).

        With `again_at`, only of a running one: it is queued again, its attempt among the former ones, in one
        write. Returns ids not recorded.
        """
        ...

    async def progress(self, progress: Mapping[tuple[str, str], Progress]) -> None:
        """Record progress by (run id, token)."""
        ...

    async def overran(self, since: Mapping[tuple[str, str], datetime]) -> None:
        """Record by (run id, token) since when attempts, running or over, take longer than expected."""
        ...

    async def cancel_requests(self, executor_id: str) -> list[tuple[str, str]]:
        """Return (run id, who asked) of this executor's running runs that somebody asked to cancel."""
        ...

    async def states(self, run_ids: Sequence[str]) -> dict[str, RunState]: ...

    async def get(self, run_id: str) -> Run | None: ...

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return the entries that exist, by id; majority, primary."""
        ...

    async def at_slots(self, job: str, slots: Sequence[datetime]) -> list[Run]:
        """Return the runs of a job for these slots, backfills included; no skips, triggers and outputs.

        Majority, primary.
        """
        ...

    async def list(self, which: RunFilter) -> list[Run]: ...

    def scheduled(self, since: datetime | None = None) -> AsyncIterator[Run]:
        """Iterate over all entries of slots (not triggers) reaching beyond `since`, by job and slot.

        For verification.
        """
        ...


class CommandStore(Protocol):
    async def replies(self, command_ids: Sequence[str]) -> dict[str, RecordedReply]:
        """Return the replies of the commands that were applied or refused already, by command id."""
        ...

    async def list(self, limit: int = 50) -> list[AppliedCommand]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EventCount:
    """How often an instance has logged an event of warning or error level since its start, and when last."""

    event: str
    count: int
    last_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceRecord:
    """What an instance says of itself with each heartbeat. `beat_at` is the database's clock.

    `since_at`: when it came into its state. `lacks`: what jobs need and it does not have, None if not known.
    `declares`: the digests of the jobs that its code declares (`domain.declaration`).
    """

    executor: Executor
    started_at: datetime
    beat_at: datetime
    beat: int = 0
    state: str = "standby"  # standby | holder | draining | drained | waiting | failed
    since_at: datetime | None = None
    running: int = 0
    handlers: Sequence[str] = ()
    allow_shell: bool = False
    lacks: Sequence[str] | None = None
    declares: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    clock_offset_ms: float = 0.0
    events: Sequence[EventCount] = ()


class InstanceStore(Protocol):
    async def beat(self, record: InstanceRecord) -> None: ...

    async def leave(self, executor_id: str) -> None: ...

    async def list(self) -> list[InstanceRecord]: ...


@dataclass(frozen=True, kw_only=True)
class Store:
    """The database's ports together."""

    terms: TermStore
    jobs: JobStore
    runs: RunStore
    outputs: OutputStore
    commands: CommandStore
    instances: InstanceStore
