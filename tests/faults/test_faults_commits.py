"""A claim whose commit is not answered, and one that the database refuses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fault_points import IN_TRANSACTION, LOSE_ANSWER, WAIT
from members import Member
from pymongo import MongoClient
from stage import WANTED, Stage
from trial import Trial

from cronexec.domain.run import RunState

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SHORTLY = 4.0


async def test_a_commit_whose_answer_is_lost_is_asked_again(stage: Stage) -> None:
    async with stage.trial("commit applied, its answer lost with the connection", "commits") as trial:
        member = await stage.holding()
        await trial.reaches(member, IN_TRANSACTION, LOSE_ANSWER)
        await trial.sees("database.connection_lost", by=member)
        await stage.slots_run(2)
        assert (await stage.holder()).epoch == trial.epoch, "the same term goes on"


async def test_a_commit_whose_answer_is_lost_for_a_moment_is_found_to_be_applied(stage: Stage) -> None:
    async with stage.trial("commit forwarded, then the way to MongoDB cut for a moment", "commits") as trial:
        member = await stage.holding()
        await commit_unanswered(stage, trial, member)
        for route in stage.seat_of(member).routes("mongodb"):
            route.heal()
        trial.healed()
        await trial.sees("database.connection_lost", by=member)
        await stage.slots_run(2)


async def test_a_commit_whose_answer_never_comes_ends_the_term_and_its_runs_are_adopted(stage: Stage) -> None:
    async with stage.trial("commit forwarded, then the way to MongoDB cut for good", "commits") as trial:
        member = await stage.holding()
        await commit_unanswered(stage, trial, member)
        await trial.sees("term.ended", by=member, epoch=trial.epoch)
        await trial.sees("database.connection_lost", by=member)
        await trial.next_term()
        await trial.runs_again()
        for route in stage.seat_of(member).routes("mongodb"):
            route.heal()
        trial.healed()


async def commit_unanswered(stage: Stage, trial: Trial, member: Member) -> None:
    """Have a commit applied behind a way on which no answer comes back, then cut that way."""
    routes = stage.seat_of(member).routes("mongodb")
    await trial.reaches(member, IN_TRANSACTION, WAIT)
    before = await stage.connection.store.terms.read()
    for route in routes:
        route.hold("to_client")
    stage.order(member, "go")

    async def is_applied() -> bool:
        return (await stage.connection.store.terms.read()).seq > before.seq

    await stage.until(is_applied, "the commit to be applied")
    for route in routes:
        route.cut()


@asynccontextmanager
async def refusing(stage: Stage, job: str) -> AsyncIterator[None]:
    """Have the database refuse to have a run of the job waiting or running; what is skipped it takes."""
    settings = stage.settings
    refused = {"job": job, "state": {"$in": ["queued", "running"]}}
    with MongoClient[dict[str, Any]](settings.mongo_url) as client:
        database, runs = client[settings.mongo_database], f"{settings.namespace}.runs"
        database.command("collMod", runs, validator={"$nor": [refused]})
        try:
            yield
        finally:
            database.command("collMod", runs, validator={})


async def test_a_run_that_cannot_be_written_parks_its_job_and_the_others_run(stage: Stage) -> None:
    async with stage.trial("one job's runs refused by the database", "commits") as trial:
        trial.allowed = frozenset({RunState.SKIPPED})
        target = {"type": "handler", "name": "quick"}
        await stage.put([{"name": "refused", "schedule": {"every": "1s"}, "target": target, **WANTED}])
        async with refusing(stage, "refused"):
            trial.began()
            parked = await trial.sees("job.parked", job="refused")
            assert parked.at - trial.began_at < SHORTLY
            await stage.slots_run(2)
        trial.healed()
        assert (await stage.holder()).epoch == trial.epoch, "the same term goes on"
        await stage.client.jobs.resume("refused")
        await stage.slots_run(2)
    latest = max(work.slot for work in stage.work() if work.job == "refused")
    assert latest > trial.began_at, "it runs again once it is resumed"
    skipped = [run async for run in stage.connection.store.runs.scheduled() if run.state is RunState.SKIPPED]
    assert {run.job for run in skipped} <= {"refused"}
