"""Jobs and their versions, as every instance reads them. Only fenced writes (`mongo_content`) write them."""

from datetime import datetime

from pymongo import ASCENDING

from cronexec.adapters.mongo_collections import Collections, Document
from cronexec.adapters.mongo_documents import job_from, version_from
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.domain.job import Job, JobVersion

READ_BATCH = 100  # documents; each is validated when it is read, which must not hold the event loop for long


class MongoJobStore:
    """Implements `ports.JobStore`."""

    def __init__(self, collections: Collections) -> None:
        self._jobs = collections.jobs
        self._versions = collections.job_versions

    async def changed_since(self, revision: int) -> list[Job]:
        with driver_errors():
            changed = self._jobs.find({"revision": {"$gt": revision}}, batch_size=READ_BATCH).sort(
                "revision", ASCENDING
            )
            return [job_from(fields) async for fields in changed]

    async def get(self, name: str) -> Job | None:
        with driver_errors():
            found = await self._jobs.find_one({"_id": name, "deleted_at": {"$exists": False}})
            return None if found is None else job_from(found)

    async def versions(self, name: str | None = None, since: datetime | None = None) -> list[JobVersion]:
        where: Document = {} if name is None else {"name": name}
        if since is not None:
            where["$or"] = [{"to_at": {"$exists": False}}, {"to_at": {"$gt": since}}]
        order = [("name", ASCENDING), ("version", ASCENDING)]
        with driver_errors():
            found = self._versions.find(where, sort=order, batch_size=READ_BATCH)
            return [version_from(fields) async for fields in found]

    async def list(self) -> list[Job]:
        with driver_errors():
            kept = self._jobs.find({"deleted_at": {"$exists": False}}, batch_size=READ_BATCH).sort(
                "_id", ASCENDING
            )
            return [job_from(fields) async for fields in kept]
