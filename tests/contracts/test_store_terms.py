"""What every `TermStore` promises: terms, the fence, and all of a write or nothing."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from stores import ANNA, BERT, SECOND, Bench, begin, entry, job, skip, slot_at, write

from cronexec.domain.run import RunState
from cronexec.errors import DuplicateEntryError, TermLostError, UnwritableError
from cronexec.ports import MOST_ADOPTED, AppliedCommand, Batch, RunFilter, Store


async def test_only_the_first_preparation_creates_the_term_document(stores: Bench) -> None:
    first = stores.open()
    assert await first.terms.prepare()
    term = await first.terms.raise_epoch(ANNA)
    assert not await stores.open().terms.prepare()
    assert (await first.terms.read()).epoch == term.epoch == 1


async def test_the_first_watermark_is_the_databases_clock(store: Store) -> None:
    before = await store.terms.ping()
    await store.terms.prepare()
    record = await store.terms.read()
    assert before <= record.watermark <= record.read_at
    assert (record.epoch, record.seq, record.revision, record.holder_id) == (0, 0, 0, None)


async def test_a_new_term_has_the_next_epoch_and_leaves_the_watermark(store: Store) -> None:
    first = await begin(store, ANNA)
    second = await store.terms.raise_epoch(BERT)
    record = await store.terms.read()
    assert (second.epoch, second.seq) == (first.epoch + 1, first.seq + 1)
    assert second.watermark == first.watermark == record.watermark
    assert second.session != first.session
    assert (record.holder_id, record.holder_name, record.datacenter) == ("i-bert", "bert", "west")
    assert record.since_at == second.since_at


async def test_terms_that_begin_at_the_same_time_have_different_epochs(stores: Bench) -> None:
    await stores.open().terms.prepare()
    terms = await asyncio.gather(*(stores.open().terms.raise_epoch(who) for who in (ANNA, BERT, ANNA, BERT)))
    assert sorted(term.epoch for term in terms) == [1, 2, 3, 4]


async def test_a_fenced_write_moves_seq_watermark_and_revision(store: Store) -> None:
    term = await begin(store)
    until = term.watermark + SECOND / 2
    after = await store.terms.commit(term, Batch(until=until, revision=7, entries=[entry("a")]))
    record = await store.terms.read()
    assert (after.epoch, after.seq, after.watermark, after.revision) == (1, term.seq + 1, until, 7)
    assert (record.epoch, record.seq, record.watermark, record.revision) == (1, after.seq, until, 7)
    assert await store.runs.get(entry("a").id) == entry("a")


async def test_a_write_without_content_is_fenced_too(stores: Bench) -> None:
    store = stores.open()
    term = await begin(store)
    after = await write(store, term)
    assert (await store.terms.read()).seq == after.seq == term.seq + 1
    with pytest.raises(TermLostError):
        await write(store, term)
    await stores.open().terms.raise_epoch(BERT)
    with pytest.raises(TermLostError):
        await write(store, after)


async def test_a_stale_terms_write_is_refused_and_writes_nothing(stores: Bench) -> None:
    stale = stores.open()
    term = await begin(stale)
    await stores.open().terms.raise_epoch(BERT)
    with pytest.raises(TermLostError):
        await write(stale, term, entries=[entry("a")], jobs=[job("a", 1)], revision=1)
    assert await stale.runs.list(RunFilter()) == []
    assert await stale.jobs.list() == []
    assert (await stale.terms.read()).revision == 0


async def test_a_stale_term_is_told_so_although_its_entries_are_in_the_ledger(stores: Bench) -> None:
    stale, fresh = stores.open(), stores.open()
    old = await begin(stale)
    new = await fresh.terms.raise_epoch(BERT)
    await write(fresh, new, entries=[entry("a", epoch=2)])
    with pytest.raises(TermLostError):
        await write(stale, old, entries=[entry("a")])


async def test_a_write_with_a_duplicate_writes_nothing_and_names_it(store: Store) -> None:
    term = await write(store, await begin(store), entries=[entry("a"), entry("b")])
    with pytest.raises(DuplicateEntryError) as refused:
        await write(store, term, entries=[entry("z"), entry("b"), entry("a")], jobs=[job("j", 1)])
    assert refused.value.run_ids == (entry("b").id, entry("a").id)
    assert await store.runs.get(entry("z").id) is None
    assert await store.jobs.list() == []
    assert (await write(store, term, entries=[entry("z")])).seq == term.seq + 1


async def test_a_write_that_names_an_entry_twice_is_refused_for_good(store: Store) -> None:
    term = await begin(store)
    with pytest.raises(UnwritableError):
        await write(store, term, entries=[entry("a"), entry("a")])
    assert await store.runs.get(entry("a").id) is None


async def test_a_command_is_applied_once(store: Store) -> None:
    command = AppliedCommand(id="c1", type="job.put", received_at=slot_at(), reply={"ok": True}, document={})
    term = await write(store, await begin(store), commands=[command])
    with pytest.raises(UnwritableError):
        await write(store, term, commands=[command], entries=[entry("a")])
    assert await store.runs.get(entry("a").id) is None


async def test_a_watermark_two_hours_ahead_is_refused(store: Store) -> None:
    term = await begin(store)
    ahead = await store.terms.ping() + timedelta(hours=2)
    with pytest.raises(TermLostError, match="ahead of the database's clock"):
        await write(store, term, until=ahead, entries=[entry("a")])
    with pytest.raises(TermLostError, match="ahead of the database's clock"):
        await write(store, term, until=ahead)
    record = await store.terms.read()
    assert (record.seq, record.watermark) == (term.seq, term.watermark)
    assert await store.runs.get(entry("a").id) is None


async def test_a_large_write_is_one_write(store: Store) -> None:
    entries = [entry(f"job{number}") for number in range(2_300)]
    term = await write(store, await begin(store), entries=entries)
    assert {run.id for run in await store.runs.unsettled()} == {run.id for run in entries}
    with pytest.raises(DuplicateEntryError):
        await write(store, term, entries=[*(entry(f"new{number}") for number in range(1_200)), entries[-1]])
    assert len(await store.runs.unsettled()) == 2_300


async def test_a_new_term_adopts_the_queued_runs_and_no_others(store: Store) -> None:
    old = await begin(store)
    running = entry("running", state=RunState.RUNNING, token=ANNA.id, executor=ANNA, started_at=slot_at(1))
    await write(store, old, entries=[entry("queued"), running, skip("skipped")])
    new = await store.terms.raise_epoch(BERT)
    await write(store, new, adopt=True, entries=[entry("own", epoch=new.epoch)])
    epochs = {run.job: run.epoch for run in await store.runs.list(RunFilter())}
    assert epochs == {"queued": new.epoch, "own": new.epoch, "running": old.epoch, "skipped": old.epoch}


async def test_a_long_line_of_queued_runs_is_adopted_in_several_writes(store: Store) -> None:
    old = await begin(store)
    for start in range(0, MOST_ADOPTED + 300, 2_000):
        count = min(2_000, MOST_ADOPTED + 300 - start)
        old = await write(store, old, entries=[entry(f"job{start + number}") for number in range(count)])
    new = await store.terms.raise_epoch(BERT)
    term = await write(store, new, adopt=True)
    adopted = Counter(run.epoch for run in await store.runs.unsettled())
    assert adopted == {new.epoch: MOST_ADOPTED, old.epoch: 300}
    await write(store, term, adopt=True)
    assert {run.epoch for run in await store.runs.unsettled()} == {new.epoch}


async def test_a_silent_holder_is_deposed_only_where_it_was_seen(store: Store) -> None:
    term = await begin(store)
    assert not await store.terms.depose(term.epoch, term.seq - 1)
    assert await store.terms.depose(term.epoch, term.seq)
    assert not await store.terms.depose(term.epoch, term.seq)
    record = await store.terms.read()
    assert (record.epoch, record.watermark, record.holder_id) == (term.epoch + 1, term.watermark, None)
    with pytest.raises(TermLostError):
        await write(store, term)


async def test_one_insertion_is_reserved_in_an_interval(stores: Bench) -> None:
    store = stores.open()
    term = await begin(store)
    answers = await asyncio.gather(
        *(stores.open().terms.reserve_insertion(timedelta(minutes=1)) for _ in range(5))
    )
    assert sorted(answers) == [False, False, False, False, True]
    assert await store.terms.reserve_insertion(timedelta(0))
    assert (await store.terms.read()).seq == term.seq


async def test_what_was_committed_is_read_by_every_instance(stores: Bench) -> None:
    writer, reader = stores.open(), stores.open()
    term = await begin(writer)
    for number in range(20):
        term = await write(writer, term, entries=[entry("a", number)], revision=number)
        assert (await reader.terms.read()).seq == term.seq
        assert await reader.runs.get(entry("a", number).id) == entry("a", number)


async def test_closing_a_link_is_reserved_apart_from_inserting_a_baton(store: Store) -> None:
    await store.terms.prepare()
    assert await store.terms.reserve_insertion(timedelta(seconds=30))
    assert await store.terms.reserve_closing(timedelta(seconds=30), epoch=3)
    assert not await store.terms.reserve_closing(timedelta(seconds=30), epoch=3)


async def test_closing_the_link_of_a_later_holder_does_not_wait_and_of_an_earlier_one_does(
    store: Store,
) -> None:
    await store.terms.prepare()
    minute = timedelta(minutes=1)
    assert await store.terms.reserve_closing(minute, epoch=3)
    assert await store.terms.reserve_closing(minute, epoch=5)
    assert not await store.terms.reserve_closing(minute, epoch=5)
    assert not await store.terms.reserve_closing(minute, epoch=4)
    assert await store.terms.reserve_closing(timedelta(0), epoch=4)
