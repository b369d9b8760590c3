"""The fence on MongoDB under faults: processes that die or freeze, lost answers, cancelled callers."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import mongo_faults
import pytest
from mongo_faults import Proxy
from patience import PATIENCE
from pymongo import AsyncMongoClient
from pymongo.errors import BulkWriteError, OperationFailure
from stores import ANNA, BERT, MongoBench, begin, entry, job, slot_at, write
from structlog.testing import capture_logs

from cronexec.adapters.mongo_content import write_content
from cronexec.adapters.mongo_errors import translated
from cronexec.domain.run import Outcome, RunState
from cronexec.errors import TermLostError, UnclearCommitError, UnwritableError
from cronexec.ports import Batch, RunFilter, Settle, Start

FORMERLY = (
    84.0  # seconds that a dead holder's transaction blocks the term document when nobody ends its session
)


@asynccontextmanager
async def frozen_holder(mongo: MongoBench) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an instance that has changed the term document in a transaction, and not committed."""
    script = str(Path(mongo_faults.__file__))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        mongo.url,
        mongo.namespace,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"inside\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_holder_killed_inside_a_transaction_does_not_hold_up_the_next_epoch(
    mongo: MongoBench,
) -> None:
    store = mongo.open()
    await store.terms.ping()  # connected
    async with frozen_holder(mongo) as process:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        began = time.perf_counter()
        term = await store.terms.raise_epoch(BERT)
        took = time.perf_counter() - began
    assert term.epoch == 2
    assert took < 1.0, f"{took:.3f} s; without ending its session about {FORMERLY:g} s"
    assert await store.runs.list(RunFilter()) == []
    assert (await write(store, term, entries=[entry("a", epoch=2)])).seq == term.seq + 1


async def test_an_instance_starts_while_a_dead_holders_transaction_is_open(mongo: MongoBench) -> None:
    """It may be the only one that is left."""
    store = mongo.open()
    await store.terms.ping()
    async with frozen_holder(mongo) as process:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        began = time.perf_counter()
        assert not await store.terms.prepare()
        took = time.perf_counter() - began
        assert (await store.terms.raise_epoch(BERT)).epoch == 2
    assert took < 4.0, f"{took:.3f} s; waiting for its end takes about {FORMERLY:g} s"


async def test_a_holder_frozen_inside_a_transaction_wakes_up_to_a_lost_term(mongo: MongoBench) -> None:
    store = mongo.open()
    await store.terms.ping()
    async with frozen_holder(mongo) as process:
        process.send_signal(signal.SIGSTOP)
        began = time.perf_counter()
        assert await store.terms.reserve_insertion(timedelta(minutes=1))
        seen = await store.terms.read()
        assert await store.terms.depose(seen.epoch, seen.seq)
        took = time.perf_counter() - began
        process.send_signal(signal.SIGCONT)
        out, _ = await asyncio.wait_for(process.communicate(b"\n"), PATIENCE)
    assert took < 1.0, f"{took:.3f} s"
    assert out == b"TermLostError\n"
    assert await store.runs.list(RunFilter()) == []


@pytest.mark.parametrize("begun", ["before", "after"])
async def test_a_transaction_of_a_former_term_that_is_open_still_does_not_hold_up_the_next_ones(
    mongo: MongoBench, begun: str
) -> None:
    """Its network is held: it got no further than its entries, or they arrive when the term is over."""
    former = mongo.instance()
    first = await begin(former.store, ANNA)
    current = former._writer._current
    assert current is not None
    collections, claimed = former._writer._collections, entry("a", epoch=1)
    batch = Batch(until=first.watermark, revision=0, entries=[claimed])

    async def get_as_far_as_the_entries() -> None:
        await current.session.start_transaction()
        await write_content(collections, current.session, first, batch, timedelta(days=1))

    if begun == "before":
        await get_as_far_as_the_entries()
    await mongo.open().terms.raise_epoch(BERT)  # ends before it writes anything
    store = mongo.open()
    term = await store.terms.raise_epoch(BERT)
    if begun == "after":
        await get_as_far_as_the_entries()
    began = time.perf_counter()
    assert (await write(store, term, entries=[replace(claimed, epoch=3)])).seq == term.seq + 1
    took = time.perf_counter() - began
    assert took < 1.0, f"{took:.3f} s; otherwise a minute, and one lease after the other ends meanwhile"


@pytest.mark.parametrize("delay_ms", [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0])
async def test_a_write_whose_caller_is_cancelled_is_found_applied_or_not(
    mongo: MongoBench, delay_ms: float
) -> None:
    store = mongo.open()
    term = await begin(store)
    entries = [entry(f"job{number}") for number in range(1_500)]
    task = asyncio.create_task(write(store, term, entries=entries))
    await asyncio.sleep(delay_ms / 1000)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    applied = (await store.terms.read()).seq == term.seq + 1
    assert len(await store.runs.list(RunFilter(limit=2_000))) == (1_500 if applied else 0)
    if applied:
        with pytest.raises(TermLostError):
            await write(store, term)
    else:
        assert (await write(store, term)).seq == term.seq + 1


async def test_a_write_waits_for_the_one_whose_caller_was_cancelled(mongo: MongoBench) -> None:
    store = mongo.open()
    term = await begin(store)
    first = asyncio.create_task(
        write(store, term, entries=[entry(f"job{number}") for number in range(3_000)])
    )
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(TermLostError, match=f"expected write {term.seq}"):
        await write(store, term, entries=[entry("b")])
    assert (await store.terms.read()).seq == term.seq + 1
    assert len(await store.runs.unsettled()) == 3_000


