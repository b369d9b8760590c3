"""User code that blocks its event loop, and cronexec's own loop blocked."""

import pytest
from stage import FULL, Stage
from trial import seconds

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

LENGTH = 30.0 if FULL else 5.0


async def test_a_handler_that_blocks_its_loop_holds_up_nothing_but_handlers_on_that_loop(
    stage: Stage,
) -> None:
    async with stage.trial(f"a handler blocks its event loop for {LENGTH:g} s", "blocked") as trial:
        member = await stage.holding()
        target = {"type": "handler", "name": "blocking"}
        document = {"name": "blocking", "schedule": {"every": "1h"}, "target": target}
        await stage.put([document | {"params": {"seconds": LENGTH}}])
        trial.began()
        await stage.client.jobs.trigger("blocking")
        blocked = await stage.begun("blocking")
        assert blocked.instance == member.name
        trial.began(at=blocked.began_at)
        await seconds(LENGTH)
        assert (await stage.holder()).epoch == trial.epoch, "the same term goes on"
        during = [
            work
            for work in stage.work()
            if blocked.began_at + 0.1 < work.began_at < blocked.began_at + LENGTH
        ]
        assert {work.job.split("-")[0] for work in during} == {"threaded"}, (
            "only those wait that share the loop"
        )
        assert len({work.slot for work in during}) >= LENGTH - 2
        trial.healed()
        stalled = await trial.sees("handlers.stalled", by=member)
        assert stalled["at"].endswith(" blocking"), "the line at which it stands"
        resumed = await trial.sees("handlers.resumed", by=member)
        assert resumed["seconds"] > LENGTH - 2


async def test_a_core_whose_own_loop_is_blocked_is_replaced_by_its_watchdog(stage: Stage) -> None:
    async with stage.trial(f"cronexec's own loop blocked for {LENGTH:g} s", "blocked") as trial:
        member = await stage.holding()
        trial.began(member)
        stage.order(member, "block_engine", seconds=LENGTH)
        reached = await stage.event("fault.reached", since=trial.began_at, by=member)
        trial.began(member, at=reached.at)
        barked = await trial.sees("engine.blocked", by=member)
        assert barked.at - trial.began_at < stage.settings.lease.total_seconds() + 2
        first = await trial.next_term()
        if FULL:
            assert first.at - trial.began_at < LENGTH, "another holds while this one is blocked"
        ended = await trial.sees("term.ended", by=member, timeout=LENGTH + 30)
        trial.healed(ended.at)
        assert trial.acted_as_former_holder(member, first.at) == []
