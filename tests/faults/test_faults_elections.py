"""A MongoDB of three members whose primary steps down, is killed, or has no majority."""

import asyncio

import pytest
from outages import AWAY, BACK_WITHIN, assert_nobody_ran_meanwhile, gone
from stage import Stage
from trial import Trial

from cronexec.dev.replica_set import PrivateReplicaSet

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


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


def went_on(stage: Stage, trial: Trial) -> str:
    """Say what an operator sees of an election that the term outlived, or not."""
    names = ("term.commit_unclear", "run.start_unclear", "term.ended", "instance.beat_failed")
    return (
        ", ".join({entry["event"]: "" for entry in stage.events(*names, since=trial.began_at)}) or "nothing"
    )
