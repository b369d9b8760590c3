"""What the runtime needs from the world, in the words of the domain.

Adapters implement these: real ones (`adapters.rabbitmq`, `adapters.mongo_*`) and in-memory ones (`adapters.memory*`), which pass the same
contract tests. All instants are aware UTC datetimes in whole milliseconds; slots are whole seconds; timeouts are seconds.

Every port raises `UnreachableError` when its server does not answer or does not let us in.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from cronexec.domain.job import Job, JobVersion
from cronexec.domain.ledger import CloseRange as CloseRange
from cronexec.domain.ledger import Settle as Settle
from cronexec.domain.run import Executor, Outcome, Output, Progress, Run, RunState
from cronexec.domain.term import Term, TermRecord


class Clock(Protocol):
    """Time. `now` is the database's clock: a measured offset, advanced by the monotonic clock."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float:
        """Seconds on a clock that no one sets."""
        ...

    def measured(self, server_time: datetime, asked_at: float, answered_at: float) -> None:
        """Take a reading of the database's clock, asked and answered at these monotonic times."""
        ...

    @property
    def offset(self) -> timedelta:
        """The database's clock minus this machine's wall clock."""
        ...


# --- the ledger's database -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedCommand:
    """The audit record of a command, with the reply it got. `user` is the AMQP user, which the broker verified."""

    id: str
    type: str
    received_at: datetime
    reply: Mapping[str, Any]
    document: Mapping[str, Any]
    issued_by: str | None = None
    user: str | None = None
    epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that one fenced write carries. `until` becomes the watermark.

    The store writes, in one transaction: `entries` (inserted), `versions` (inserted, or replaced: a closed one gets its `to_at`), `jobs` (replaced),
    `settles`, `closes`, `cancels` (marks: run id -> who asked), `commands`; with `adopt`, all queued runs of earlier epochs get this one's. Last, on (epoch, seq) and `until <= $$NOW + 1 s`: the term document.
    """

    until: datetime
    revision: int
    entries: Sequence[Run] = ()
    jobs: Sequence[Job] = ()
    versions: Sequence[JobVersion] = ()
    settles: Sequence[Settle] = ()
    closes: Sequence[CloseRange] = ()
    cancels: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[AppliedCommand] = ()
    adopt: bool = False


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
        """Begin a term: epoch + 1, seq + 1, majority. Ends the former term's session where that holds the document locked."""
        ...

    async def commit(self, term: Term, batch: Batch) -> Term:
        """Perform one fenced write; returns the term with its new `seq`, `watermark` and `revision`.

        Raises:
            TermLostError: (epoch, seq) has moved on: nothing was written, and nothing ever will be by this term.
            DuplicateEntryError: entries are in the ledger already: nothing was written.
            UnwritableError: the database refuses the content for good: nothing was written.
            UnclearCommitError: it may have been applied; `read` tells (seq).
        """
        ...

    async def depose(self, epoch: int, seq: int) -> bool:
        """End a silent holder's term by raising the epoch, if the document is still at (epoch, seq). Returns whether it was."""
        ...

    async def reserve_insertion(self, at_most_every: timedelta) -> bool:
        """Return True for at most one caller in each `at_most_every`: that one inserts a baton."""
        ...


