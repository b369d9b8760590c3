"""The candidate: when an instance competes for the baton, and when it lets it go."""

import asyncio

import pytest
from bench import Bench, document, pass_time, slot_id, until
from faults import Held, away, fails

from cronexec.adapters.memory_hub import BATON
from cronexec.domain.run import RunState
from cronexec.errors import UnreachableError

pytestmark = pytest.mark.virtual_time


async def test_it_consumes_only_when_the_database_answers(bench: Bench) -> None:
    await bench.prepare()
    anna = bench.make("anna")
    anna.faults.always("terms.ping", fails(away()))
    anna.instance.start()
    await pass_time(60)
    assert anna.faults.calls["broker.open_link"] == 0
    assert not anna.instance.health().ok
    anna.faults.always("terms.ping", None)
    await anna.holding()


async def test_it_waits_for_the_database_again_before_each_link(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.faults.always("terms.ping", fails(away()))
    anna.end_term()
    await until(lambda: anna.said("candidate.waiting"), lambda: anna.events[-3:])
    await pass_time(10)
    assert anna.instance.health().state == "waiting"
    assert anna.faults.calls["broker.open_link"] == 1
    anna.faults.always("terms.ping", None)
    await until(lambda: anna.term == 2, lambda: anna.events[-3:])


async def test_an_outage_is_told_of_once_in_each_of_its_wordings(bench: Bench) -> None:
    anna = await bench.holder("anna")
    refused = UnreachableError("database", "the database refuses connections", "")
    wordings = [away(), refused] * 5
    anna.faults.next("terms.ping", *map(fails, wordings))
    anna.end_term()
    await until(lambda: anna.term == 2, lambda: anna.events[-3:])
    assert [each["why"] for each in anna.said("candidate.waiting")] == [str(away()), str(refused)]
    anna.faults.next("terms.ping", fails(refused))
    anna.end_term()
    await until(lambda: anna.term == 3, lambda: anna.events[-3:])
    assert len(anna.said("candidate.waiting")) == 3, "another outage"


@pytest.mark.parametrize("call", ["terms.ping", "broker.open_link"])
async def test_it_is_back_soon_however_long_a_server_was_away(bench: Bench, call: str) -> None:
    anna = await bench.holder("anna")
    for term in range(2, 8):
        anna.faults.always(call, fails(away()))
        anna.end_term()
        await pass_time(120)
        anna.faults.always(call, None)
        await pass_time(3.5)
        assert anna.term == term


async def test_a_standby_gives_its_link_up_when_the_database_is_gone_for_a_lease(bench: Bench) -> None:
    await bench.holder("anna")
    bert = bench.start("bert")
    await until(lambda: len(bench.hub.queues[BATON].consumers) == 2, lambda: bert.events[-3:])
    for call in ("terms.ping", "terms.read", "jobs.changed_since"):
        bert.faults.always(call, fails(away()))
    await pass_time(8)
    assert len(bench.hub.queues[BATON].consumers) == 2
    await pass_time(6)
    assert len(bench.hub.queues[BATON].consumers) == 1
    for call in ("terms.ping", "terms.read", "jobs.changed_since"):
        bert.faults.always(call, None)
    await until(lambda: len(bench.hub.queues[BATON].consumers) == 2, lambda: bert.events[-3:])


async def test_a_baton_that_is_lost_is_inserted_after_the_silence(bench: Bench) -> None:
    await bench.prepare()
    bench.hub.purge(BATON)
    anna = bench.start("anna")
    await pass_time(14)
    assert anna.term is None
    await anna.holding(within=5)
    assert len(anna.said("baton.inserted")) == 1


async def test_several_standbys_insert_one_baton(bench: Bench) -> None:
    await bench.prepare()
    bench.hub.purge(BATON)
    for name in ("anna", "bert", "carl"):
        bench.start(name)
    await until(lambda: any(member.term for member in bench.members), lambda: bench.members)
    await pass_time(60)
    assert sum(len(member.said("baton.inserted")) for member in bench.members) == 1
    assert (await bench.store.terms.read()).epoch == 1


async def test_insertions_are_repeated_while_it_is_silent_but_no_more_often(bench: Bench) -> None:
    await bench.prepare()
    bench.hub.purge(BATON)
    for name in ("anna", "bert", "carl"):
        member = bench.start(name)

        async def swallowed(_: object) -> bool:
            return True

        member.faults.always("publisher.publish_baton", swallowed)
    await pass_time(160)
    inserted = sum(len(member.said("baton.inserted")) for member in bench.members)
    assert 5 <= inserted <= 10
    for member in bench.members:
        member.faults.always("publisher.publish_baton", None)
    await until(lambda: any(member.term for member in bench.members), lambda: bench.members)


async def test_an_insertion_ends_the_silence_for_the_one_who_made_it_too(bench: Bench) -> None:
    """A standby that has just reconnected for the silence must not do so again at once."""
    await bench.prepare()
    bench.hub.purge(BATON)
    anna = bench.start("anna")
    anna.faults.always("publisher.publish_baton", fails(UnreachableError("broker", "blocked", "")))
    await until(lambda: anna.said("baton.inserted"), lambda: anna.events[-3:])
    opened = anna.faults.calls["broker.open_link"]
    await pass_time(14)
    assert anna.faults.calls["broker.open_link"] == opened
    anna.faults.always("publisher.publish_baton", None)
    await anna.holding()


async def test_whoever_creates_the_namespace_inserts_the_first_baton_at_once(bench: Bench) -> None:
    anna = bench.start("anna")
    bert = bench.start("bert")
    await until(lambda: anna.term or bert.term, lambda: anna.events[-3:], within=1)
    assert len(bench.hub.queues[BATON].ready) == 0


async def test_the_first_baton_is_inserted_when_the_broker_is_there_again(bench: Bench) -> None:
    bench.hub.go_down()
    anna = bench.start("anna")
    await pass_time(5)
    bench.hub.go_down(down=False)
    await anna.holding(within=14)  # not only after the silence
    assert not anna.said("baton.inserted")


async def test_a_released_baton_does_not_come_back_at_once_when_others_stand_by(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await until(lambda: len(bench.hub.queues[BATON].consumers) == 2, lambda: bert.events[-3:])
    reply = await bench.request("baton.release")
    assert reply["ok"]
    await bert.holding(within=1)
    assert anna.said("term.ended")[0]["reason"] == "released"
    await pass_time(60)
    assert (anna.term, bert.term) == (None, 2)
    reply = await bench.request("baton.release")
    await until(lambda: anna.term == 3, lambda: anna.events[-3:], within=1)


async def test_a_released_baton_comes_back_where_nobody_else_is(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.request("baton.release")
    await until(lambda: anna.term == 2, lambda: anna.events[-3:], within=1)


async def test_a_stop_releases_the_baton_after_the_write_that_is_under_way(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    stopping = asyncio.create_task(anna.stop())
    await pass_time(0.3)
    assert bert.term is None
    held.release()
    await bert.holding(within=1)
    assert await stopping
    assert anna.said("term.ended")[0]["reason"] == "stopping"
    await bench.reaches(slot_id("backup", 10), RunState.SUCCEEDED)
    await bench.verified()


async def test_a_stop_does_not_wait_for_a_database_that_hangs(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    before = bench.clock.monotonic()
    stopping = asyncio.create_task(anna.stop())
    await bert.holding(within=3)
    assert bench.clock.monotonic() - before < 2
    held.release()
    assert await stopping


async def test_terms_that_crash_come_back_ever_more_slowly(bench: Bench) -> None:
    await bench.seed(document("backup"))
    anna = bench.make("anna")
    anna.faults.always("runs.unsettled", fails(ZeroDivisionError("a bug")))
    anna.instance.start()
    await pass_time(60)
    early = (await bench.store.terms.read()).epoch
    await pass_time(600)
    later = (await bench.store.terms.read()).epoch - early
    assert early >= 5
    assert later <= 110
    assert later / 10 < early
    assert anna.said("candidate.crashed")
    anna.faults.always("runs.unsettled", None)
    await bench.reaches(slot_id("backup", 10), RunState.SUCCEEDED, RunState.SKIPPED)
    await until(lambda: anna.term, lambda: anna.events[-3:])
    await bench.verified()


async def test_a_term_that_lasted_makes_the_next_come_back_quickly(bench: Bench) -> None:
    anna = await bench.holder("anna")
    for _ in range(12):
        await pass_time(11)
        epoch = anna.term
        assert epoch is not None
        bench.hub.drop_links()
        await pass_time(0.3)
        assert anna.term == epoch + 1


async def test_a_standby_whose_link_lasted_comes_back_quickly(bench: Bench) -> None:
    await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(5)
    (link,) = bert.broker._links
    for _ in range(15):
        await pass_time(11)
        link._lose("the connection broke")
        await pass_time(0.3)
        link = bert.broker._links[-1]
        assert link._events.lost is None


async def test_a_failed_beginning_hands_the_baton_on_at_once(bench: Bench) -> None:
    await bench.prepare()
    anna = bench.start("anna")
    held = anna.faults.hold("terms.raise_epoch", error=away())
    await held.arrived()
    bert = bench.start("bert")
    await until(lambda: len(bench.hub.queues[BATON].consumers) == 2, lambda: bert.events[-3:])
    held.release()
    await bert.holding(within=0.5)
    assert anna.term is None


async def test_the_watchdogs_end_of_the_term_takes_the_link_down(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await until(lambda: len(bench.hub.queues[BATON].consumers) == 2, lambda: bert.events[-3:])
    await asyncio.to_thread(anna.instance.candidate.end_term, "engine_blocked")
    await bert.holding(within=1)
    assert anna.said("term.ended")[0]["reason"] == "engine_blocked"


@pytest.mark.parametrize("call", ["terms.ping", "broker.open_link"])
async def test_a_stop_does_not_wait_for_a_server_that_never_answers(bench: Bench, call: str) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))
    anna.targets.held.add("backup")
    await anna.targets.began(slot_id("backup", 10))
    anna.faults.always(call, Held())
    anna.end_term()
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:])
    await pass_time(3)
    stopping_at = bench.clock.monotonic()
    stopping = asyncio.create_task(anna.stop(grace=20))
    await pass_time(5)
    anna.targets.end(slot_id("backup", 10))
    assert await stopping, "what ran had the time to end"
    assert bench.clock.monotonic() - stopping_at < 6


async def test_the_grace_of_a_stop_counts_from_its_beginning(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))
    anna.targets.held.add("backup")
    await anna.targets.began(slot_id("backup", 10))
    held = anna.faults.hold("terms.raise_epoch")
    anna.end_term()
    await held.arrived()
    stopping_at = bench.clock.now()
    stopping = asyncio.create_task(anna.stop(grace=20))
    await pass_time(12)  # a database that hardly answers
    held.release()
    assert not await stopping
    abandoned_at = bench.run(slot_id("backup", 10)).finished_at
    assert abandoned_at is not None
    assert 20 <= (abandoned_at - stopping_at).total_seconds() < 21
