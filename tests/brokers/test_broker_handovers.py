"""The baton on every version: handed over, cut off, doubled; and what others do to its queue."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from contenders import Contender, Schedule
from patience import PATIENCE

from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.runtime.baton import UNTOLD_INTERVAL

HANDOVERS = 30
COUNTED = ("warning", "error", "exception")
AT_MOST_LATE = 20.0  # seconds
# A busy machine may stand still for longer than the leases of these tests last: another fault than this one.
UNHURRIED = {"lease": timedelta(seconds=10), "baton_lost_after": timedelta(seconds=15)}


async def test_the_baton_survives_thirty_handovers_by_release(schedule: Schedule) -> None:
    holder = await schedule.compete("anna", "bert", "carl", **UNHURRIED)
    for _ in range(HANDOVERS):
        holder = await schedule.hand_over(holder)
    ends = [each["reason"] for each in schedule.said("term.ended")]
    assert schedule.epoch == HANDOVERS + 1, f"every handover is one term; they ended so: {ends}"
    await assert_healthy(schedule)


async def test_the_baton_survives_thirty_killed_connections(schedule: Schedule) -> None:
    holder = await schedule.compete("holder-0")
    for number in range(1, HANDOVERS + 1):
        successor = await schedule.join(f"holder-{number}")
        await schedule.vanish(holder)
        assert await schedule.holder() is successor
        holder = successor
    assert schedule.epoch == HANDOVERS + 1
    await assert_healthy(schedule)


async def test_of_three_batons_the_holder_keeps_one_and_the_term_goes_on(schedule: Schedule) -> None:
    holder = await schedule.compete("anna", "bert", "carl")
    for _ in range(2):
        await schedule.insert_baton()
    await schedule.until(lambda: len(holder.said("baton.duplicate_discarded")) == 2, "two discarded batons")
    await schedule.slots_run(2)
    assert (holder.term, schedule.epoch) == (1, 1)
    await schedule.vanish(holder)
    await schedule.holder()
    await assert_healthy(schedule)
    assert schedule.epoch == 2


async def test_a_purge_takes_nothing_from_the_holder(schedule: Schedule) -> None:
    holder = await schedule.compete("anna", "bert")
    await schedule.operate(lambda channel: channel.queue_purge(schedule.baton))
    await schedule.slots_run(2)
    assert (holder.term, schedule.epoch) == (1, 1)
    await schedule.hand_over(holder)
    await assert_healthy(schedule)


async def test_a_queue_that_is_deleted_cancels_everybody_and_is_declared_again_with_a_baton(
    schedule: Schedule,
) -> None:
    holder = await schedule.compete("anna", "bert")
    await schedule.operate(lambda channel: channel.queue_delete(schedule.baton))
    assert "cancelled the consumer" in await end_of_term(schedule, holder)
    await schedule.until(lambda: schedule.epoch == 2, "second term")
    assert len(schedule.said("baton.inserted")) == 1, "one insertion in the whole namespace"
    await assert_healthy(schedule)


async def test_a_queue_deleted_and_declared_again_by_others_is_competed_for(schedule: Schedule) -> None:
    """RabbitMQ 3.10 tells the consumers of a quorum queue nothing then: renewals show it, every 15 s."""
    holder = await schedule.compete("anna", "bert")
    arguments = {"x-queue-type": schedule.queue_type, "x-single-active-consumer": True}

    def replace_queue(channel: Any) -> None:
        channel.queue_delete(schedule.baton)
        channel.queue_declare(schedule.baton, durable=True, arguments=arguments)

    await schedule.operate(replace_queue)
    reason = await end_of_term(schedule, holder, within=UNTOLD_INTERVAL + PATIENCE)
    assert "cancelled the consumer" in reason or reason == "renewed_baton_not_delivered"
    successor = await schedule.holder()
    await assert_healthy(schedule)
    await schedule.vanish(successor)
    await schedule.holder()
    await assert_healthy(schedule)


async def test_a_channel_that_the_broker_closes_ends_the_term_at_once(schedule: Schedule) -> None:
    holder = await schedule.compete("anna", "bert")
    link = holder.instance.candidate._link
    assert link is not None
    link.ack_baton(4711)  # a tag that was never delivered: the answer is a closed channel (406)
    successor = await schedule.holder(other_than=holder)
    assert "PRECONDITION_FAILED" in await end_of_term(schedule, holder)
    assert successor.term == schedule.epoch == 2
    await assert_healthy(schedule)


async def test_a_connection_that_the_broker_closes_ends_the_term_at_once(
    schedule: Schedule, broker: PrivateRabbitmq
) -> None:
    holder = await schedule.compete("anna", "bert")
    listed = await asyncio.to_thread(broker.ctl, "list_connections", "pid", "client_properties")
    named = [line for line in listed.splitlines() if f"{schedule.namespace} {holder.name}" in line]
    (baton,) = [line.split()[0] for line in named if "(baton)" in line]
    await asyncio.to_thread(broker.ctl, "close_connection", baton, "maintenance")
    successor = await schedule.holder(other_than=holder)
    assert "maintenance" in await end_of_term(schedule, holder)
    assert successor.term == schedule.epoch == 2
    await assert_healthy(schedule)


async def end_of_term(schedule: Schedule, holder: Contender, within: float = PATIENCE) -> str:
    ended = await schedule.until(lambda: holder.said("term.ended"), "end of the term", within)
    return str(ended[0]["reason"])


async def assert_healthy(schedule: Schedule) -> None:
    """Check that slots run, each was accounted for, and one baton is there: the holder's; metrics agree."""
    await schedule.slots_run(1)
    assert await schedule.batons_ready() == 0
    await schedule.verify()
    assert schedule.latest() < AT_MOST_LATE
    for contender in schedule.contenders:
        counted = contender.instance.health().events
        assert counted == Counter(each["event"] for each in contender.events if each["level"] in COUNTED)
