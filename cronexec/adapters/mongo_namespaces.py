"""What a database tells of its namespaces, for the command line: which there are, and how long they keep.

A namespace has its term document since its first instance prepared it, and in nobody else's hands.

The retention is a setting of instances. It shows in what they wrote: the database deletes an entry at an
instant, which is the retention after the one that the entry was settled at. The entries that go first and
those that go last are looked at, and the shorter retention counts: where it was made longer lately, the rest
of the longer time is not there.
"""

import asyncio
from datetime import timedelta

from pymongo import ASCENDING, DESCENDING

from cronexec.adapters.mongo_collections import Collections, Document

TERM = ".term"


async def served_namespaces(collections: Collections) -> list[str]:
    """Return the names of the namespaces in the database. Needs no right beyond those in it."""
    names = await collections.database.list_collection_names(
        filter={"name": {"$regex": r"\.term$"}}, authorizedCollections=True, nameOnly=True
    )
    return sorted(name.removesuffix(TERM) for name in names)


async def kept_for(collections: Collections) -> timedelta | None:
    """Return the retention that the namespace's settled entries show, None where there is none."""
    edges = await asyncio.gather(_edge(collections, ASCENDING), _edge(collections, DESCENDING))
    return min((_retention(entry) for entry in edges if entry), default=None)


async def _edge(collections: Collections, direction: int) -> Document | None:
    return await collections.runs.find_one({"expire_at": {"$exists": True}}, sort=[("expire_at", direction)])


def _retention(entry: Document) -> timedelta:
    """Return what is left between the last instant in the entry and its end: never more than was meant."""
    instants = [entry.get(name) for name in ("finished_at", "claimed_at", "until", "slot")]
    length: timedelta = entry["expire_at"] - max(filter(None, instants))
    return length
