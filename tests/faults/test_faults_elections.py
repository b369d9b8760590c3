"""A MongoDB of three members: its primary steps down, is killed, has no majority, or is not reached."""

import asyncio

import pytest
from cuts import CUTS
from members import Member
from outages import AWAY, BACK_WITHIN, assert_nobody_ran_meanwhile, gone
from stage import FULL, Stage
from trial import Trial

from cronexec.dev.replica_set import PrivateReplicaSet
from cronexec.doctor import Level

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
        await gone(stage_on_set, trial, kill, start, database=Level.UNREACHABLE)
        await trial.sees("term.ended")
        await trial.next_term()
    assert_nobody_ran_meanwhile(stage_on_set, trial)


@pytest.mark.parametrize("way", ["reset", "nothing passes"])
async def test_a_holder_cut_off_from_the_primary_alone_gives_way_to_one_that_is_not(
    stage_on_set: Stage, elected_set: PrivateReplicaSet, way: str
) -> None:
    """It still reaches the other members, which tell it that there is a primary."""
    stage = stage_on_set
    async with stage.trial(f"holder cut off from MongoDB's primary alone: {way}", "network") as trial:
        member = await stage.holding()
        primary = await asyncio.to_thread(elected_set.wait_for_primary)
        route = stage.seat_of(member).to_mongodb[primary.port]
        trial.began(member)
        CUTS[way](route)
        await gives_way(stage, trial, member)
        route.heal()
        await stage.event("candidate.standing_by", since=trial.healed() - 1, by=member, timeout=60)


@pytest.mark.parametrize("way", CUTS if FULL else ["nothing comes back"])
async def test_a_holder_cut_off_from_all_members_gives_way(stage_on_set: Stage, way: str) -> None:
    stage = stage_on_set
    async with stage.trial(f"holder cut off from a set of three: {way}", "network") as trial:
        member = await stage.holding()
        trial.began(member)
        for route in stage.seat_of(member).routes("mongodb"):
            CUTS[way](route)
        await gives_way(stage, trial, member)
        for route in stage.seat_of(member).routes("mongodb"):
            route.heal()
        await stage.event("candidate.standing_by", since=trial.healed() - 1, by=member, timeout=60)


async def test_500_ms_to_a_set_of_three_make_slots_late_and_nothing_else(stage_on_set: Stage) -> None:
    stage = stage_on_set
    async with stage.trial("500 ms to a set of three and back", "network") as trial:
        member = await stage.holding()
        trial.began(member)
        for route in stage.seat_of(member).routes("mongodb"):
            route.delay(0.25)
        await stage.slots_run(5)
        for route in stage.seat_of(member).routes("mongodb"):
            route.heal()
        trial.healed()


async def gives_way(stage: Stage, trial: Trial, member: Member) -> None:
    await trial.next_term()
    await trial.runs_again()
    ended = await trial.sees("term.ended", by=member)
    assert ended["epoch"] == trial.epoch
    assert trial.acted_as_former_holder(member, trial.first_commits()[0].at) == []
    assert {work.instance for work in stage.work() if work.epoch > trial.epoch}.isdisjoint({member.name})


def went_on(stage: Stage, trial: Trial) -> str:
    """Say what an operator sees of an election that the term outlived, or not."""
    names = ("term.commit_unclear", "run.start_unclear", "term.ended", "instance.beat_failed")
    return (
        ", ".join({entry["event"]: "" for entry in stage.events(*names, since=trial.began_at)}) or "nothing"
    )
