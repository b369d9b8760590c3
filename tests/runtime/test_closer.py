"""The closer: when a standby has a silent holder's connection closed, and when it must not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from bench import Bench, Member, pass_time, until
from faults import away, fails

from cronexec.adapters.memory_hub import BATON
from cronexec.domain.term import TermRecord
from cronexec.errors import UnreachableError
from cronexec.runtime.closer import Closer

pytestmark = pytest.mark.virtual_time


class Recorded:
    """A management that notes whom it was to close."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.asked = 0
        self.lists = True
        self.error: Exception | None = None

    async def links_of(self, instance_id: str) -> list[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [instance_id] if self.lists else []

    async def close_link(self, link: str, reason: str) -> bool:
        assert "silent for" in reason
        self.closed.append(link)
        return True

    async def close(self) -> None:
        """Nothing is open."""


class Standby:
    """A standby with a closer, in a namespace where somebody else holds and commits when told to."""

    def __init__(self, bench: Bench, member: Member) -> None:
        self.bench = bench
        self.member = member
        self.management = Recorded()
        self.is_linked = True
        self._closer = Closer(member.context, self.management, lambda: self.is_linked)

    @property
    def closed(self) -> list[str]:
        return self.management.closed

    async def run(self) -> None:
        await self._closer.run()

    def commit(self) -> None:
        term = self._term()
        self.bench.database.term = replace(term, seq=term.seq + 1)

    def hold(self, instance_id: str | None) -> None:
        self.bench.database.term = replace(self._term(), epoch=self._term().epoch + 1, holder_id=instance_id)

    def _term(self) -> TermRecord:
        assert self.bench.database.term is not None
        return self.bench.database.term


@pytest.fixture
async def standby(bench: Bench) -> AsyncIterator[Standby]:
    await bench.prepare()
    bench.hub.purge(BATON)
    made = Standby(bench, bench.make("bert", candidate=False))
    made.hold("anna-id")
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()


async def test_a_holder_that_commits_nothing_for_two_seconds_is_closed(standby: Standby) -> None:
    await pass_time(1.9)
    assert standby.closed == []
    await pass_time(0.7)
    assert standby.closed == ["anna-id"]
    assert standby.member.said("holder.link_closed")[0]["silent_s"] >= 2


async def test_a_holder_that_commits_is_left_alone(standby: Standby) -> None:
    for _ in range(60):
        await pass_time(1.5)
        standby.commit()
    assert standby.closed == []


async def test_a_holder_that_stays_silent_is_closed_once_in_baton_lost_after(standby: Standby) -> None:
    await pass_time(44)
    assert standby.closed == ["anna-id"] * 3


async def test_two_standbys_close_once(standby: Standby, bench: Bench) -> None:
    other = Standby(bench, bench.make("carl", candidate=False))
    task = asyncio.create_task(other.run())
    await pass_time(10)
    assert standby.closed + other.closed == ["anna-id"]
    task.cancel()


async def test_a_database_that_cannot_be_read_is_no_silence(standby: Standby) -> None:
    for _ in range(20):
        await pass_time(1.5)
        standby.member.faults.next("terms.read", fails(away()))
    assert standby.closed == []


async def test_readings_that_hang_are_no_silence(standby: Standby) -> None:
    for _ in range(10):
        held = standby.member.faults.hold("terms.read")
        await held.arrived()
        await pass_time(5)
        held.release()
        await pass_time(1.2)
    assert standby.closed == []


async def test_a_primary_without_a_majority_is_no_silence(standby: Standby) -> None:
    """Reads are answered, and the holder's commits wait: it is not the holder who is at fault."""
    standby.member.faults.always("terms.ping", fails(away()))
    await pass_time(30)
    assert standby.closed == []


async def test_a_primary_that_proves_its_majority_slowly_is_no_silence(standby: Standby) -> None:
    async def slow(call: object) -> object:
        await asyncio.sleep(1)
        return await call()  # type: ignore[operator]

    standby.member.faults.always("terms.ping", slow)
    await pass_time(30)
    assert standby.closed == []


async def test_a_commit_while_the_majority_is_proven_saves_the_holder(standby: Standby) -> None:
    async def meanwhile(call: object) -> object:
        standby.commit()
        return await call()  # type: ignore[operator]

    standby.member.faults.always("terms.ping", meanwhile)
    await pass_time(30)
    assert standby.closed == []


async def test_an_instance_that_cannot_take_over_closes_nobody(standby: Standby) -> None:
    standby.is_linked = False
    await pass_time(30)
    assert standby.closed == []


@pytest.mark.parametrize("holder", [None, "bert"])
async def test_nobody_and_oneself_are_not_closed(standby: Standby, holder: str | None) -> None:
    standby.hold(holder and standby.member.context.executor.id)
    await pass_time(30)
    assert standby.closed == []


async def test_a_management_that_does_not_answer_is_told_once_and_asked_again(standby: Standby) -> None:
    standby.management.error = UnreachableError("management", "it did not answer", "")
    await pass_time(40)
    assert standby.management.asked > 3
    assert len(standby.member.said("holder.link_not_closed")) == 1
    standby.management.error = None
    await until(lambda: standby.closed, lambda: standby.management.asked, within=3)


async def test_a_link_that_the_broker_does_not_list_yet_is_closed_as_soon_as_it_does(
    standby: Standby,
) -> None:
    standby.management.lists = False
    await pass_time(5)
    assert standby.closed == []
    standby.management.lists = True
    await until(lambda: standby.closed, lambda: standby.management.asked, within=3)
