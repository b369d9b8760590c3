"""The fenced write: one transaction that changes the term document.

Where there is nothing else to write, it is one update of that document, without a transaction.
All content is written first and the term document last, just before the commit, so that it is locked as
briefly as can be. Its update names (epoch, seq) and requires `until <= $$NOW + 1 s`; where it matches nothing
the transaction is aborted, and the term document, read outside, says why. It is an update that changes
something: one that only reads, or sets what is there already, would not conflict with a later term.

Failure cases:

- *Conflict, or the connection lost before the commit was sent*: nothing was written. The same decision is
  tried again with the same (epoch, seq), a bounded number of times; repeated conflicts end the sessions of
  former terms, whose transactions may be open still (what a network held back may even open one later).
- *The commit's answer is unknown*: the commit is sent again (it is idempotent) until `timeout`, then
  `UnclearCommitError`.
- *The answer was lost, and the retry meets its own write* (a duplicate key, or (epoch, seq) gone by one):
  each call of `commit` leaves an id of its own in the term document, so it recognizes what it wrote itself.
- *The primary has a write that the majority has not*: what a majority has is what is read everywhere else,
  and does not show it. Why a write met something is therefore asked of the primary itself, which first has
  the majority confirm what it answers; where it cannot, nobody knows yet.
- *The caller is cancelled*: the transaction is not. It goes on to its end, bounded by `timeout`, and the next
  one waits for it.

pymongo's own retries of writes are off (`retryWrites=false`), consciously: inside a transaction there are
none anyway, and outside everything that is written is recognized when it is written again, by its token, its
outcome or the id above. The server's bookkeeping for them made a thousand outcomes cost half as much again.
"""

import asyncio
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConnectionFailure, PyMongoError, WTimeoutError
from pymongo.read_concern import ReadConcern

from cronexec.adapters.mongo_collections import Collections, Document, MongoClient
from cronexec.adapters.mongo_content import write_content
from cronexec.adapters.mongo_errors import (
    driver_errors,
    is_conflict,
    is_duplicate_key,
    is_refused_for_good,
    translated,
)
from cronexec.adapters.mongo_sessions import end_former_sessions
from cronexec.domain.term import Term
from cronexec.errors import (
    DuplicateEntryError,
    TermLostError,
    UnclearCommitError,
    UnreachableError,
    UnwritableError,
)
from cronexec.log import get_logger
from cronexec.ports import Batch, Clock

TERM_ID = "term"
CLOCK_TOLERANCE_MS = 1000  # how far `until` may be ahead of the primary's clock
ATTEMPTS = 6  # of the whole transaction, when it conflicts
CONFLICTS_IN_A_ROW = 2  # after which a former term's open transaction may be what it conflicts with
RETRY_AFTER = 0.005  # seconds, doubled with each attempt
CONFIRMED_WITHIN = 0.5  # seconds at least, also at the end of the lease
SNAPSHOT, LINEARIZABLE = ReadConcern("snapshot"), ReadConcern("linearizable")


@dataclass(frozen=True, kw_only=True, slots=True)
class TermSession:
    """The one database session of a term. `lock`: one transaction at a time, its caller cancelled or not."""

    session: AsyncClientSession
    lock: asyncio.Lock

    @classmethod
    def begin(cls, client: MongoClient) -> "TermSession":
        """Take a session for a term.

        It is never given back to the driver's pool: a successor may kill it long after the term, and would
        hit whatever had been given the session next. The server forgets it after half an hour without use.
        """
        return cls(session=client.start_session(), lock=asyncio.Lock())

    @property
    def id(self) -> bytes:
        return bytes(self.session.session_id["id"])


class _NotMatchedError(Exception):
    """The term document is not at (epoch, seq), or `until` is ahead of the database's clock."""


class _MaybeCommittedError(Exception):
    """The commit was sent; its answer is unknown."""


