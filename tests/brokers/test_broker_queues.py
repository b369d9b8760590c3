"""Queues that are as somebody else made them: on every version, the contract's tests of them and a policy."""

import asyncio
import json

import pytest
from broker_fixtures import declare, make  # noqa: F401
from contenders import Schedule
from test_broker_declared import (  # noqa: F401  collected here too, with the fixtures that they ask for
    test_a_baton_queue_with_other_arguments_is_used_as_it_is,
    test_a_command_queue_with_other_arguments_is_used_as_it_is,
    test_nobody_competes_on_a_baton_queue_without_single_active_consumer,
)

from cronexec.dev.rabbitmq import PrivateRabbitmq

LIMIT = 2
HANDOVERS = 8


@pytest.mark.parametrize("end", ["release", "sever"])
async def test_a_policy_with_a_delivery_limit_does_not_drop_a_baton_that_is_renewed(
    schedule: Schedule, broker: PrivateRabbitmq, end: str
) -> None:
    """A policy overrides the -1 of a 4.x queue. A redelivered baton is renewed at once, and counts anew."""
    definition = json.dumps({"delivery-limit": LIMIT})
    limit = ("set_policy", "--apply-to", "queues", schedule.namespace, f"^{schedule.baton}$", definition)
    holder = await schedule.compete("holder-0")
    await asyncio.to_thread(broker.ctl, *limit)
    try:
        for number in range(1, HANDOVERS + 1):
            successor = await schedule.join(f"holder-{number}")
            if end == "release":
                holder.end_term("released")
                await schedule.until(lambda: holder.said("term.ended"), "end of the term")  # noqa: B023  awaited here
            await schedule.vanish(holder)
            assert await schedule.holder() is successor
            await schedule.until(lambda: successor.said("baton.renewed"), "renewal")  # noqa: B023  awaited here
            holder = successor
    finally:
        await asyncio.to_thread(broker.ctl, "clear_policy", schedule.namespace)
    assert schedule.epoch == HANDOVERS + 1
    assert not schedule.said("baton.inserted"), "it was never lost"
    await schedule.verify()
