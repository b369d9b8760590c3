"""Mutations: what the runtime or its store would be with one safeguard removed. Each must be found out.

Those that the promises of the README rest on are here, others in `more_mutations`.
"""

from contextlib import suppress
from dataclasses import replace

from more_mutations import MORE
from mutation import Mutation
from simulated_broker import SimulatedBroker, SimulatedLink
from simulated_store import SimulatedTerms, has_content

from cronexec.domain.term import Term
from cronexec.errors import TermLostError, UnreachableError
from cronexec.ports import Batch, BatonArrived
from cronexec.runtime import holder
from cronexec.runtime.baton import BatonKeeper
from cronexec.runtime.committer import Committer
from cronexec.runtime.instance import Instance

# --- the fence, in the database ---


class NoFence(SimulatedTerms):
    """Writes whoever asks: neither epoch nor sequence is looked at."""

    async def write(self, term: Term, batch: Batch) -> Term:
        found = self._found()
        written = await super().write(replace(term, epoch=found.epoch, seq=found.seq), batch)
        return replace(written, epoch=term.epoch)


class ReadingFence(SimulatedTerms):
    """Reads the term document when the transaction begins, and conflicts with nobody later."""

    async def open(self, term: Term, batch: Batch) -> None:  # noqa: ARG002  what is written comes later
        found = self._found()
        if (found.epoch, found.seq) != (term.epoch, term.seq):
            raise TermLostError(f"the database is at {found.epoch}/{found.seq}")

    async def write(self, term: Term, batch: Batch) -> Term:
        if not has_content(batch):
            return await super().write(term, batch)
        found = self._found()
        written = await super().write(replace(term, epoch=found.epoch, seq=found.seq), batch)
        return replace(written, epoch=term.epoch)


class WatermarkFirst(SimulatedTerms):
    """Moves the watermark in a fenced write of its own, and then writes the rest in another."""

    _moved: Term | None = None

    async def open(self, term: Term, batch: Batch) -> None:
        self._moved = None
        moved = await self.commit(term, Batch(until=batch.until, revision=self._found().revision))
        self._moved = moved

    async def commit(self, term: Term, batch: Batch) -> Term:
        written = await super().commit(self._moved or term, batch)
        self._moved = None
        return written


class NoAdoption(SimulatedTerms):
    """Leaves queued runs with the epoch that claimed them."""

    async def write(self, term: Term, batch: Batch) -> Term:
        return await super().write(term, replace(batch, adopt=False))


# --- the runtime ---


class KeepsDuplicates(BatonKeeper):
    """Keeps every baton that arrives."""

    def arrived(self, baton: BatonArrived) -> None:
        self._held = baton
        if baton.message_id in self._expected:
            self._expected.discard(baton.message_id or "")
            self._arrived.set()


class TakesUnclearForDone(Committer):
    """Does not read again after an unclear commit: it will have been applied."""

    async def _was_applied(self, batch: Batch) -> bool | None:
        self.term = replace(self.term, seq=self.term.seq + 1, watermark=batch.until, revision=batch.revision)
        return True


class DecidesUnclearAgain(Committer):
    """Does not look what became of an unclear commit: writes the same with whatever sequence there is now."""

    async def _was_applied(self, batch: Batch) -> bool | None:  # noqa: ARG002  that is the mutation
        with suppress(UnreachableError):
            self.term = replace(self.term, seq=(await self._terms.read()).seq)
        return False


class NacksWithoutCancel(SimulatedLink):
    """Gives the baton back while it still consumes."""

    async def _cancel(self) -> None:
        """Forget to."""


class LinksWithoutCancel(SimulatedBroker):
    link_type = NacksWithoutCancel


class DrainsFirst(Instance):
    """Finishes what runs before it hands the baton over."""

    async def stop(self, grace: float) -> bool:
        await self.dispatcher.drain(grace)
        return await super().stop(grace)


MUTATIONS = {
    mutation.name: mutation
    for mutation in (
        Mutation(name="no_fence", what="fenced writes name no epoch", terms=NoFence),
        Mutation(name="reading_fence", what="the fence reads instead of changing", terms=ReadingFence),
        Mutation(name="watermark_first", what="the watermark is not in the claim", terms=WatermarkFirst),
        Mutation(name="no_adoption", what="a new term does not adopt queued runs", terms=NoAdoption),
        Mutation(
            name="duplicates_kept",
            what="batons that arrive while one is held are kept",
            patches=((holder, "BatonKeeper", KeepsDuplicates),),
        ),
        Mutation(
            name="unclear_is_done",
            what="an unclear commit is taken for done",
            patches=((holder, "Committer", TakesUnclearForDone),),
        ),
        Mutation(
            name="unclear_is_repeated",
            what="an unclear commit is repeated with the sequence found",
            patches=((holder, "Committer", DecidesUnclearAgain),),
        ),
        Mutation(name="nack_without_cancel", what="release does not cancel first", broker=LinksWithoutCancel),
        Mutation(name="drain_first", what="a stop finishes runs before the baton goes", instance=DrainsFirst),
        *MORE,
    )
}
