"""The baton keeper: renewals, duplicates, and what ends the term."""

from typing import Any

import pytest
from bench import Bench, Member, pass_time, until
from faults import fails

from cronexec.adapters.memory_hub import BATON
from cronexec.errors import UnreachableError
from cronexec.runtime.baton import UNTOLD_INTERVAL

pytestmark = pytest.mark.virtual_time

INTERVAL = 300.0


def batons(bench: Bench) -> int:
    queue = bench.hub.queues[BATON]
    return len(queue.ready) + sum(len(consumer.unacked) for consumer in queue.consumers)


def published(member: Member) -> int:
    return member.faults.calls["publisher.publish_baton"]


async def test_the_baton_is_renewed_at_the_interval(bench: Bench) -> None:
    await bench.prepare()
    anna = await bench.holder()
    await pass_time(INTERVAL - 5)
    assert published(anna) == 0
    await pass_time(10)
    assert published(anna) == 1
    assert anna.said("baton.renewed")
    await pass_time(INTERVAL)
    assert published(anna) == 2
    assert anna.term == 1
    assert batons(bench) == 1
    assert not anna.said("baton.duplicate_discarded")


async def test_a_baton_that_was_redelivered_is_renewed_at_once(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(2)
    anna.end_term()
    await bert.holding()
    await until(lambda: bert.said("baton.renewed"), lambda: bert.events[-3:], within=1)
    assert batons(bench) == 1
    assert bert.term == 2


async def test_an_unconfirmed_renewal_is_tried_again_and_the_term_goes_on(bench: Bench) -> None:
    anna = await bench.holder()
    await pass_time(INTERVAL - 5)
    bench.hub.block_publishes()
    await pass_time(300)
    assert len(anna.said("baton.renewal_unconfirmed")) > 5
    assert anna.term == 1
    bench.hub.block_publishes(blocked=False)
    await until(lambda: anna.said("baton.renewed"), lambda: anna.events[-3:], within=60)
    assert anna.term == 1
    assert batons(bench) == 1


async def test_a_renewal_that_cannot_be_published_is_tried_again(bench: Bench) -> None:
    anna = await bench.holder()
    down = UnreachableError("broker", "the publishing connection broke", "")
    anna.faults.next("publisher.publish_baton", fails(down), fails(down))
    await pass_time(INTERVAL - 1)
    await until(lambda: anna.said("baton.renewed"), lambda: anna.events[-3:], within=20)
    assert anna.term == 1


async def test_a_renewal_that_arrives_though_it_was_not_confirmed_is_no_duplicate(bench: Bench) -> None:
    anna = await bench.holder()

    async def unconfirmed(call: Any) -> bool:
        await call()
        return False

    anna.faults.next("publisher.publish_baton", unconfirmed)
    await pass_time(INTERVAL - 1)
    await until(lambda: anna.said("baton.renewed"), lambda: anna.events[-3:], within=20)
    assert not anna.said("baton.duplicate_discarded")
    assert batons(bench) == 1
    assert anna.term == 1


async def confirmed_and_gone(_: Any) -> bool:
    return True


async def test_a_confirmed_baton_that_is_not_delivered_to_us_ends_the_term(bench: Bench) -> None:
    anna = await bench.holder()
    anna.faults.next("publisher.publish_baton", confirmed_and_gone)
    await pass_time(INTERVAL - 1)
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:], within=20)
    assert anna.said("term.ended")[0]["reason"] == "renewed_baton_not_delivered"
    await until(lambda: anna.term == 2, lambda: anna.events[-3:])  # the old baton came back


async def test_an_earlier_unconfirmed_baton_does_not_stand_in_for_one_that_is_not_delivered(
    bench: Bench,
) -> None:
    anna = await bench.holder()

    async def unconfirmed(call: Any) -> bool:
        await call()
        return False

    anna.faults.next("publisher.publish_baton", unconfirmed, confirmed_and_gone)
    await pass_time(INTERVAL - 1)
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:], within=20)
    assert anna.said("term.ended")[0]["reason"] == "renewed_baton_not_delivered"


async def test_a_queue_that_others_deleted_and_declared_again_is_noticed_without_being_told(
    bench: Bench,
) -> None:
    bench.hub.tells_of_deletion = False  # as RabbitMQ 3.10
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(1)
    bench.hub.delete_queue(BATON)
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:], within=UNTOLD_INTERVAL + 10)
    assert anna.said("term.ended")[0]["reason"] == "renewed_baton_not_delivered"
    await until(lambda: anna.term == 2 or bert.term == 2, lambda: bert.events[-3:], within=5)
    assert not anna.said("baton.inserted"), "the fresh one waited in the queue"


async def test_duplicates_are_acked_and_change_no_term(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    for _ in range(5):
        bench.insert_baton()
        await pass_time(0.5)
    assert batons(bench) == 1
    assert len(anna.said("baton.duplicate_discarded")) == 5
    await pass_time(60)
    assert (anna.term, bert.term) == (1, None)


async def test_several_batons_at_the_beginning_make_one_holder(bench: Bench) -> None:
    await bench.prepare()
    for _ in range(4):
        bench.insert_baton()
    for name in ("anna", "bert", "carl"):
        bench.start(name)
    await until(lambda: any(member.term for member in bench.members), lambda: bench.members)
    await pass_time(30)
    assert [member.term for member in bench.members].count(None) == 2
    assert batons(bench) == 1
    assert (await bench.store.terms.read()).epoch == 1


async def test_the_baton_in_hand_is_what_counts_when_the_queue_is_purged(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bench.start("bert")
    bench.hub.purge(BATON)
    await pass_time(60)
    assert anna.term == 1
    assert batons(bench) == 1


async def test_a_lost_link_ends_the_term_at_once(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(1)
    before = bench.clock.monotonic()
    bench.hub.drop_links("the connection broke")
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:])
    assert bench.clock.monotonic() - before < 0.1
    assert anna.said("term.ended")[0]["reason"] == "link_lost: the connection broke"
    await until(lambda: anna.term or bert.term, lambda: bert.events[-3:], within=2)


async def test_a_queue_that_is_deleted_has_a_baton_again_after_the_silence(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(2)
    bench.hub.delete_queue(BATON)
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:])
    await until(lambda: anna.term == 2 or bert.term == 2, lambda: bench.hub.queues[BATON].ready)
    await pass_time(30)
    assert batons(bench) == 1
