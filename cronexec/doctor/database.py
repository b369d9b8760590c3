"""Judges the database: version, replica set, rights, indexes, clock."""

import re
from collections.abc import Iterator
from datetime import timedelta

from cronexec.adapters.mongo_inspection import DatabaseFacts
from cronexec.doctor.finding import Finding, fail, ok, warn

OLDEST = (4, 4)
LARGEST_OFFSET = timedelta(seconds=1)
STANDALONE = (
    "Start it with a set's name, and make the set once: 'mongod --replSet rs0 …', then "
    "mongosh --eval 'rs.initiate()'. One member is enough."
)


def judge_database(facts: DatabaseFacts) -> Iterator[Finding]:
    """Yield what is to be said of the database."""
    yield _judge_version(facts)
    yield _judge_replica_set(facts)
    yield _judge_rights(facts)
    if not facts.prepared:
        yield warn(
            "database.indexes",
            "this namespace is not in the database yet",
            "Start an instance: it creates what is missing.",
        )
    elif facts.missing_indexes:
        listed = "; ".join(f"{name}: {', '.join(indexes)}" for name, indexes in facts.missing_indexes.items())
        yield fail(
            "database.indexes",
            f"indexes are missing ({listed})",
            "Restart one instance: it creates what is missing.",
        )
    else:
        yield ok("database.indexes", "all indexes are there")


def _judge_version(facts: DatabaseFacts) -> Finding:
    version = tuple(int(number) for number in re.findall(r"\d+", facts.version)[:2])
    if version < OLDEST:
        return fail("database.version", f"MongoDB {facts.version} is too old", "Update it to 6.0 or later.")
    return ok("database.version", f"MongoDB {facts.version}")


def _judge_replica_set(facts: DatabaseFacts) -> Finding:
    check = "database.replica_set"
    if facts.sharded:
        return ok(check, "a sharded cluster, through mongos")
    if facts.replica_set is None:
        return fail(check, "MongoDB is a standalone server and has no transactions", STANDALONE)
    if facts.members == 2:  # noqa: PLR2004  two
        return warn(
            check,
            f"the replica set {facts.replica_set} has two members: without either there is no majority",
            "Add a third in another place.",
        )
    return ok(check, f"replica set {facts.replica_set}, {facts.members} members with data")


def _judge_rights(facts: DatabaseFacts) -> Finding:
    if facts.missing_rights is None:
        return ok("database.rights", "the server asks for no login")
    if facts.missing_rights:
        return fail(
            "database.rights",
            f"the user {facts.user} may not {', '.join(facts.missing_rights)}",
            "Grant it the role readWrite on the URL's database.",
        )
    return ok("database.rights", f"the user {facts.user} may do what is needed")


def judge_clock(offset: timedelta) -> Finding:
    """Judge this machine's clock by the database's, which is the one that counts."""
    milliseconds = round(offset.total_seconds() * 1000)
    if abs(offset) > LARGEST_OFFSET:
        return warn(
            "clock",
            f"the database's clock is {milliseconds} ms from this machine's; the database's counts",
            "Have both set by NTP or chrony.",
        )
    return ok("clock", f"the database's clock is {milliseconds} ms from this machine's")
