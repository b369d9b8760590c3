"""The indexes. Each must be worth its cost: ten thousand entries are inserted at once, once per index.

A new queued entry is put into `_id` and three more; what applies to few entries is in partial indexes, which
the others do not pay for. A unique key besides `_id` is nowhere needed: identity is derived.
"""

from typing import Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from cronexec.adapters.mongo_collections import Collections

AT_ANY_TIME: Final = 0  # seconds after the instant in the field itself
INSTANCE_KEPT: Final = 86_400  # seconds: one that was killed says nothing more; people see it for a day

RUNS = (
    # Queued and running runs: read at every takeover, adopted, and listed by people. A settled run leaves it.
    IndexModel(
        [("unsettled", ASCENDING), ("slot", ASCENDING)],
        name="unsettled",
        partialFilterExpression={"unsettled": True},
    ),
    # The runs of a job, newest first or in the order of verification.
    IndexModel([("job", ASCENDING), ("slot", ASCENDING)], name="job_slot"),
    # All runs, newest first; entries beyond the watermark; verification since an instant.
    IndexModel([("slot", ASCENDING)], name="slot"),
    # Ranges by their end, few beside the runs: those that began long ago and reach beyond an instant.
    IndexModel([("until", ASCENDING)], name="until", partialFilterExpression={"until": {"$exists": True}}),
    # Cancel requests, asked for once a second by every instance: nearly always empty.
    IndexModel(
        [("executor.id", ASCENDING)],
        name="cancel_requests",
        partialFilterExpression={"unsettled": True, "cancel_requested_by": {"$exists": True}},
    ),
    # Retention. Unsettled entries have no `expire_at`: they neither expire nor pay for the index when they
    # are inserted.
    IndexModel(
        [("expire_at", ASCENDING)],
        name="retention",
        expireAfterSeconds=AT_ANY_TIME,
        partialFilterExpression={"expire_at": {"$exists": True}},
    ),
)

JOBS = (
    IndexModel(
        [("revision", ASCENDING)], name="revision"
    ),  # what changed since: every standby, every takeover
    IndexModel(  # tombstones of deleted jobs
        [("expire_at", ASCENDING)],
        name="retention",
        expireAfterSeconds=AT_ANY_TIME,
        partialFilterExpression={"expire_at": {"$exists": True}},
    ),
)

JOB_VERSIONS = (
    IndexModel([("name", ASCENDING), ("version", ASCENDING)], name="name_version"),
    IndexModel(  # versions of deleted jobs
        [("expire_at", ASCENDING)],
        name="retention",
        expireAfterSeconds=AT_ANY_TIME,
        partialFilterExpression={"expire_at": {"$exists": True}},
    ),
)

COMMANDS = (
    IndexModel([("received_at", DESCENDING)], name="received_at"),  # the audit log, newest first
    IndexModel([("expire_at", ASCENDING)], name="retention", expireAfterSeconds=AT_ANY_TIME),
)

OUTPUTS = (IndexModel([("expire_at", ASCENDING)], name="retention", expireAfterSeconds=AT_ANY_TIME),)

INSTANCES = (IndexModel([("beat_at", ASCENDING)], name="retention", expireAfterSeconds=INSTANCE_KEPT),)


async def create_indexes(collections: Collections) -> None:
    """Create what is missing; costs one round trip a collection where nothing is.

    Where there are documents already MongoDB would wait for every member of the set, and for as long as one
    is away: a majority is enough.
    """
    for collection, indexes in (
        (collections.runs, RUNS),
        (collections.jobs, JOBS),
        (collections.job_versions, JOB_VERSIONS),
        (collections.commands, COMMANDS),
        (collections.outputs, OUTPUTS),
        (collections.instances, INSTANCES),
    ):
        await collection.create_indexes(list(indexes), commitQuorum="majority")
