"""Jobs and their versions, as every instance reads them. Only fenced writes (`mongo_content`) write them.

Each document is read on its own: one that this release cannot read (a field of a newer release after a
rollback, a time zone that one image lacks, an edit by hand) is left out and reported, and must not take the
namespace with it. That holds for its bytes as well: text that is not UTF-8 and dates beyond the year 9999,
which other tools write and the driver refuses together with all that was sent with them. So documents are
fetched raw, and decoded one by one. Reading is validating, at 0.1-0.2 ms a document: the event loop gets a
turn in between.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from bson import decode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING

from cronexec.adapters.mongo_collections import CODEC, Collections, Document
from cronexec.adapters.mongo_documents import job_from, version_from, version_id
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.adapters.mongo_job_changes import check_requirements
from cronexec.domain.job import Job, JobVersion
from cronexec.errors import FieldProblem, InvalidDocumentError
from cronexec.log import get_logger
from cronexec.ports import ReportUnreadable, UnreadableJob

T = TypeVar("T")
RAW = CodecOptions(document_class=RawBSONDocument)
FORGIVING = CodecOptions(  # documents within are left as they are
    document_class=RawBSONDocument,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
READ_BATCH = 100  # documents
READ_AT_ONCE = 16  # documents between two turns of the event loop


class MongoJobStore:
    """Implements `ports.JobStore`. What nobody asked to be told is logged, once for each revision."""

    def __init__(self, collections: Collections) -> None:
        self._jobs = collections.jobs.with_options(codec_options=RAW)
        self._versions = collections.job_versions.with_options(codec_options=RAW)
        self._said: dict[str, str] = {}

    async def changed_since(self, revision: int, *, report: ReportUnreadable | None = None) -> list[Job]:
        where = {"revision": {"$gt": revision}}
        return await self._read(where, order="revision", report=report or self._log_job)

    async def get(self, name: str) -> Job | None:
        with driver_errors():
            found = await self._jobs.find_one({"_id": name, "deleted_at": {"$exists": False}})
        return None if found is None else _readable(found, _job)

    async def versions(self, name: str | None = None, since: datetime | None = None) -> Sequence[JobVersion]:
        where: Document = {} if name is None else {"name": name}
        if since is not None:
            where["$or"] = [{"to_at": {"$exists": False}}, {"to_at": {"$gt": since}}]
        return await self._read_versions(where)

    async def versions_of(self, which: Collection[tuple[str, int]]) -> Sequence[JobVersion]:
        ids = [version_id(name, number) for name, number in which]
        return await self._read_versions({"_id": {"$in": ids}})

    async def _read_versions(self, where: Document) -> Sequence[JobVersion]:
        order = [("name", ASCENDING), ("version", ASCENDING)]
        versions = []
        async for found in _in_turns(self._versions.find(where, sort=order, batch_size=READ_BATCH)):
            try:
                versions.append(_readable(found, version_from))
            except InvalidDocumentError as error:
                told = _what_can_be_told(found)
                self._log(str(told.get("_id")), job=told.get("name"), version=told.get("version"), why=error)
        return versions

    async def _read(self, where: Document, *, order: str, report: ReportUnreadable) -> list[Job]:
        jobs = []
        async for found in _in_turns(self._jobs.find(where, batch_size=READ_BATCH).sort(order, ASCENDING)):
            try:
                jobs.append(_readable(found, _job))
            except InvalidDocumentError as error:
                report(_unreadable(found, error))
        return jobs

    def _log_job(self, unreadable: UnreadableJob) -> None:
        self._log(unreadable.name, job=unreadable.name, revision=unreadable.revision, why=unreadable.why)

    def _log(self, key: str, *, why: object, **fields: Any) -> None:
        said = f"{fields} {why}"
        if self._said.get(key) != said:
            self._said[key] = said
            get_logger().error("job.unreadable", why=str(why), **fields)

    async def list(self, *, report: ReportUnreadable | None = None) -> list[Job]:
        where = {"deleted_at": {"$exists": False}}
        return await self._read(where, order="_id", report=report or self._log_job)


async def _in_turns(cursor: Any) -> AsyncIterator[RawBSONDocument]:
    """Yield the documents, with a turn for the event loop between portions of what arrived together."""
    count = 0
    with driver_errors():
        async for found in cursor:
            yield found
            count += 1
            if count % READ_AT_ONCE == 0:
                await asyncio.sleep(0)


def _readable(found: RawBSONDocument, read: Callable[[Document], T]) -> T:
    """Return what the document says. Raises InvalidDocumentError, whatever is wrong with it."""
    try:
        return read(decode(found.raw, CODEC))
    except InvalidDocumentError:
        raise
    except Exception as error:
        why = f"it cannot be read: {type(error).__name__}: {error}"
        raise InvalidDocumentError([FieldProblem("", why)]) from error


def _job(fields: Document) -> Job:
    """Read a job, and check what later arithmetic relies on, which somebody may have edited."""
    check_requirements(fields)
    job = job_from(fields)
    if job.name != fields["_id"]:
        raise InvalidDocumentError(
            [FieldProblem("name", f"it is {job.name!r}, of the job {fields['_id']!r}")]
        )
    for name, kind in (("version", int), ("revision", int), ("from_at", datetime), ("updated_at", datetime)):
        if not isinstance(fields[name], kind):
            raise InvalidDocumentError([FieldProblem(name, f"{fields[name]!r} is no {kind.__name__}")])
    return job


def _unreadable(found: RawBSONDocument, error: InvalidDocumentError) -> UnreadableJob:
    told = _what_can_be_told(found)
    revision = told.get("revision")
    number = int(revision) if isinstance(revision, int | float) else 0
    return UnreadableJob(name=str(told.get("_id")), revision=number, why=str(error))


def _what_can_be_told(found: RawBSONDocument) -> Mapping[str, Any]:
    """Return the outer fields of a document that cannot be read, in the most forgiving way."""
    try:
        return dict(RawBSONDocument(found.raw, FORGIVING).items())
    except BSONError:
        return {}