@pytest.mark.parametrize("content", [{}, {"entries": [entry("a")]}], ids=["alone", "transaction"])
async def test_a_write_whose_answer_was_lost_recognizes_itself(
    mongo: MongoBench, content: dict[str, list[object]]
) -> None:
    async with Proxy(mongo.url) as proxy:
        through = MongoBench(proxy.url, mongo.namespace)
        store = through.open()
        term = await begin(store)
        proxy.swallow, proxy.times = (b"commitTransaction" if content else b"watermark"), 1
        with capture_logs() as events:
            after = await write(store, term, **content)
        assert proxy.swallowed == 1
        lost = [each["log_level"] for each in events if each["event"] == "database.connection_lost"]
        assert lost == ["warning"], "who asks again says that there was no answer"
        assert (await store.terms.read()).seq == after.seq == term.seq + 1
        assert len(await store.runs.list(RunFilter())) == len(content.get("entries", []))
        assert (await write(store, after)).seq == after.seq + 1
        await through.close()


async def test_connections_that_are_closed_or_left_in_good_order_are_not_told_of(mongo: MongoBench) -> None:
    instance = MongoBench(mongo.url, mongo.namespace)
    store = instance.open()
    await begin(store)
    with capture_logs() as events:
        reading = asyncio.create_task(store.terms.ping())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        await instance.close()
    assert [each for each in events if each["event"] == "database.connection_lost"] == []


async def test_a_commit_that_is_never_answered_is_unclear_and_reading_tells(mongo: MongoBench) -> None:
    async with Proxy(mongo.url) as proxy:
        through = MongoBench(proxy.url, mongo.namespace)
        store = through.open(lease=timedelta(seconds=1))
        term = await begin(store)
        proxy.swallow, proxy.times = b"commitTransaction", 1_000_000
        began = time.perf_counter()
        with pytest.raises(UnclearCommitError):
            await write(store, term, entries=[entry("a")])
        assert time.perf_counter() - began < 3.0
        await through.close()
    direct = mongo.open()
    assert (await direct.terms.read()).seq == term.seq + 1
    assert await direct.runs.get(entry("a").id) is not None


async def test_a_conflict_with_another_write_is_tried_again(mongo: MongoBench) -> None:
    store = mongo.open()
    run = entry("a")
    term = await write(store, await begin(store), entries=[run])
    await store.runs.start([run], Start(token=run.id, executor=BERT, at=slot_at(1)))
    abandoned = Outcome(state=RunState.ABANDONED)
    settle = Settle(run_id=run.id, attempt=1, expected=RunState.RUNNING, outcome=abandoned, at=slot_at(2))
    async with AsyncMongoClient[dict[str, object]](mongo.url) as client:
        runs = client["cronexec"][f"{mongo.namespace}.runs"]
        async with client.start_session() as session:
            await session.start_transaction()
            await runs.update_one({"_id": run.id}, {"$set": {"in_the_way": True}}, session=session)
            writing = asyncio.create_task(write(store, term, settles=[settle]))
            await asyncio.wait([writing], timeout=0.05)
            assert not writing.done()
            await session.commit_transaction()
        assert (await writing).seq == term.seq + 1
    assert await store.runs.states([run.id]) == {run.id: RunState.ABANDONED}


@pytest.mark.parametrize(
    "culprit",
    [{"league": 2**70}, {"text": "x" * 17_000_000}, {"half": "\ud800"}, {"nul\x00": 1}],
    ids=["number", "size", "surrogate", "key"],
)
async def test_what_mongodb_can_never_store_is_unwritable_and_harms_nothing_else(
    mongo: MongoBench, culprit: dict[str, object]
) -> None:
    store = mongo.open()
    term = await begin(store)
    bad = entry("bad", params=culprit)
    with pytest.raises(UnwritableError):
        await write(store, term, entries=[entry("good"), bad], jobs=[job("j", 1)])
    assert await store.runs.list(RunFilter()) == []
    assert (await write(store, term, entries=[entry("good")])).seq == term.seq + 1


async def test_a_transaction_that_does_not_fit_into_the_servers_cache_is_refused_for_good(
    mongo: MongoBench,
) -> None:
    """Too large together, at a write or at the commit: an unclear write would be tried for ever."""
    holder = mongo.instance()
    term = await begin(holder.store)
    current = holder._writer._current
    assert current is not None
    commit = current.session.commit_transaction

    async def refuse() -> None:
        await current.session.abort_transaction()  # as the server has
        raise OperationFailure("transaction is too large and will not fit in the storage engine cache", 388)

    current.session.commit_transaction = refuse  # type: ignore[method-assign]
    with pytest.raises(UnwritableError, match="too large"):
        await write(holder.store, term, entries=[entry("a"), entry("b")])
    current.session.commit_transaction = commit  # type: ignore[method-assign]
    term = await write(holder.store, term, entries=[entry("a")])
    assert [run.job for run in await holder.store.runs.list(RunFilter())] == ["a"]
    at_a_write = BulkWriteError({"writeErrors": [{"index": 274, "code": 388, "errmsg": "too large"}]})
    refused = translated(at_a_write)
    assert isinstance(refused, UnwritableError)
    assert "too large" in str(refused), "and not only that a batch had errors"
