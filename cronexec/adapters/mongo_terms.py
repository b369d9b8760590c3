"""The term document: who holds, since when, under which epoch, and up to where the schedule was decided.

Three documents are in this collection. `term` is changed by every fenced write and by every raising of the
epoch; `insertion` and `closing` hold when a baton was last inserted, and a silent holder's connection closed,
apart from it, because that is done just when a frozen holder keeps the term document locked.

A holder that dies or freezes inside a transaction keeps that lock for a minute and more. Its session's id is
in the document, so whoever finds his change unanswered after 50 ms kills that session (no right beyond
readWrite is needed for one's own user's sessions) and goes on waiting. Whoever has raised the epoch ends the
sessions of former terms in any case: one may have frozen before it came to this document (`mongo_sessions`).
"""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from cronexec.adapters.mongo_collections import Collections, Document, MongoClient
from cronexec.adapters.mongo_errors import STANDALONE_REMEDY, driver_errors, unreachable
from cronexec.adapters.mongo_fence import TERM_ID, FencedWriter, TermSession
from cronexec.adapters.mongo_indexes import create_indexes
from cronexec.adapters.mongo_sessions import REMEMBER_FORMER, end_former_sessions, end_sessions
from cronexec.domain.run import Executor
from cronexec.domain.term import Term, TermRecord
from cronexec.ports import Batch, Clock

INSERTION_ID = "insertion"
CLOSING_ID = "closing"
BLOCKED_AFTER = 0.05  # seconds without an answer: a dead holder's transaction may be in the way
BLOCKED_AGAIN_AFTER = 0.5
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
T = TypeVar("T")


