"""What a database tells of itself, for those who look for what is wrong: version, members, rights, indexes.

Nothing is written. It works on a standalone server too, which the stores refuse: that is what it has to say.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo import AsyncMongoClient, IndexModel
from pymongo.errors import OperationFailure

from cronexec.adapters.mongo_collections import Collections, Document, MongoClient, collections_of
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.adapters.mongo_indexes import COMMANDS, INSTANCES, JOB_VERSIONS, JOBS, OUTPUTS, RUNS

REACH_TIMEOUT_MS = 3000
NEEDED_ACTIONS = frozenset({"find", "insert", "update", "remove", "createCollection", "createIndex"})


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseFacts:
    """What was found.

    `missing_rights`: None where the server checks none. `missing_indexes`: by collection; empty before the
    first start of an instance.
    """

    version: str
    replica_set: str | None
    sharded: bool
    members: int
    user: str | None
    missing_rights: tuple[str, ...] | None
    prepared: bool
    missing_indexes: Mapping[str, Sequence[str]]


async def inspect_database(url: str, *, namespace: str) -> DatabaseFacts:
    """Ask the database that `url` names; raises UnreachableError."""
    with driver_errors():
        async with AsyncMongoClient[Document](
            url, serverSelectionTimeoutMS=REACH_TIMEOUT_MS, connectTimeoutMS=REACH_TIMEOUT_MS
        ) as client:
            return await _inspect(
                client, collections_of(client, namespace, answer_timeout=timedelta(seconds=3))
            )


async def _inspect(client: MongoClient, collections: Collections) -> DatabaseFacts:
    hello = await client.admin.command("hello")
    build, status, names = await asyncio.gather(
        client.admin.command("buildInfo"),
        client.admin.command({"connectionStatus": 1, "showPrivileges": True}),
        _names(collections),
    )
    users = status["authInfo"]["authenticatedUsers"]
    return DatabaseFacts(
        version=build["version"],
        replica_set=hello.get("setName"),
        sharded=hello.get("msg") == "isdbgrid",
        members=len(hello.get("hosts", ())),
        user=users[0]["user"] if users else None,
        missing_rights=_missing_rights(status, collections.database.name) if users else None,
        prepared=collections.term.name in names,
        missing_indexes=await _missing_indexes(collections) if collections.term.name in names else {},
    )


async def _names(collections: Collections) -> list[str]:
    found = await collections.database.command(
        {"listCollections": 1, "nameOnly": True, "authorizedCollections": True}
    )
    names = [each["name"] for each in found["cursor"]["firstBatch"]]
    if collections.term.name not in names and found["cursor"]["id"]:  # more than one batch of collections
        return list(await collections.database.list_collection_names(filter={"name": collections.term.name}))
    return names


def _missing_rights(status: Mapping[str, Any], database: str) -> tuple[str, ...]:
    """Return what the user may not do in the whole database. Roles for single collections do not count."""
    allowed: set[str] = set()
    for privilege in status["authInfo"].get("authenticatedUserPrivileges", ()):
        resource = privilege["resource"]
        if resource.get("anyResource") or (
            resource.get("db") in {"", database} and resource.get("collection") == ""
        ):
            allowed |= set(privilege["actions"])
    return tuple(sorted(NEEDED_ACTIONS - allowed))


async def _missing_indexes(collections: Collections) -> dict[str, Sequence[str]]:
    expected = (
        (collections.runs, RUNS),
        (collections.jobs, JOBS),
        (collections.job_versions, JOB_VERSIONS),
        (collections.outputs, OUTPUTS),
        (collections.commands, COMMANDS),
        (collections.instances, INSTANCES),
    )
    missing: dict[str, Sequence[str]] = {}
    for collection, indexes in expected:
        try:
            there = set(await collection.index_information())
        except OperationFailure:  # no such collection yet, or no right to list
            there = set()
        absent = [name for name in _names_of(indexes) if name not in there]
        if absent:
            missing[collection.name] = absent
    return missing


def _names_of(indexes: Sequence[IndexModel]) -> list[str]:
    return [index.document["name"] for index in indexes]
