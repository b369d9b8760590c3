"""The servers restarted, gone for a while, and a database that elects."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from stage import FULL, Stage
from trial import Trial, seconds

from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.dev.replica_set import PrivateReplicaSet

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

AWAY = 120.0 if FULL else 12.0
BACK_WITHIN = 30.0  # what a busy machine may take; the table has what it took


async def test_slots_run_again_once_rabbitmq_has_restarted(stage: Stage, rabbitmq: PrivateRabbitmq) -> None:
    async with stage.trial("RabbitMQ restarted", "outages") as trial:
        trial.began(*stage.members.values())
        await asyncio.to_thread(rabbitmq.restart)
        trial.healed()
        await trial.sees("term.ended", reason="link_lost")
        await trial.next_term()
        await trial.runs_again()
    assert trial.row.back_s is None or trial.row.back_s < BACK_WITHIN


async def test_nothing_is_lost_while_rabbitmq_is_gone(stage: Stage, rabbitmq: PrivateRabbitmq) -> None:
    async with stage.trial(f"RabbitMQ gone for {AWAY:g} s", "outages") as trial:
        await gone(stage, trial, rabbitmq.kill, rabbitmq.start)
        await trial.sees("term.ended", reason="link_lost")
        await trial.sees("candidate.waiting")
        await trial.next_term()
    assert_nobody_ran_meanwhile(stage, trial)


async def test_nothing_is_lost_while_mongodb_is_gone(stage: Stage, mongo: PrivateMongo) -> None:
    async with stage.trial(f"MongoDB gone for {AWAY:g} s", "outages") as trial:
        await gone(stage, trial, mongo.kill, mongo.start)
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
        await gone(stage, trial, kill_both, start_both)
        await trial.sees("term.ended")
        await trial.sees("candidate.waiting")
        await trial.next_term()
    assert_nobody_ran_meanwhile(stage, trial)


async def test_slots_run_again_once_a_primary_is_elected_after_a_step_down(
    stage_on_set: Stage, elected_set: PrivateReplicaSet
) -> None:
    async with stage_on_set.trial("MongoDB primary stepped down", "outages") as trial:
        trial.began(*stage_on_set.members.values())
        await asyncio.to_thread(elected_set.step_down)
        trial.healed()
        await stage_on_set.slots_run(2)
        trial.row.notes.append(went_on(stage_on_set, trial))
    assert trial.row.back_s is None or trial.row.back_s < BACK_WITHIN


async def test_slots_run_again_once_a_primary_is_elected_after_the_last_was_killed(
    stage_on_set: Stage, elected_set: PrivateReplicaSet
) -> None:
    async with stage_on_set.trial("MongoDB primary killed", "outages") as trial:
        trial.began(*stage_on_set.members.values())
        killed = await asyncio.to_thread(elected_set.kill_primary)
        await asyncio.to_thread(elected_set.wait_for_primary)
        trial.healed()
        await stage_on_set.slots_run(2)
        await asyncio.to_thread(killed.start)
        trial.row.notes.append(went_on(stage_on_set, trial))
    assert trial.row.back_s is None or trial.row.back_s < BACK_WITHIN


async def test_nothing_is_lost_while_a_majority_of_the_set_is_gone(
    stage_on_set: Stage, elected_set: PrivateReplicaSet
) -> None:
    def kill() -> None:
        for member in elected_set.members[:2]:
            member.kill()

    def start() -> None:
        for member in elected_set.members[:2]:
            member.start()
        elected_set.wait_for_primary()

    async with stage_on_set.trial(f"two of three MongoDBs gone for {AWAY:g} s", "outages") as trial:
        await gone(stage_on_set, trial, kill, start)
        await trial.sees("term.ended")
        await trial.next_term()
    assert_nobody_ran_meanwhile(stage_on_set, trial)


async def gone(
    stage: Stage, trial: Trial, kill: Callable[[], object], start: Callable[[], object]
) -> None:
    trial.began(*stage.members.values())
    await asyncio.to_thread(kill)
    await seconds(AWAY)
    await asyncio.to_thread(start)
    trial.healed()
    await trial.runs_again(timeout=120)


def went_on(stage: Stage, trial: Trial) -> str:
    """Say what an operator sees of an election that the term outlived, or not."""
    names = ("term.commit_unclear", "run.start_unclear", "term.ended", "instance.beat_failed")
    return ", ".join({entry["event"]: "" for entry in stage.events(*names, since=trial.began_at)}) or "nothing"


def assert_nobody_ran_meanwhile(stage: Stage, trial: Trial) -> None:
    """Assert that nothing was begun while one of the servers was away: nobody could hold."""
    assert trial.healed_at is not None
    lease = stage.settings.lease.total_seconds()
    begun = [work for work in stage.work() if trial.began_at + lease < work.began_at < trial.healed_at - 3]
    assert begun == []
