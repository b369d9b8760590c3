"""The store on three members of MongoDB: what is acknowledged stays, whoever is the primary."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from missing_servers import do_without
from patience import PATIENCE
from pymongo import MongoClient
from stores import ANNA, MongoBench, begin, entry, write

from cronexec.dev.errors import MissingServerError
from cronexec.dev.replica_set import Member, PrivateReplicaSet
from cronexec.domain.term import Term
from cronexec.errors import TermLostError, UnclearCommitError, UnreachableError
from cronexec.ports import RunFilter, Store

ELECTION_TIMEOUT = timedelta(seconds=3)
UNDER_WAY = 20  # writes
WRITES_AGAIN_WITHIN = 3.0  # seconds after a primary was elected


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateReplicaSet]:
    try:
        replica_set = PrivateReplicaSet(tmp_path_factory.mktemp("set"), election_timeout=ELECTION_TIMEOUT)
        replica_set.start()
    except MissingServerError as missing:
        do_without(missing)
    yield replica_set
    replica_set.kill()


@pytest.fixture
async def writer(members: PrivateReplicaSet, request: pytest.FixtureRequest) -> AsyncIterator["Writer"]:
    bench = MongoBench(members.url, f"t{abs(hash(request.node.name)):x}"[:12])
    yield Writer(bench.open())
    await bench.close()


@contextmanager
def nothing_replicated_to(members: Sequence[Member]) -> Iterator[None]:
    """Have members write nothing, and answer: they go on to vote, and the primary stays one."""
    try:
        for member in members:
            member.command({"fsync": 1, "lock": True})
        yield
    finally:
        for member in members:
            member.command({"fsyncUnlock": 1})


class Writer:
    """A holder that writes an entry after the other, and begins a new term where a write failed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.acknowledged: list[str] = []
        self.failed: list[str] = []
        self.acknowledged_at: list[float] = []
        self._under_way = threading.Event()

    def wait_until_under_way(self) -> None:
        """Wait, in another thread, until a number of writes was acknowledged."""
        assert self._under_way.wait(PATIENCE), f"{len(self.acknowledged)} writes after {PATIENCE:g} s"

    async def write_until(self, done: Callable[[], bool]) -> None:
        term: Term | None = await begin(self.store)
        while not done():
            term = await (self._write(term) if term else self._begin_again())

    async def _write(self, term: Term) -> Term | None:
        name = f"job-{len(self.acknowledged) + len(self.failed)}"
        run = entry(name, epoch=term.epoch)
        try:
            after = await write(self.store, term, entries=[run])
        except (UnclearCommitError, UnreachableError, TermLostError):
            self.failed.append(run.id)
            return None
        self.acknowledged.append(run.id)
        self.acknowledged_at.append(time.monotonic())
        if len(self.acknowledged) == UNDER_WAY:
            self._under_way.set()
        return after

    async def _begin_again(self) -> Term | None:
        try:
            return await self.store.terms.raise_epoch(ANNA)
        except (UnclearCommitError, UnreachableError):
            await asyncio.sleep(0.05)
            return None

    async def assert_nothing_lost(self) -> None:
        """Check that what was acknowledged is there, and nothing that was never written."""
        runs = await self.store.runs.list(RunFilter(limit=100_000))
        stored = {run.id for run in runs}
        assert len(stored) == len(runs)
        assert set(self.acknowledged) <= stored
        assert stored <= set(self.acknowledged) | set(self.failed)

    def first_after(self, moment: float) -> float | None:
        return next((at - moment for at in self.acknowledged_at if at > moment), None)


async def through(writer: Writer, fault: Callable[[], float]) -> float:
    """Write, let the fault happen meanwhile, and go on for a while; returns when writing went on after it.

    `fault` returns the moment from which on it could have.
    """
    happened: asyncio.Future[float] = asyncio.ensure_future(asyncio.to_thread(fault))

    def over() -> bool:
        return happened.done() and writer.first_after(happened.result()) is not None

    async with asyncio.timeout(2 * PATIENCE):
        await writer.write_until(over)
    after = writer.first_after(await happened)
    assert after is not None
    await writer.assert_nothing_lost()
    return after


