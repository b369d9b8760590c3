"""A write that the database refuses for good: the rest of it is written all the same.

One entry that cannot be stored aborts the whole transaction, and would end this term and every next. So the
claims are written apart from everything else: in halves, down to the claims of one job, or one settlement.
The watermark stays below all of them until the last is written or known to be a culprit; should the term end
half-way, the next holder finds what was written beyond the watermark.

A culprit's job is *parked* (`domain.parking`). Where not even one claim could be written, and the ledger
does not take the ranges of the parked jobs either, it is not the jobs that are wrong but the database (a
validator on the collection, say): then nothing is parked, and the term ends with the database's reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cronexec.domain.ledger import Settle
from cronexec.domain.replacement import Replacement
from cronexec.domain.run import Run
from cronexec.errors import DuplicateEntryError, UnwritableError
from cronexec.log import Log
from cronexec.ports import Batch
from cronexec.runtime.committer import Committer
from cronexec.runtime.decision import Decision


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    """What is refused as one: the claims of `job`, or one settlement."""

    job: str | None = None
    entries: tuple[Run, ...] = ()
    replacements: tuple[Replacement, ...] = ()
    settles: tuple[Settle, ...] = ()


class Culprits:
    """Writes one decision that was refused as a whole, and that carries no commands any more."""

    def __init__(self, decision: Decision, *, committer: Committer, log: Log) -> None:
        self._decision = decision
        self._committer = committer
        self._log = log
        self._refused: list[tuple[_Item, str]] = []
        self._something_written = False

    async def write(self) -> None:
        """Write all that the database takes, and the watermark; parked jobs are in the decision then.

        Raises UnwritableError where the database refuses everything.
        """
        await self._write(self._items())
        for item, _ in self._refused:
            self._decision.drop_entries(entry.id for entry in item.entries)
        self._park()
        try:
            await self._close()
        except UnwritableError:
            if not self._something_written:
                raise
            self._decision.park_without_ranges()
            await self._close()
        self._leave_out_settles()

    def _items(self) -> list[_Item]:
        by_job: dict[str, list[Run]] = {}
        for entry in self._decision.entries.values():
            by_job.setdefault(entry.job, []).append(entry)
        claims = [
            _Item(job=job, entries=tuple(entries), replacements=self._replacements(entries))
            for job, entries in by_job.items()
        ]
        return claims + [_Item(settles=(settle,)) for settle in self._moves()]

    def _moves(self) -> list[Settle]:
        return [*self._decision.settles, *self._decision.ahead]

    def _replacements(self, entries: Sequence[Run]) -> tuple[Replacement, ...]:
        known = self._decision.replacements
        return tuple(known[entry.id] for entry in entries if entry.id in known)

    async def _write(self, items: Sequence[_Item]) -> None:
        if not items:
            return
        try:
            await self._commit(items)
        except UnwritableError as error:
            if len(items) == 1:
                self._refused.append((items[0], str(error)))
                return
            half = len(items) // 2
            await self._write(items[:half])
            await self._write(items[half:])
        else:
            self._something_written = True

    async def _commit(self, items: Sequence[_Item]) -> None:
        term, entries = self._committer.term, [entry for item in items for entry in item.entries]
        replaced = [each for item in items for each in item.replacements]
        settles = [settle for item in items for settle in item.settles]
        settles += [settle for each in replaced for settle in each.settles]
        cancels = {run_id: by for each in replaced for run_id, by in each.cancels.items()}
        while True:
            try:
                return await self._committer.commit(
                    Batch(
                        until=term.watermark,
                        revision=term.revision,
                        entries=entries,
                        settles=settles,
                        cancels=cancels,
                        catching_up=True,
                    )
                )
            except DuplicateEntryError as error:
                self._decision.drop_entries(error.run_ids)
                entries = [entry for entry in entries if entry.id in self._decision.entries]

    def _park(self) -> None:
        """Park the culprits' jobs."""
        for item, why in self._refused:
            if item.job is not None:
                self._decision.park(self._decision.planned[item.job], item.entries[0].slot, why)

    async def _close(self) -> None:
        """Write what completes the decision: the watermark, parked jobs, and all that it carried besides."""
        rest = replace(self._decision.batch(), entries=self._decision.ranges(), settles=())
        await self._committer.commit(rest)

    def _leave_out_settles(self) -> None:
        refused = {settle for item, _ in self._refused for settle in item.settles}
        self._decision.settles = [each for each in self._moves() if each not in refused]
        self._decision.ahead = ()
        for item, why in self._refused:
            if item.job is None:
                self._log.error("run.settle_refused", run=item.settles[0].run_id, why=why)
