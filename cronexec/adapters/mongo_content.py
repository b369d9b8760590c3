"""What a fenced write carries besides the term document, written inside its transaction.

pymongo encodes a whole bulk before it sends it, on the event loop: ten thousand entries at once would hold it
for a tenth of a second. So everything is written in slices of `SLICE` operations, with the loop free between
them.

Nothing here is unordered: in a transaction the first failing statement ends it anyway.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby, islice
from typing import Any, TypeVar

from pymongo import DeleteMany, UpdateMany, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from cronexec.adapters.mongo_collections import Collection, Collections, Document
from cronexec.adapters.mongo_documents import (
    command_document,
    job_document,
    outcome_document,
    run_document,
    version_document,
)
from cronexec.adapters.mongo_job_changes import changed_job, changed_version
from cronexec.adapters.mongo_requeues import requeued_by_term
from cronexec.domain.apply import FIRST_VERSION
from cronexec.domain.job import Job, JobDocument
from cronexec.domain.run import RunState
from cronexec.domain.term import Term
from cronexec.ports import MOST_ADOPTED, Batch, CloseRange, Settle

SLICE = 500
BY_ID = "_id_"  # said where another index could be tried as well: that costs more than the write
Write = UpdateOne | UpdateMany | DeleteMany
T = TypeVar("T")


async def write_content(
    collections: Collections, session: AsyncClientSession, term: Term, batch: Batch, retention: timedelta
) -> None:
    """Write all that `batch` carries; entries first, so that a change in the same batch finds them."""
    for part in slices(batch.entries):
        documents = [run_document(entry, retention) for entry in part]
        await collections.runs.insert_many(documents, session=session)
    if batch.adopt:
        await _adopt(collections.runs, session, term.epoch)
    await _bulk(collections.runs, session, _run_changes(batch, term.epoch, retention))
    await _write_jobs(collections, session, batch, retention)
    await _bulk(collections.job_versions, session, _expiring_versions(batch.jobs, retention))
    for commands in slices(batch.commands):
        documents = [command_document(command, retention) for command in commands]
        await collections.commands.insert_many(documents, session=session)


def slices(items: Sequence[T], size: int = SLICE) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def _bulk(collection: Collection, session: AsyncClientSession, writes: Iterator[Write]) -> None:
    while part := list(islice(writes, SLICE)):
        await collection.bulk_write(part, session=session)


async def _adopt(runs: Collection, session: AsyncClientSession, epoch: int) -> None:
    """Give all queued runs of earlier terms this term's epoch: only it may start them."""
    earlier: Document = {"unsettled": True, "state": RunState.QUEUED.value, "epoch": {"$lt": epoch}}
    found = runs.find(earlier, {"_id": 1}, limit=MOST_ADOPTED, session=session)
    ids = [fields["_id"] async for fields in found]
    if ids:
        await runs.update_many({"_id": {"$in": ids}}, {"$set": {"epoch": epoch}}, session=session)


def _run_changes(batch: Batch, epoch: int, retention: timedelta) -> Iterator[Write]:
    for settle in batch.settles:
        yield _settle(settle, retention)
    for requeue in batch.requeues:
        yield requeued_by_term(requeue, epoch)
    yield from _closes(batch.closes, retention)
    for run_id, asked_by in batch.cancels.items():
        asked = {"$set": {"cancel_requested_by": asked_by}}
        yield UpdateOne({"_id": run_id, "unsettled": True}, asked, hint=BY_ID)
    for run_id, reason in batch.reasons.items():
        said: Document = {"$unset": {"reason": ""}} if reason is None else {"$set": {"reason": reason}}
        yield UpdateOne({"_id": run_id, "state": RunState.QUEUED.value}, said, hint=BY_ID)


def _settle(settle: Settle, retention: timedelta) -> UpdateOne:
    where: Document = {"_id": settle.run_id, "attempt": settle.attempt, "state": settle.expected.value}
    if settle.token is not None:
        where["token"] = settle.token
    fields: dict[str, Any] = {
        "state": settle.outcome.state.value,
        "outcome": outcome_document(settle.outcome),
        "finished_at": settle.at,
    }
    if settle.undecided:
        return UpdateOne(where, {"$set": {**fields, "undecided": True}})
    fields["expire_at"] = settle.at + retention
    return UpdateOne(where, {"$set": fields, "$unset": {"unsettled": "", "undecided": ""}})


def _closes(closes: Sequence[CloseRange], retention: timedelta) -> Iterator[Write]:
    """Delete the ranges that never began, and end the others: those of one instant together.

    Range by range, a thousand resumed jobs would be two thousand round trips: an ordered bulk is cut where
    its kind of statement changes.
    """
    for (until, foreseen), together in groupby(closes, key=lambda close: (close.until, close.foreseen)):
        reaching: Document = {"open": True} if foreseen is None else {"until": foreseen}
        which = {"_id": {"$in": [close.run_id for close in together]}, **reaching}
        yield DeleteMany({**which, "slot": {"$gt": until}}, hint=BY_ID)
        fields = {"until": until, "expire_at": until + retention}
        yield UpdateMany(which, {"$set": fields, "$unset": {"open": ""}}, hint=BY_ID)


async def _write_jobs(
    collections: Collections, session: AsyncClientSession, batch: Batch, retention: timedelta
) -> None:
    """Write jobs and versions: new ones by insertion, which costs half as much as an upsert."""
    canonical = _Canonical()
    latest = {(version.name, version.version): version for version in batch.versions}.values()
    created = {each.name for each in latest if each.version == FIRST_VERSION}
    versions, jobs = collections.job_versions, collections.jobs
    opened = (version_document(each, canonical) for each in latest if each.to_at is None)
    await _insert_anew(versions, session, opened)
    closed = (version_document(each, canonical) for each in latest if each.to_at is not None)
    await _bulk(versions, session, map(changed_version, closed))
    new = (job_document(job, retention, canonical) for job in batch.jobs if job.name in created)
    await _insert_anew(jobs, session, new)
    changed = (job_document(job, retention, canonical) for job in batch.jobs if job.name not in created)
    await _bulk(jobs, session, map(changed_job, changed))


class _Canonical:
    """The canonical documents of one write: a job that was put and its version have the same."""

    def __init__(self) -> None:
        self._made: dict[int, Document] = {}

    def __call__(self, document: JobDocument) -> Document:
        made = self._made.get(id(document))
        if made is None:
            made = self._made[id(document)] = document.to_document()
        return made


async def _insert_anew(
    collection: Collection, session: AsyncClientSession, documents: Iterator[Document]
) -> None:
    """Insert, in place of what retention may have left behind of an earlier job of that name."""
    while part := list(islice(documents, SLICE)):
        await collection.delete_many({"_id": {"$in": [each["_id"] for each in part]}}, session=session)
        await collection.insert_many(part, session=session)


def _expiring_versions(jobs: Sequence[Job], retention: timedelta) -> Iterator[Write]:
    """Let the history of deleted jobs go together with their tombstones; that of the others is kept."""
    for job in jobs:
        if job.deleted_at is not None:
            yield UpdateMany({"name": job.name}, {"$set": {"expire_at": job.deleted_at + retention}})
