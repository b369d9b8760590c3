"""The observer: what a standby sees of the term, and what it does about silence and a silent holder."""

import asyncio
from dataclasses import replace

import pytest
from bench import Bench, Member, at, document, pass_time, slot_id, until
from faults import Call, away, claims, fails

from cronexec.adapters.memory_hub import BATON
from cronexec.domain.run import RunState
from cronexec.runtime.scheduler import MOST_ENTRIES

pytestmark = pytest.mark.virtual_time


async def standby(bench: Bench) -> Member:
    """Return a standby in a namespace without a baton, where nobody holds."""
    await bench.prepare()
    bench.hub.purge(BATON)
    anna = bench.make("anna", candidate=False)
    anna.instance.start()
    await until(lambda: anna.instance.observer.record, lambda: anna.events)
    return anna


async def move(bench: Bench, *, watermark: bool = False) -> None:
    """Let the term document change as by a holder's write."""
    term = bench.database.term
    assert term is not None
    bench.database.term = replace(
        term, seq=term.seq + 1, watermark=bench.clock.now() if watermark else term.watermark
    )


async def test_a_seq_that_stands_still_is_silence(bench: Bench) -> None:
    anna = await standby(bench)
    assert not await anna.instance.observer.silence.wait(15)
    assert await anna.instance.observer.silence.wait(2)


async def test_a_seq_that_moves_is_no_silence(bench: Bench) -> None:
    anna = await standby(bench)
    for _ in range(10):
        await pass_time(10)
        await move(bench, watermark=True)
    assert not await anna.instance.observer.silence.wait(0)


async def test_what_cannot_be_read_is_not_silent(bench: Bench) -> None:
    anna = await standby(bench)
    await pass_time(10)
    anna.faults.always("terms.read", fails(away()))
    await pass_time(60)
    assert anna.instance.health().database == "it does not answer"
    anna.faults.always("terms.read", None)
    assert not await anna.instance.observer.silence.wait(14)
    assert anna.instance.health().database == "ok"
    assert await anna.instance.observer.silence.wait(4)


async def test_a_reset_forgets_a_silence_that_nobody_has_taken(bench: Bench) -> None:
    anna = await standby(bench)
    await pass_time(20)
    anna.instance.observer.reset()
    assert not await anna.instance.observer.silence.wait(14)


async def test_a_silent_holder_is_deposed_and_its_writes_are_over(bench: Bench) -> None:
    anna = await standby(bench)
    for _ in range(115):
        await pass_time(1)
        await move(bench)
    assert not anna.said("baton.silent")  # behind for a minute, and seen to be for nearly another
    for _ in range(10):
        await pass_time(1)
        await move(bench)
    (said,) = anna.said("baton.silent")
    assert said["epoch"] == 0
    assert (await bench.store.terms.read()).epoch == (1 if said["deposed"] else 0)


async def test_a_holder_that_decides_nothing_loses_its_term(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"))

    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(anna.instance.table, "complete", never)  # the tick stands still, the loop turns
    await bert.holding(within=30)
    assert anna.said("term.ended")[0]["reason"] == "lease_expired"


async def test_a_holder_that_has_just_begun_is_not_deposed_for_what_the_one_before_left(bench: Bench) -> None:
    """Nor is an epoch that another standby has raised: it looks like life, and would put insertions off."""
    anna = await standby(bench)
    for _ in range(115):
        await pass_time(1)
        await move(bench)
    await bench.store.terms.raise_epoch(anna.context.executor)
    for _ in range(50):
        await pass_time(1)
        await move(bench)
    assert anna.said("baton.silent") == []
    for _ in range(20):
        await pass_time(1)
        await move(bench)
    assert len(anna.said("baton.silent")) == 1


async def test_a_standbys_plan_follows_the_holder(bench: Bench) -> None:
    await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup", {"every": "1h"}), document("other", {"every": "30s"}))
    await pass_time(100)
    assert bert.instance.table.plan.upcoming(5) == [(at(120), "other"), (at(3600), "backup")]
    await bench.request("job.pause", name="other")
    await pass_time(2)
    assert bert.instance.table.plan.upcoming(5) == [(at(3600), "backup")]


async def test_a_standby_that_could_not_read_for_a_while_catches_up(bench: Bench) -> None:
    await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(2)
    bert.faults.next("jobs.changed_since", *[fails(away())] * 5)
    await bench.put(document("backup", {"every": "1h"}))
    await until(lambda: bert.instance.table.jobs, lambda: bert.events[-3:], within=15)
    assert bert.instance.table.plan.upcoming(1) == [(at(3600), "backup")]
    assert len(bert.said("database.unreachable")) == 1


async def test_a_holder_that_catches_up_for_long_is_not_deposed(bench: Bench) -> None:
    misfire = {"policy": "all", "limit": 100_000, "grace": "1s"}
    await bench.seed(document("backup", {"every": "1s"}, misfire=misfire, overlap="allow"))
    await pass_time(40 * MOST_ENTRIES + 0.5)
    anna = bench.start("anna")
    bert = bench.start("bert")

    async def far_away(call: Call) -> object:
        await pass_time(4)  # each write takes that long: all of them more than two minutes and a half
        return await call()

    for member in (anna, bert):
        for _ in range(60):
            member.faults.where("terms.commit", claims, far_away)
    await bench.reaches(slot_id("backup", 40 * MOST_ENTRIES), RunState.SUCCEEDED, within=400)
    assert not anna.said("baton.silent")
    assert not bert.said("baton.silent")
    assert (await bench.store.terms.read()).epoch == 1
