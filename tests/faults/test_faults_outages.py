"""The servers restarted, and gone for a while."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from outages import AWAY, BACK_WITHIN, assert_nobody_ran_meanwhile, gone
from stage import Stage

from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.doctor import Level

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


async def test_slots_run_again_once_rabbitmq_has_restarted(stage: Stage, rabbitmq: PrivateRabbitmq) -> None:
    async with stage.trial("RabbitMQ restarted", "outages") as trial:
        trial.began(*stage.members.values())
        await asyncio.to_thread(rabbitmq.restart)
        trial.healed()
        await trial.sees("term.ended", reason="link_lost")
        await trial.sees("link.lost")
        await trial.next_term()
        await trial.runs_again()
    assert trial.row.back_s is None or trial.row.back_s < BACK_WITHIN


async def test_nothing_is_lost_while_rabbitmq_is_gone(stage: Stage, rabbitmq: PrivateRabbitmq) -> None:
    async with stage.trial(f"RabbitMQ gone for {AWAY:g} s", "outages") as trial:
        await gone(stage, trial, rabbitmq.kill, rabbitmq.start, broker=Level.UNREACHABLE, holder=Level.FAIL)
        await trial.sees("term.ended", reason="link_lost")
        await trial.sees("candidate.waiting")
        await trial.next_term()
    assert_nobody_ran_meanwhile(stage, trial)


async def test_nothing_is_lost_while_mongodb_is_gone(stage: Stage, mongo: PrivateMongo) -> None:
    async with stage.trial(f"MongoDB gone for {AWAY:g} s", "outages") as trial:
        await gone(stage, trial, mongo.kill, mongo.start, database=Level.UNREACHABLE)
        await trial.sees("term.ended")
        await trial.sees("database.unreachable")
        await trial.next_term()
    assert_nobody_ran_meanwhile(stage, trial)


async def test_nothing_is_lost_while_both_servers_are_gone(
    stage: Stage, rabbitmq: PrivateRabbitmq, mongo: PrivateMongo
) -> None:
    def start_both() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda start: start(), [rabbitmq.start, mongo.start]))

    def kill_both() -> None:
        rabbitmq.kill()
        mongo.kill()

    async with stage.trial(f"RabbitMQ and MongoDB gone for {AWAY:g} s", "outages") as trial:
        checks = {"broker": Level.UNREACHABLE, "database": Level.UNREACHABLE}
        await gone(stage, trial, kill_both, start_both, **checks)
        await trial.sees("term.ended")
        await trial.sees("candidate.waiting")
        await trial.next_term()
    assert_nobody_ran_meanwhile(stage, trial)