async def test_a_step_down_in_the_middle_of_writes_loses_none_and_doubles_none(
    members: PrivateReplicaSet, writer: Writer
) -> None:
    def step_down() -> float:
        writer.wait_until_under_way()
        members.step_down()
        return time.monotonic()

    assert await through(writer, step_down) < WRITES_AGAIN_WITHIN
    assert len(writer.acknowledged) > UNDER_WAY


async def test_a_killed_primary_takes_nothing_with_it_and_comes_back_as_a_member(
    members: PrivateReplicaSet, writer: Writer
) -> None:
    def kill_primary() -> float:
        writer.wait_until_under_way()
        killed = members.kill_primary()
        members.wait_for_primary()
        elected_at = time.monotonic()
        killed.start()
        return elected_at

    assert await through(writer, kill_primary) < WRITES_AGAIN_WITHIN
    members.wait_until_whole()


async def test_without_a_majority_nothing_is_acknowledged_until_it_is_back(
    members: PrivateReplicaSet, writer: Writer
) -> None:
    def lose_and_regain_the_majority() -> float:
        writer.wait_until_under_way()
        primary = members.wait_for_primary()
        others = [member for member in members.members if member is not primary]
        for member in others:
            member.kill()
        lost_at = time.monotonic()
        time.sleep(2 * ELECTION_TIMEOUT.total_seconds())  # the length of the fault
        regained_at = time.monotonic()
        acknowledged = [at for at in writer.acknowledged_at if lost_at + 0.5 < at < regained_at]
        for member in others:
            member.start()
        assert not acknowledged, "nothing is acknowledged by a minority"
        members.wait_for_primary()
        return time.monotonic()

    assert await through(writer, lose_and_regain_the_majority) < WRITES_AGAIN_WITHIN
    members.wait_until_whole()


async def test_a_write_that_the_majority_has_not_seen_yet_is_unclear_and_nobodys_fault(
    members: PrivateReplicaSet,
) -> None:
    """The primary has it, and reads of what the majority has do not show it: to repeat it meets itself.

    Its entries are duplicates then, of nothing that can be seen: that is no reason to look for a culprit.
    """
    bench = MongoBench(members.url, "unseen")
    store = bench.open(lease=ELECTION_TIMEOUT / 2)
    term = await begin(store)
    await store.runs.list(RunFilter())  # connected
    primary = members.wait_for_primary()
    others = [member for member in members.members if member is not primary]
    with nothing_replicated_to(others):
        with pytest.raises(UnclearCommitError):
            await write(store, term, entries=[entry("unseen", epoch=term.epoch)])
        assert (await store.terms.read()).seq == term.seq, "the majority has not seen it"
        for content in ({"entries": [entry("unseen", epoch=term.epoch)]}, {"adopt": True}):
            with pytest.raises(UnreachableError) as caught:
                await write(store, term, **content)
            assert not isinstance(caught.value, TermLostError)
    async with asyncio.timeout(PATIENCE):
        while (await store.terms.read()).seq == term.seq:  # noqa: ASYNC110  the database tells nobody
            await asyncio.sleep(0.05)
    with pytest.raises(TermLostError):
        await write(store, term, entries=[entry("unseen", epoch=term.epoch)])
    assert (await store.runs.get_many([entry("unseen").id])).keys() == {entry("unseen").id}
    await bench.close()
    members.wait_until_whole()


async def test_an_index_that_is_missing_is_made_while_a_member_is_away(members: PrivateReplicaSet) -> None:
    """By itself MongoDB waits for every member: a release with a new index could not start before."""
    bench = MongoBench(members.url, "index")
    store = bench.open(lease=ELECTION_TIMEOUT)
    await write(store, await begin(store), entries=[entry("a")])
    members.wait_until_whole()
    primary = members.wait_for_primary()
    away = next(member for member in members.members if member is not primary)
    with MongoClient[dict[str, Any]](members.url) as client:
        runs = client["cronexec"]["index.runs"]
        runs.drop_index("until")
        away.kill()
        try:
            async with asyncio.timeout(PATIENCE):
                await store.terms.prepare()
            assert "until" in runs.index_information()
        finally:
            away.start()
    await bench.close()
    members.wait_until_whole()
