"""Transcripts in MongoDB: one document an attempt, `_id` RUN/ATTEMPT, in a collection of their own.

`pieces` is an array of `{at, data}`. A growth is one update, which drops what an earlier try of the same
growth wrote, and what is kept no more, before it adds its own: so it may be repeated when its answer was
lost. Only what is new travels to the database, and only what is asked for back. A document stays below what
head, tail and one growth beyond them are together, far from the 16 MB that MongoDB allows.
"""

from collections.abc import Sequence
from datetime import timedelta

from pymongo import UpdateOne

from cronexec.adapters.mongo_collections import Collections, Document
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.domain.transcript import HEAD_BYTES, Piece, Transcript, beyond
from cronexec.ports import Clock, Growth

_END = {"$add": ["$$this.at", {"$binarySize": "$$this.data"}]}


class MongoOutputStore:
    """Implements `ports.OutputStore`. What is written is kept for `retention` after the last growth."""

    def __init__(self, collections: Collections, *, retention: timedelta, clock: Clock) -> None:
        self._outputs = collections.outputs
        self._retention = retention
        self._clock = clock

    async def grow(self, growths: Sequence[Growth]) -> None:
        if not growths:
            return
        with driver_errors():
            await self._outputs.bulk_write([self._write(growth) for growth in growths], ordered=False)

    async def read(self, run_id: str, attempt: int, *, since: int = 0) -> Transcript | None:
        new = {"$filter": {"input": "$pieces", "cond": {"$gt": [_END, since]}}}
        shown = {"_id": 0, "written": 1, "ended": 1, "pieces": new}
        with driver_errors():
            found = await self._outputs.find_one({"_id": output_id(run_id, attempt)}, shown)
        if found is None:
            return None
        pieces = [Piece(at=piece["at"], data=piece["data"]) for piece in found["pieces"]]
        return Transcript(
            pieces=beyond(pieces, since), written=found["written"], ended=found.get("ended", False)
        )

    def _write(self, growth: Growth) -> UpdateOne:
        first = growth.pieces[0].at if growth.pieces else growth.written
        is_head, is_tail = {"$lt": ["$$this.at", HEAD_BYTES]}, {"$gt": [_END, growth.kept_from]}
        is_kept = {"$and": [{"$lt": ["$$this.at", first]}, {"$or": [is_head, is_tail]}]}
        kept = {"$filter": {"input": {"$ifNull": ["$pieces", []]}, "cond": is_kept}}
        new = [{"at": piece.at, "data": piece.data} for piece in growth.pieces]
        fields: Document = {
            "pieces": {"$concatArrays": [kept, {"$literal": new}]},
            "written": growth.written,
            "expire_at": self._clock.now() + self._retention,
        }
        if growth.ended:
            fields["ended"] = True
        return UpdateOne({"_id": output_id(growth.run_id, growth.attempt)}, [{"$set": fields}], upsert=True)


def output_id(run_id: str, attempt: int) -> str:
    """Return the `_id` of an attempt's transcript: the last `/` is the one before the attempt."""
    return f"{run_id}/{attempt}"
