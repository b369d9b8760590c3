"""The committer: a decision is written once, whatever becomes of the answers."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from bench import SECOND, Bench, at, recording_log, slot_id
from faults import Call, Fault, Faults, away, fails, faulty_store, loses_answer, unclear
from virtual_time import freeze

from cronexec.domain.run import Executor, Run, RunState
from cronexec.errors import DuplicateEntryError, TermLostError, UnwritableError
from cronexec.ports import Batch
from cronexec.runtime.committer import Committer
from cronexec.runtime.guard import TermGuard

pytestmark = pytest.mark.virtual_time

ANNA = Executor(id="i-anna", name="anna", datacenter="east")
BERT = Executor(id="i-bert", name="bert", datacenter="west")
TEN = slot_id("backup", 10)


class Writing:
    """A term with its committer; `faults` are of its database."""

    def __init__(
        self,
        bench: Bench,
        committer: Committer,
        guard: TermGuard,
        faults: Faults,
        events: list[dict[str, Any]],
    ) -> None:
        self.bench, self.committer, self.guard, self.faults = bench, committer, guard, faults
        self.events = events

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]

    async def write(self, *run_ids: str) -> None:
        term = self.committer.term
        entries = [entry(run_id) for run_id in run_ids]
        await self.committer.commit(Batch(until=term.watermark, revision=term.revision + 1, entries=entries))


def entry(run_id: str) -> Run:
    return Run(id=run_id, job="backup", version=1, slot=at(0), state=RunState.QUEUED, epoch=1)


@pytest.fixture
async def writing(bench: Bench) -> Writing:
    faults = Faults()
    terms = faulty_store(bench.store, faults).terms
    await terms.prepare()
    guard = TermGuard(lease=10 * SECOND, monotonic=bench.clock.monotonic, renewed_at=0.0)
    term = await terms.raise_epoch(ANNA)
    log: list[dict[str, Any]] = []
    committer = Committer(terms=terms, term=term, guard=guard, clock=bench.clock, log=recording_log(log))
    return Writing(bench, committer, guard, faults, log)


def written(writing: Writing) -> list[str]:
    return list(writing.bench.database.runs)


async def test_a_write_moves_the_term_on_and_renews_the_lease_from_its_start(writing: Writing) -> None:
    held = writing.faults.hold("terms.commit")
    task = asyncio.create_task(writing.write(TEN))
    await held.arrived()
    freeze(4)
    held.release()
    await task
    assert (writing.committer.term.seq, writing.committer.term.revision) == (2, 1)
    assert writing.guard.remaining() == pytest.approx(6)


@pytest.mark.parametrize(
    "fault", [loses_answer(unclear()), fails(unclear()), loses_answer(away()), fails(away())]
)
async def test_an_unclear_write_is_written_once(writing: Writing, fault: Fault) -> None:
    writing.faults.next("terms.commit", fault)
    await writing.write(TEN)
    assert written(writing) == [TEN]
    assert writing.committer.term.seq == 2
    assert writing.guard.holds()


@pytest.mark.parametrize("fault", [loses_answer(unclear()), fails(unclear())])
async def test_an_unclear_write_and_an_unreadable_database_end_in_one_write(
    writing: Writing, fault: Fault
) -> None:
    writing.faults.next("terms.commit", fault)
    writing.faults.next("terms.read", fails(away()), fails(away()))
    await writing.write(TEN)
    await writing.write("next")
    assert written(writing) == [TEN, "next"]


async def test_a_slow_write_is_told_of_at_most_once_a_minute(writing: Writing) -> None:
    for length in (3, 4, 4, 4):
        await slow_write(writing, length)
    assert [each["seconds"] for each in writing.said("term.slow_commit")] == [4.0], "a third of ten seconds"
    for _ in range(7):
        await writing.write()
        freeze(9)
    await slow_write(writing, 5)
    first, second = writing.said("term.slow_commit")
    assert (first["level"], first["lease_s"], first["times"]) == ("warning", 10.0, 1)
    assert (second["seconds"], second["times"]) == (5.0, 3), "with those that were not told of"


async def slow_write(writing: Writing, seconds: float) -> None:
    held = writing.faults.hold("terms.commit")
    task = asyncio.create_task(writing.write())
    await held.arrived()
    freeze(seconds)
    held.release()
    await task


async def test_an_unclear_write_into_another_epoch_ends_the_term(writing: Writing) -> None:
    async def fault(_: Call) -> None:
        await writing.bench.store.terms.raise_epoch(BERT)
        raise unclear()

    writing.faults.next("terms.commit", fault)
    with pytest.raises(TermLostError):
        await writing.write(TEN)
    assert written(writing) == []
    assert writing.guard.reason == "fenced: another epoch"


async def test_a_write_that_another_epoch_has_passed_ends_the_term(writing: Writing) -> None:
    await writing.bench.store.terms.raise_epoch(BERT)
    with pytest.raises(TermLostError):
        await writing.write(TEN)
    assert not writing.guard.holds()


async def test_nothing_is_written_after_the_end_of_the_term(writing: Writing) -> None:
    writing.guard.end("stopping")
    with pytest.raises(TermLostError, match="stopping"):
        await writing.write(TEN)
    assert writing.faults.calls["terms.commit"] == 0


async def test_trying_again_ends_with_the_lease(writing: Writing) -> None:
    writing.faults.always("terms.commit", fails(away()))
    with pytest.raises(TermLostError, match="lease_expired"):
        await writing.write(TEN)
    assert timedelta(seconds=10) <= writing.bench.clock.now() - at(0) < timedelta(seconds=11)
    assert written(writing) == []


@pytest.mark.parametrize("error", [DuplicateEntryError([TEN]), UnwritableError("too large")])
async def test_what_the_database_refuses_is_the_callers_business(writing: Writing, error: Exception) -> None:
    writing.faults.next("terms.commit", fails(error))
    with pytest.raises(type(error)):
        await writing.write(TEN)
    assert writing.guard.holds()
    assert writing.committer.term.seq == 1


@pytest.mark.parametrize("error", [DuplicateEntryError([TEN]), TermLostError("seq")])
async def test_a_write_that_meets_itself_is_recognized(writing: Writing, error: Exception) -> None:
    late: list[Call] = []

    async def delayed(call: Call) -> None:
        late.append(call)
        raise unclear()

    async def overtaken(_: Call) -> None:
        await late[0]()
        raise error

    writing.faults.next("terms.commit", delayed, overtaken)
    await writing.write(TEN)
    assert written(writing) == [TEN]
    assert writing.committer.term.seq == 2
    assert writing.guard.holds()
