"""The faults at which the kind of the baton's queue matters, on a classic queue: who gets it, and whether."""

import asyncio

import pytest
from fault_points import FREEZE, IN_RENEWAL, IN_TRANSACTION, KILL
from outages import BACK_WITHIN
from stage import Stage

from cronexec.dev.rabbitmq import PrivateRabbitmq

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

LONG_ENOUGH = 5.0


@pytest.mark.parametrize("point", [IN_TRANSACTION, IN_RENEWAL])
async def test_a_killed_holders_baton_in_a_classic_queue_is_handed_over(
    stage_on_classic: Stage, point: str
) -> None:
    stage = stage_on_classic
    async with stage.trial(f"classic queue: kill -9 at {point}", "classic") as trial:
        member = await stage.holding()
        await trial.reaches(member, point, KILL)
        stage.bury(member)
        first = await trial.next_term()
        assert first.at - trial.began_at < LONG_ENOUGH
        await trial.sees("term.began")


async def test_a_frozen_holders_baton_in_a_classic_queue_is_handed_over(stage_on_classic: Stage) -> None:
    stage = stage_on_classic
    async with stage.trial("classic queue: SIGSTOP in the middle of a renewal", "classic") as trial:
        member = await stage.holding()
        await trial.reaches(member, IN_RENEWAL, FREEZE)
        await trial.next_term()
        await trial.runs_again()
        woken_at = trial.healed(stage.thaw(member))
        await trial.sees("term.ended", by=member, epoch=trial.epoch)
        await stage.event("candidate.standing_by", since=woken_at, by=member)
        assert trial.acted_as_former_holder(member, woken_at, due_after=trial.began_at) == []


async def test_a_baton_in_a_classic_queue_outlives_a_restart_of_the_broker(
    stage_on_classic: Stage, rabbitmq: PrivateRabbitmq
) -> None:
    stage = stage_on_classic
    async with stage.trial("classic queue: RabbitMQ restarted", "classic") as trial:
        trial.began(*stage.members.values())
        await asyncio.to_thread(rabbitmq.restart)
        trial.healed()
        await trial.sees("term.ended", reason="link_lost")
        await trial.next_term()
        await trial.runs_again()
        assert stage.events("baton.inserted", since=trial.began_at) == [], "it was never lost"
    assert trial.row.back_s is None or trial.row.back_s < BACK_WITHIN


async def test_a_link_that_breaks_hands_over_what_is_in_a_classic_queue(stage_on_classic: Stage) -> None:
    stage = stage_on_classic
    async with stage.trial("classic queue: holder cut off from RabbitMQ: reset", "classic") as trial:
        member = await stage.holding()
        trial.began(member)
        for route in stage.seat_of(member).routes("rabbitmq"):
            route.cut()
        await trial.next_term()
        await trial.runs_again()
        await trial.sees("term.ended", by=member, reason="link_lost")
        for route in stage.seat_of(member).routes("rabbitmq"):
            route.heal()
        healed_at = trial.healed()
        await stage.event("candidate.standing_by", since=healed_at - 1, by=member, timeout=60)