class FencedWriter:
    """Performs fenced writes, each bounded by `timeout` (the lease)."""

    def __init__(
        self,
        client: MongoClient,
        collections: Collections,
        *,
        clock: Clock,
        retention: timedelta,
        timeout: timedelta,
    ) -> None:
        self._client = client
        self._collections = collections
        self._clock = clock
        self._retention = retention
        self._timeout = timeout
        self._current: TermSession | None = None
        self._unattended: set[asyncio.Task[Term]] = set()

    def begin_term(self, session: TermSession) -> None:
        """Use this session for the writes of the term that it belongs to."""
        self._current = session

    async def commit(self, term: Term, batch: Batch) -> Term:
        """See `ports.TermStore.commit`."""
        task = asyncio.create_task(self._write(term, batch), name=f"cronexec-commit-{term.epoch}-{term.seq}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._unattended.add(task)
            task.add_done_callback(self._report)
            raise

    async def settled(self) -> None:
        """Wait for the writes whose callers were cancelled: what is read afterwards shows how they ended."""
        if self._unattended:
            await asyncio.wait(self._unattended)

    def _report(self, task: asyncio.Task[Term]) -> None:
        """Log how a write ended whose caller was cancelled."""
        self._unattended.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            get_logger().info("commit.unattended", write=task.get_name(), outcome="applied")
        else:
            get_logger().warning(
                "commit.unattended", write=task.get_name(), outcome="failed", error=str(error)
            )

    async def _write(self, term: Term, batch: Batch) -> Term:
        own = self._current
        if own is None or own.id != term.session:
            own = TermSession.begin(self._client)  # of a term of long ago: the fence will refuse it
        async with own.lock:
            await _Write(self, own.session, term, batch).perform()
        return replace(term, seq=term.seq + 1, watermark=batch.until, revision=batch.revision)


class _Write:
    """One fenced write: its transaction, as often as it takes."""

    def __init__(self, writer: FencedWriter, session: AsyncClientSession, term: Term, batch: Batch) -> None:
        self._collections = writer._collections  # noqa: SLF001  a part of the writer
        self._retention = writer._retention  # noqa: SLF001
        self._clock = writer._clock  # noqa: SLF001
        self._timeout_s = writer._timeout.total_seconds()  # noqa: SLF001
        self._session = session
        self._term = term
        self._batch = batch
        self._id = uuid.uuid4().hex
        self._until = self._clock.monotonic() + self._timeout_s
        self._maybe_committed = False

    async def perform(self) -> None:
        try:
            with driver_errors():
                await self._try_repeatedly()
        except UnreachableError as error:
            if self._maybe_committed:
                raise UnclearCommitError(
                    f"the fenced write may have been applied: {error.problem}"
                ) from error
            raise

    async def _try_repeatedly(self) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with pymongo.timeout(max(self._until - self._clock.monotonic(), 0.001)):
                    return await self._try()
            except _NotMatchedError:
                return await self._explain_mismatch()
            except PyMongoError as error:
                if is_duplicate_key(error):
                    return await self._explain_duplicate(error)
                if not self._may_repeat(error) or self._no_more(attempt):
                    raise
                if attempt == CONFLICTS_IN_A_ROW and is_conflict(error):
                    await self._end_former_sessions()
            await asyncio.sleep(RETRY_AFTER * 2**attempt)
        return None

    async def _end_former_sessions(self) -> None:
        """Have a former term's transaction out of the way, which may have begun after this term did."""
        found = await self._collections.term.find_one({"_id": TERM_ID}, {"former_sessions": 1})
        await end_former_sessions(self._collections, found or {})

    def _may_repeat(self, error: PyMongoError) -> bool:
        """Whether nothing was written, or a repetition would recognize what was."""
        alone = not _has_content(self._batch)
        return error.has_error_label("TransientTransactionError") or (
            alone and isinstance(error, ConnectionFailure)
        )

    def _no_more(self, attempt: int) -> bool:
        return attempt == ATTEMPTS or self._clock.monotonic() >= self._until

    async def _try(self) -> None:
        if not _has_content(self._batch):
            return await self._change_term_document(None)
        await self._session.start_transaction(
            read_concern=SNAPSHOT, write_concern=self._collections.write_concern
        )
        try:
            await write_content(self._collections, self._session, self._term, self._batch, self._retention)
            await self._change_term_document(self._session)
        except BaseException:
            await self._session.abort_transaction()
            raise
        return await self._commit()

    async def _change_term_document(self, session: AsyncClientSession | None) -> None:
        try:
            result = await self._collections.term.update_one(self._fence(), self._change(), session=session)
        except (ConnectionFailure, WTimeoutError):
            self._maybe_committed = self._maybe_committed or session is None
            raise
        if not result.matched_count:
            raise _NotMatchedError

    def _fence(self) -> Document:
        now_at_least = {"$lte": [self._batch.until, {"$add": ["$$NOW", CLOCK_TOLERANCE_MS]}]}
        return {"_id": TERM_ID, "epoch": self._term.epoch, "seq": self._term.seq, "$expr": now_at_least}

    def _change(self) -> Document:
        batch = self._batch
        fields = {
            "watermark": batch.until,
            "revision": batch.revision,
            "write": self._id,
            "catching_up": batch.catching_up,
        }
        return {"$inc": {"seq": 1}, "$set": fields, "$currentDate": {"written_at": True}}

    async def _commit(self) -> None:
        """Commit, and ask again while the answer is unknown."""
        while True:
            try:
                return await self._session.commit_transaction()
            except PyMongoError as error:
                if error.has_error_label("TransientTransactionError") or is_refused_for_good(error):
                    raise  # it was not applied, says the server
                self._maybe_committed = True
                if self._clock.monotonic() >= self._until or not _may_ask_again(error):
                    raise UnclearCommitError(
                        f"the commit's answer is unknown: {translated(error)}"
                    ) from error
            await asyncio.sleep(RETRY_AFTER)

    async def _as_it_is(self) -> Document:
        """Return the term document with what was written last. Raises where no majority confirms it."""
        left = max(self._until - self._clock.monotonic(), CONFIRMED_WITHIN)
        confirmed = self._collections.term.with_options(read_concern=LINEARIZABLE)
        return await confirmed.find_one({"_id": TERM_ID}, max_time_ms=round(left * 1000)) or {}

    async def _explain_mismatch(self) -> None:
        """Raise TermLostError with the reason; return if it was this write itself that moved (epoch, seq)."""
        found = await self._as_it_is()
        if found.get("write") == self._id:
            return
        raise TermLostError(_reason(found, self._term, self._batch))

    async def _explain_duplicate(self, error: PyMongoError) -> None:
        """Raise what a duplicate key means; return if it is this write's own, of an attempt unanswered."""
        found = await self._as_it_is()
        if found.get("write") == self._id:
            return
        if (found.get("epoch"), found.get("seq")) != (self._term.epoch, self._term.seq):
            raise TermLostError(_reason(found, self._term, self._batch)) from error
        if known := await self._entries_in_ledger():
            raise DuplicateEntryError(known) from error
        raise UnwritableError(
            "the write names an entry twice, or a command that was applied already"
        ) from error

    async def _entries_in_ledger(self) -> list[str]:
        ids = [entry.id for entry in self._batch.entries]
        known = self._collections.runs.find({"_id": {"$in": ids}}, {"_id": 1})
        found = {document["_id"] async for document in known}
        return [run_id for run_id in ids if run_id in found]


def _has_content(batch: Batch) -> bool:
    parts = (
        batch.entries,
        batch.jobs,
        batch.versions,
        batch.settles,
        batch.requeues,
        batch.closes,
        batch.cancels,
        batch.reasons,
        batch.commands,
    )
    return batch.adopt or any(parts)


def _may_ask_again(error: PyMongoError) -> bool:
    return error.has_error_label("UnknownTransactionCommitResult") and not isinstance(error, WTimeoutError)


def _reason(found: Document, term: Term, batch: Batch) -> str:
    epoch, seq = found.get("epoch"), found.get("seq")
    if epoch != term.epoch:
        return f"term {term.epoch} is over: the database is at term {epoch}"
    if seq != term.seq:
        return f"term {term.epoch} expected write {term.seq}: the database is at {seq}"
    return (
        f"term {term.epoch} wanted to decide up to {batch.until.isoformat()}, "
        "which is more than one second ahead of the database's clock"
    )
