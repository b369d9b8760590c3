"""A holder that is killed in the middle of something, and one that lives and decides nothing."""

import pytest
from fault_points import (
    BEFORE_CLAIM,
    BEFORE_START,
    DECIDES,
    IN_RENEWAL,
    IN_TRANSACTION,
    KILL,
    NOTHING,
    SAID,
)
from stage import Stage

from cronexec.doctor import Level

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

LONG_ENOUGH = 5.0


@pytest.mark.parametrize("point", [BEFORE_CLAIM, IN_TRANSACTION, BEFORE_START, IN_RENEWAL])
async def test_a_holder_that_is_killed_in_the_middle_is_followed_at_once(stage: Stage, point: str) -> None:
    """Inside the claim transaction too: nobody waits for the locks of the dead session."""
    async with stage.trial(f"kill -9 {SAID[point]}", "frozen") as trial:
        member = await stage.holding()
        await trial.reaches(member, point, KILL)
        stage.bury(member)
        first = await trial.next_term()
        assert first.at - trial.began_at < LONG_ENOUGH, "the next epoch waited"
        await trial.sees("term.began")
        if point == IN_TRANSACTION:
            lost_after = stage.settings.instance_lost_after.total_seconds()
            await trial.doctor_says("instances.lost", f"{member.name} is lost", timeout=lost_after + 30)


async def test_a_holder_that_lives_and_decides_nothing_is_deposed(stage: Stage) -> None:
    async with stage.trial("holder says that it lives, and decides nothing", "frozen") as trial:
        member = await stage.holding()
        await trial.reaches(member, DECIDES, NOTHING)
        await trial.doctor_says("holder", "behind", level=Level.FAIL, timeout=60)
        patience = 3 * stage.settings.instance_lost_after.total_seconds()
        silent = await trial.sees("baton.silent", timeout=patience, epoch=trial.epoch, deposed=True)
        trial.healed(silent.at)
        assert silent.by != member.name
        await trial.sees("term.ended", by=member, epoch=trial.epoch)
        await trial.next_term()
        await trial.runs_again()
