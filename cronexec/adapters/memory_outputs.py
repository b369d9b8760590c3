"""Transcripts in memory: the contract of `mongo_outputs`, on a dictionary."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from cronexec.domain.transcript import HEAD_BYTES, Transcript, beyond
from cronexec.ports import Growth

Key = tuple[str, int]


class Database(Protocol):
    """The part of `MemoryDatabase` that outputs need."""

    outputs: dict[Key, Transcript]

    async def reach(self) -> None: ...


class MemoryOutputStore:
    """Implements `ports.OutputStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def grow(self, growths: Sequence[Growth]) -> None:
        await self._database.reach()
        for growth in growths:
            key = (growth.run_id, growth.attempt)
            former = self._database.outputs.get(key)
            self._database.outputs[key] = _grown(former, growth)

    async def read(self, run_id: str, attempt: int, *, since: int = 0) -> Transcript | None:
        await self._database.reach()
        found = self._database.outputs.get((run_id, attempt))
        return None if found is None else replace(found, pieces=beyond(found.pieces, since))


def _grown(former: Transcript | None, growth: Growth) -> Transcript:
    first = growth.pieces[0].at if growth.pieces else growth.written
    kept = [
        piece
        for piece in (former.pieces if former else ())
        if piece.at < first and (piece.at < HEAD_BYTES or piece.end > growth.kept_from)
    ]
    return Transcript(pieces=[*kept, *growth.pieces], written=growth.written, ended=growth.ended)