class JobStore(Protocol):
    async def changed_since(self, revision: int) -> list[Job]:
        """Return jobs (tombstones of deleted ones included) with a revision above `revision`; majority, primary; ascending."""
        ...

    async def get(self, name: str) -> Job | None: ...

    async def list(self) -> list[Job]:
        """Return the jobs that are not deleted, by name."""
        ...

    async def versions(self, name: str | None = None, since: datetime | None = None) -> Sequence[JobVersion]:
        """Return versions whose (from, to] reaches beyond `since`, by name and version."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFilter:
    """Which runs to list; newest slot first. `since`/`until` bound the slot."""

    job: str | None = None
    states: Sequence[RunState] = ()
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
    """The outcome of an attempt, with the token of its start."""

    run_id: str
    attempt: int
    token: str
    outcome: Outcome
    started_at: datetime
    finished_at: datetime


class RunStore(Protocol):
    async def unsettled(self) -> list[Run]:
        """Return every queued and running run, by slot; majority, primary."""
        ...

    async def beyond(self, watermark: datetime) -> list[Run]:
        """Return scheduled entries that reach beyond the watermark (left by a claim split over several writes)."""
        ...

    async def start(self, runs: Sequence[Run], start: Start) -> list[str]:
        """Move runs (queued, their epoch, their attempt) to running; majority. Returns the ids that were moved."""
        ...

    async def give_back(self, run_ids: Sequence[str], token: str) -> None:
        """Move runs that were started with `token` and whose target never began back to queued."""
        ...

    async def finish(self, finishes: Sequence[Finish]) -> list[str]:
        """Record outcomes, each a compare-and-set on (run, attempt, token, running or abandoned). Returns ids not recorded."""
        ...

    async def progress(self, progress: Mapping[tuple[str, str], Progress]) -> None:
        """Record progress by (run id, token)."""
        ...

    async def cancel_requests(self, executor_id: str) -> list[tuple[str, str]]:
        """Return (run id, who asked) of this executor's running runs that somebody asked to cancel."""
        ...

    async def states(self, run_ids: Sequence[str]) -> dict[str, RunState]: ...

    async def get(self, run_id: str) -> Run | None: ...

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return the entries that exist, by id; majority, primary."""
        ...

    async def list(self, which: RunFilter) -> list[Run]: ...

    def scheduled(self, since: datetime | None = None) -> AsyncIterator[Run]:
        """Iterate over all entries of slots (not triggers) reaching beyond `since`, by job and slot; for verification."""
        ...


class CommandStore(Protocol):
    async def replies(self, command_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the replies of the commands that were applied or refused already, by command id."""
        ...

    async def list(self, limit: int = 50) -> list[AppliedCommand]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceRecord:
    """What an instance says of itself with each heartbeat. `beat_at` is the database's clock."""

    executor: Executor
    started_at: datetime
    beat_at: datetime
    beat: int = 0
    state: str = "standby"  # standby | holder | draining | waiting
    running: int = 0
    handlers: Sequence[str] = ()
    allow_shell: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    clock_offset_ms: float = 0.0


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
    commands: CommandStore
    instances: InstanceStore


# --- the broker ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class BatonArrived:
    """A baton was delivered to us and is ours until acked, released, or `LinkLost`."""

    tag: int
    message_id: str | None
    redelivered: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandArrived:
    """A message from the command queue. `user` is the AMQP user where the sender set it (the broker verifies it)."""

    tag: int
    body: bytes
    message_id: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    user: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkLost:
    """The link is gone: nothing that was delivered on it is ours any more. Always the last event."""

    reason: str


LinkEvent = BatonArrived | CommandArrived | LinkLost


