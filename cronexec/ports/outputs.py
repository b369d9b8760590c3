"""What attempts wrote, beside the ledger: written by executors while they run, read by anybody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cronexec.domain.transcript import Piece, Transcript


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """What came after a position of an attempt's output; the pieces are in order, without overlaps.

    Done twice, it is done once. `kept_from`: what lies between the head and this position is kept no more.
    """

    run_id: str
    attempt: int
    pieces: Sequence[Piece]
    written: int
    kept_from: int = 0
    ended: bool = False


class OutputStore(Protocol):
    async def grow(self, growths: Sequence[Growth]) -> None:
        """Write what came since; an attempt's first growth makes its transcript."""
        ...

    async def read(self, run_id: str, attempt: int, *, since: int = 0) -> Transcript | None:
        """Return what an attempt wrote from the position `since` on; None where nothing of it is kept."""
        ...