class MongoTermStore:
    """Implements `ports.TermStore`."""

    def __init__(
        self, client: MongoClient, collections: Collections, *, clock: Clock, writer: FencedWriter
    ) -> None:
        self._client = client
        self._collections = collections
        self._clock = clock
        self._writer = writer

    async def prepare(self) -> bool:
        with driver_errors():
            await self._ask_clock()
            await create_indexes(self._collections)
            await self._create(INSERTION_ID, {"at": LONG_AGO})
            await self._create(CLOSING_ID, {"at": LONG_AGO})
            return await self._create(TERM_ID, {"epoch": 0, "seq": 0, "revision": 0, "watermark": "$$NOW"})

    async def ping(self) -> datetime:
        """Return the database's clock; a linearizable read makes the primary prove that it has a majority."""
        with driver_errors():
            now = await self._ask_clock()
            proven = self._collections.term.with_options(read_concern=ReadConcern("linearizable"))
            await proven.find_one({"_id": TERM_ID}, {"_id": 1}, max_time_ms=3000)
            return now

    async def read(self) -> TermRecord:
        await self._writer.settled()
        with driver_errors():
            return _record(await self._document())

    async def raise_epoch(self, holder: Executor) -> Term:
        with driver_errors():
            session = TermSession.begin(self._client)
            who = {"id": holder.id, "name": holder.name, "datacenter": holder.datacenter}
            change = {
                "epoch": {"$add": ["$epoch", 1]},
                "seq": {"$add": ["$seq", 1]},
                "holder": {"$literal": who},
                "since_at": "$$NOW",
                "session": Binary(session.id, UUID_SUBTYPE),
                "former_sessions": REMEMBER_FORMER,
            }
            found = await self._past_a_dead_holder(self._change_term({}, change))
            if found is None:
                raise _not_prepared()
            await end_former_sessions(self._collections, found)
        self._writer.begin_term(session)
        return Term(
            epoch=found["epoch"],
            seq=found["seq"],
            watermark=found["watermark"],
            revision=found["revision"],
            since_at=found["since_at"],
            session=session.id,
        )

    async def commit(self, term: Term, batch: Batch) -> Term:
        return await self._writer.commit(term, batch)

    async def depose(self, epoch: int, seq: int) -> bool:
        change = {
            "epoch": {"$add": ["$epoch", 1]},
            "seq": {"$add": ["$seq", 1]},
            "holder": None,
            "since_at": None,
        }
        with driver_errors():
            where = {"epoch": epoch, "seq": seq}
            return await self._past_a_dead_holder(self._change_term(where, change)) is not None

    async def reserve_insertion(self, at_most_every: timedelta) -> bool:
        return await self._reserve(INSERTION_ID, at_most_every)

    async def reserve_closing(self, at_most_every: timedelta, *, epoch: int) -> bool:
        return await self._reserve(CLOSING_ID, at_most_every, epoch)

    async def _reserve(self, document_id: str, at_most_every: timedelta, epoch: int = 0) -> bool:
        milliseconds = int(at_most_every / timedelta(milliseconds=1))
        long_enough = {"$lte": ["$at", {"$subtract": ["$$NOW", milliseconds]}]}
        of_a_later_term = {"$gt": [epoch, {"$ifNull": ["$epoch", 0]}]}
        with driver_errors():
            result = await self._collections.term.update_one(
                {"_id": document_id, "$expr": {"$or": [of_a_later_term, long_enough]}},
                [{"$set": {"at": "$$NOW", "epoch": epoch}}],
            )
            return result.matched_count == 1

    async def _create(self, document_id: str, fields: Document) -> bool:
        """Create a document if there is none; what is there wins over `fields`.

        It is looked for first: the change that finds nothing to do would wait for a dead holder as well.
        """
        if await self._collections.term.find_one({"_id": document_id}, {"_id": 1}) is not None:
            return False
        merged = {"$replaceWith": {"$mergeObjects": [fields, "$$ROOT"]}}
        try:
            result = await self._collections.term.update_one({"_id": document_id}, [merged], upsert=True)
        except DuplicateKeyError:  # another instance, at the same moment
            return False
        return result.upserted_id is not None

    async def _ask_clock(self) -> datetime:
        """Read the primary's clock, tell our own, and see that it is a replica set's."""
        asked_at = self._clock.monotonic()
        hello = await self._client.admin.command("hello", codec_options=self._collections.term.codec_options)
        answered_at = self._clock.monotonic()
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise unreachable("MongoDB is a standalone server and has no transactions", STANDALONE_REMEDY)
        now: datetime = hello["localTime"]
        self._clock.measured(now, asked_at, answered_at)
        return now

    async def _document(self) -> Document:
        pipeline = [{"$match": {"_id": TERM_ID}}, {"$set": {"read_at": "$$NOW"}}]
        async for document in await self._collections.term.aggregate(pipeline):
            return document
        raise _not_prepared()

    async def _change_term(self, where: Document, change: Document) -> Document | None:
        return await self._collections.term.find_one_and_update(
            {"_id": TERM_ID, **where}, [{"$set": change}], return_document=ReturnDocument.AFTER
        )

    async def _past_a_dead_holder(self, change: Coroutine[Any, Any, T]) -> T:
        """Await `change`; while it goes unanswered, kill the session of the term that is in the document."""
        task = asyncio.create_task(change)
        patience = BLOCKED_AFTER
        try:
            while not (await asyncio.wait({task}, timeout=patience))[0]:
                await self._kill_session_of_term()
                patience = BLOCKED_AGAIN_AFTER
            return await task
        finally:
            task.cancel()

    async def _kill_session_of_term(self) -> None:
        session = (await self._document()).get("session")
        if session is not None:
            await end_sessions(self._collections, [session])


def _record(document: Document) -> TermRecord:
    holder = document.get("holder") or {}
    return TermRecord(
        epoch=document["epoch"],
        seq=document["seq"],
        watermark=document["watermark"],
        revision=document["revision"],
        holder_id=holder.get("id"),
        holder_name=holder.get("name"),
        datacenter=holder.get("datacenter"),
        since_at=document.get("since_at"),
        read_at=document["read_at"],
        catching_up=document.get("catching_up", False),
    )


def _not_prepared() -> Exception:
    return unreachable(
        "this namespace is not in the database yet", "Start an instance: it creates what is missing."
    )