class Link(Protocol):
    """One consuming connection: it competes for the baton, and takes commands while this instance holds. It never publishes."""

    async def events(self) -> LinkEvent:
        """Wait for the next event. After `LinkLost` it is returned again at every call."""
        ...

    async def take_commands(self) -> None:
        """Begin to consume the command queue (on becoming the holder)."""
        ...

    def ack_baton(self, tag: int) -> None: ...

    def ack_commands(self, tags: Sequence[int]) -> None: ...

    async def release(self) -> None:
        """Give up the baton and everything undone: cancel the consumers, nack with requeue, close."""
        ...

    async def close(self) -> None:
        """Close the connection at once; the broker requeues what was unacked. Idempotent, never raises."""
        ...

    def sever(self) -> None:
        """Shut the socket down. Callable from any thread, does not wait: for the watchdog."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    """What a passive declare tells: ready messages (unacked ones are not counted) and consumers."""

    ready: int
    consumers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedCommand:
    """A message of the rejected queue."""

    body: bytes
    reason: str
    field: str | None = None
    rejected_at: datetime | None = None
    message_id: str | None = None


class Publisher(Protocol):
    """One publishing connection, opened when first needed and again after a failure. All publishes are confirmed and mandatory."""

    async def publish_baton(self, message_id: str, body: bytes, timeout: float) -> bool:
        """Publish a baton. True: confirmed. False: not confirmed in `timeout` seconds (alarm, blocked); it may still arrive."""
        ...

    async def publish_command(self, body: bytes, *, command_id: str, reply_to: str | None, expires: float | None = None) -> None: ...

    async def reply(self, reply_to: str, correlation_id: str | None, body: bytes) -> None:
        """Send a reply. A requester that is gone is no error."""
        ...

    async def reject(self, command: CommandArrived, *, code: str, message: str, field: str | None) -> None:
        """Put a message into the rejected queue with the reason in its headers; confirmed."""
        ...

    async def publish(self, exchange: str, routing_key: str, body: bytes, headers: Mapping[str, Any], *, content_type: str) -> None:
        """Publish for a run (target `publish`); raises `RefusedError` when it cannot be routed."""
        ...

    async def close(self) -> None: ...


class Broker(Protocol):
    """The broker of one namespace."""

    async def open_link(self) -> Link:
        """Connect, declare the queues for the server's version, and consume the baton queue.

        Raises:
            UnreachableError: also when the baton queue exists without single active consumer: never compete on such a queue.
        """
        ...

    def publisher(self) -> Publisher: ...

    async def baton_depth(self) -> QueueDepth: ...

    async def rejected(self, limit: int = 50) -> list[RejectedCommand]:
        """Look at the rejected queue without taking from it."""
        ...

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Mapping[str, Any]:
        """Send a command and wait for its reply.

        Raises:
            NotYetAppliedError: nobody answered within `wait` seconds; the command stays in the queue.
        """
        ...

    async def close(self) -> None: ...


# --- targets -----------------------------------------------------------------------------------------------------------------------


class OutputSink(Protocol):
    """Takes what a run prints."""

    def write(self, data: bytes | str) -> None: ...


class RunOutput(OutputSink, Protocol):
    """What a run has printed: head and tail, bounded."""

    def output(self) -> Output:
        """Return what is kept so far."""
        ...


@dataclass(kw_only=True, slots=True)
class Execution:
    """One attempt, as its target sees it. `target` is the target part of the job document, with `params` merged.

    `report` records progress (callable on the engine's loop). A target that keeps its place after it was given up (a thread that cannot be
    stopped) sets `kept_until` to a future that resolves when the place is free.
    """

    run: Run
    target: Any
    timeout: timedelta | None
    params: Mapping[str, Any]
    output: RunOutput
    report: Any
    labels: Mapping[str, str] = field(default_factory=dict)
    kept_until: Any = None


class Target(Protocol):
    """Does what a run does. One object for each kind; executes many runs at once."""

    def unavailable(self, target: Any) -> str | None:
        """Return why this instance cannot execute it (no such handler, shell not allowed), or None."""
        ...

    async def execute(self, execution: Execution) -> Outcome:
        """Run to the end. On cancellation (timeout, cancel, shutdown) it ends what it started as far as its kind can, then re-raises.

        Never raises otherwise: an error is an outcome.
        """
        ...

    async def close(self) -> None: ...


class Targets(Protocol):
    """All kinds of targets of an instance together."""

    def handlers(self) -> Sequence[str]:
        """Return the names of the handlers that are registered here."""
        ...

    def pool_of(self, target: Any) -> str:
        """Return which of the instance's limits on running targets counts for it."""
        ...

    def new_output(self) -> RunOutput:
        """Return an empty, bounded output for an attempt."""
        ...

    def unavailable(self, target: Any) -> str | None:
        """Return why this instance cannot execute it, or None."""
        ...

    async def execute(self, execution: Execution) -> Outcome:
        """Execute by kind, as `Target.execute`."""
        ...
