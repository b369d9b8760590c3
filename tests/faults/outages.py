"""Servers that go away and come back, and what nobody may do meanwhile."""

import asyncio
from collections.abc import Callable

from stage import FULL, Stage
from trial import Trial, seconds

from cronexec.doctor import Level

AWAY = 120.0 if FULL else 6.5  # longer than `baton_lost_after`
BACK_WITHIN = 30.0  # what a busy machine may take; the table has what it took


async def gone(
    stage: Stage, trial: Trial, kill: Callable[[], object], start: Callable[[], object], **checks: Level
) -> None:
    """Have servers be gone for a while. `checks`: what the doctor finds meanwhile."""
    trial.began(*stage.members.values())
    await asyncio.to_thread(kill)
    lasting = asyncio.create_task(seconds(AWAY))
    for check, level in checks.items():
        await trial.doctor_says(check, "", level=level)
    await lasting
    await asyncio.to_thread(start)
    trial.healed()
    await trial.runs_again(timeout=120)


def assert_nobody_ran_meanwhile(stage: Stage, trial: Trial) -> None:
    """Assert that nothing was begun while one of the servers was away: nobody could hold."""
    assert trial.healed_at is not None
    lease = stage.settings.lease.total_seconds()
    begun = [work for work in stage.work() if trial.began_at + lease < work.began_at < trial.healed_at - 3]
    assert begun == []
