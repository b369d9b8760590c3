"""A holder that stands still in the middle of what it does."""

import asyncio

import pytest
from fault_points import BEFORE_CLAIM, BEFORE_START, FREEZE, IN_RENEWAL, IN_TRANSACTION, SAID
from members import Member
from stage import FULL, Stage
from trial import Trial, seconds

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("point", [BEFORE_CLAIM, IN_TRANSACTION, BEFORE_START, IN_RENEWAL])
@pytest.mark.parametrize("length", [5, 30, 90] if FULL else [5])
async def test_a_holder_that_froze_does_nothing_as_the_holder_after_waking(
    stage: Stage, point: str, length: int
) -> None:
    """It is woken when another instance has long begun: at the earliest after `length` seconds."""
    async with stage.trial(
        f"SIGSTOP {SAID[point]}, for {length} s and until another holds", "frozen"
    ) as trial:
        member = await stage.holding()
        await trial.reaches(member, point, FREEZE)
        await asyncio.gather(seconds(length), trial.next_term())
        await trial.runs_again()
        # A renewal comes at any moment, so runs may have been started right before.
        await woken_steps_down(stage, trial, member, due_after=trial.began_at if point == IN_RENEWAL else 0.0)


@pytest.mark.parametrize("length", [5, 30, 90] if FULL else [5])
async def test_a_holder_that_froze_at_any_moment_goes_on_only_if_it_still_holds(
    stage: Stage, length: int
) -> None:
    async with stage.trial(f"SIGSTOP for {length} s", "frozen") as trial:
        member = await stage.holding()
        trial.began(member)
        stage.freeze(member)
        await seconds(length)
        replaced = bool(trial.first_commits())
        woken_at = trial.healed(stage.thaw(member))
        await trial.sees("engine.stalled", by=member)
        if length > stage.settings.lease.total_seconds():
            await trial.sees("term.ended", by=member)
            await trial.next_term()
        if replaced:
            after = trial.acted_as_former_holder(member, woken_at, due_after=trial.began_at)
            assert after == [], "slots that came due while it was frozen belong to another term"


async def woken_steps_down(stage: Stage, trial: Trial, member: Member, *, due_after: float) -> None:
    woken_at = trial.healed(stage.thaw(member))
    ended = await trial.sees("term.ended", by=member)
    assert ended["epoch"] == trial.epoch
    again = await stage.event("candidate.standing_by", since=woken_at, by=member)
    assert ended.at <= again.at
    assert trial.acted_as_former_holder(member, woken_at, due_after=due_after) == []
