"""Wall clocks that are stepped while an instance runs: nothing is early, late, missing or twice."""

import pytest
from stage import FULL, Stage
from trial import seconds

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

STEPS = {"+5 s": 5, "-5 s": -5, "+2 min": 120, "-2 min": -120, "+2 h": 7200, "-2 h": -7200}
LATE = 3.0
EVERY = [(whose, step) for whose in ("the holder's", "a standby's") for step in STEPS]
SOME = [("the holder's", step) for step in STEPS] + [("a standby's", "+2 h"), ("a standby's", "-2 h")]


@pytest.mark.parametrize(("whose", "step"), EVERY if FULL else SOME)
async def test_a_stepped_wall_clock_changes_nothing(stage: Stage, whose: str, step: str) -> None:
    async with stage.trial(f"{whose} wall clock stepped by {step}", "clock") as trial:
        member = await (stage.holding() if whose == "the holder's" else stage.standby())
        trial.began()
        stage.step_clock(member, STEPS[step])
        await trial.sees("clock.offset", by=member)
        await trial.doctor_says("instances.clock", f"the clock of {member.name} is")
        await stage.slots_run(10 if FULL else 2)
        record = await stage.holder()
        assert record.epoch == trial.epoch, "no reason to end a term"
        assert abs(record.lag.total_seconds()) < LATE
        trial.healed()
        stage.step_clock(member, 0.0)
    in_time(stage, trial.began_at)


async def test_two_instances_with_clocks_ten_seconds_apart_take_over_from_each_other(stage: Stage) -> None:
    async with stage.trial("two instances with clocks 10 s apart, three handovers", "clock") as trial:
        for number, member in enumerate(stage.members.values()):
            stage.step_clock(member, -5.0 if number % 2 else 5.0)
        trial.began()
        await trial.sees("clock.offset")
        await trial.doctor_says("instances.clock", "the clock of")
        for _ in range(3):
            holder = await stage.holding()
            await stage.client.baton.release()
            await stage.holding(other_than=holder)
            await seconds(1)
        assert (await stage.holder()).epoch == trial.epoch + 3
        for member in stage.members.values():
            stage.step_clock(member, 0.0)
    in_time(stage, trial.began_at)


def in_time(stage: Stage, since: float) -> None:
    """Assert that nothing ran before its slot, or much later."""
    late = {work.run: work.began_at - work.slot for work in stage.work() if work.began_at > since}
    assert min(late.values()) > -0.01, "nothing runs before its slot"
    assert max(late.values()) < LATE
