"""The acknowledgement timeout (15 s here) takes a baton away that is not renewed, and only that.

When it strikes is the broker's affair. 3.10 and 4.0 look once a minute. 4.3 has a timer for the oldest
delivery of a quorum queue, and sets it anew after each look: not, however, where the look is done within the
very millisecond that the timer was set for. Then nothing strikes until the queue has anything else to do. On
4.3.6 this was so for 10 of 1,000 deliveries, each of which was taken back some milliseconds after another
consumer had come. So the test gives the queue something to do.
"""

import asyncio

import pytest
from contenders import Contender, Schedule
from patience import PATIENCE
from two_minutes import LENGTH, RENEW_INTERVAL, TOO_NEW, TwoMinutes

from cronexec.adapters.rabbitmq_topology import QueueType
from cronexec.dev.rabbitmq import PrivateRabbitmq

STRUCK_WITHIN = 160.0  # seconds
LOOK_INTERVAL = 10.0
NO_MEMORY, ENOUGH_MEMORY = "0.000001", "0.4"


async def test_when_nothing_can_be_renewed_the_term_ends_by_the_timeout_and_is_taken_up_again(
    broker: PrivateRabbitmq,
) -> None:
    """A memory alarm blocks who publishes. Classic queues of 4.3 know no timeout: there the term goes on."""
    quorum, classic = Schedule(broker.url, "quorum"), Schedule(broker.url, "classic")
    schedules = [quorum] if broker.version.startswith("4.3") else [quorum, classic]
    try:
        holders = [await begin(schedule) for schedule in (quorum, classic)]
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", NO_MEMORY)
        await asyncio.gather(*map(struck_by_the_timeout, schedules, holders))
        assert all(each.said("baton.renewal_unconfirmed") for each in (quorum, classic))
        assert classic not in schedules or classic.epoch > 1
        assert classic in schedules or classic.epoch == 1
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", ENOUGH_MEMORY)
        await asyncio.gather(*(renewed_again(each) for each in (quorum, classic)))
    finally:
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", ENOUGH_MEMORY)
        await asyncio.gather(quorum.close(), classic.close())


async def begin(schedule: Schedule) -> Contender:
    holder = await schedule.compete("anna", "bert", baton_renew_interval=RENEW_INTERVAL)
    await schedule.until(lambda: holder.said("baton.renewed"), "renewal")
    return holder


async def struck_by_the_timeout(schedule: Schedule, holder: Contender) -> None:
    looking = asyncio.create_task(keep_the_queue_looking(schedule))
    try:
        ended = await schedule.until(lambda: holder.said("term.ended"), "end of the term", STRUCK_WITHIN)
    finally:
        looking.cancel()
    assert "acknowledgement" in ended[0]["reason"] or "cancelled the consumer" in ended[0]["reason"]
    await schedule.until(lambda: schedule.epoch > 1, "second term")
    await schedule.slots_run(2)


async def keep_the_queue_looking(schedule: Schedule) -> None:
    """Come as a third consumer, behind the two that are there, and go again."""
    while True:
        await asyncio.sleep(LOOK_INTERVAL)
        await schedule.operate(lambda channel: channel.basic_consume(schedule.baton, lambda *_: None))


async def renewed_again(schedule: Schedule) -> None:
    before = len(schedule.said("baton.renewed"))
    await schedule.until(lambda: len(schedule.said("baton.renewed")) > before + 1, "renewal", 2 * PATIENCE)
    assert await schedule.batons_ready() == 0
    await schedule.verify()


@pytest.mark.usefixtures("broker")  # skips without it
def test_under_a_timeout_of_15_s_a_baton_that_is_renewed_is_held_for_two_minutes(
    two_minutes: TwoMinutes, queue_type: QueueType
) -> None:
    held = two_minutes.result(queue_type)
    assert (held.epoch, held.ended) == (1, []), "no term change"
    assert held.kept == TOO_NEW, "none is lost, and they are in their order"
    assert held.renewals >= LENGTH / RENEW_INTERVAL.total_seconds() - 4
    assert held.slots >= LENGTH - 5
    assert held.latest < 4, "no gap"
