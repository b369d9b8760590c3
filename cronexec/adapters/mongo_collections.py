"""The collections of one namespace, and what is the same for each: how it reads and how long it waits.

Everything is read from the primary with read concern *majority*, and written with write concern *majority*:
what an instance acts upon cannot be rolled back by an election. `wtimeout` is shorter than the lease, so that
a primary without its majority is an answer ("maybe") before the term is over.
"""

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

Document = dict[str, Any]
MongoClient = AsyncMongoClient[Document]
Collection = AsyncCollection[Document]

CODEC = CodecOptions[Document](tz_aware=True, tzinfo=UTC)
MAJORITY = ReadConcern("majority")
DEFAULT_DATABASE = "cronexec"


@dataclass(frozen=True, kw_only=True, slots=True)
class Collections:
    """Handles; nothing is sent to make them."""

    database: AsyncDatabase[Document]
    term: Collection
    jobs: Collection
    job_versions: Collection
    runs: Collection
    outputs: Collection
    commands: Collection
    instances: Collection
    write_concern: WriteConcern


def collections_of(client: MongoClient, namespace: str, *, answer_timeout: timedelta) -> Collections:
    """Return the namespace's collections in the database that the URL names (default `cronexec`)."""
    write_concern = WriteConcern("majority", wtimeout=int(answer_timeout.total_seconds() * 1000))
    database = client.get_default_database(DEFAULT_DATABASE).with_options(
        codec_options=CODEC,
        read_preference=ReadPreference.PRIMARY,
        read_concern=MAJORITY,
        write_concern=write_concern,
    )
    return Collections(
        database=database,
        term=database[f"{namespace}.term"],
        jobs=database[f"{namespace}.jobs"],
        job_versions=database[f"{namespace}.job_versions"],
        runs=database[f"{namespace}.runs"],
        outputs=database[f"{namespace}.outputs"],
        commands=database[f"{namespace}.commands"],
        instances=database[f"{namespace}.instances"],
        write_concern=write_concern,
    )
