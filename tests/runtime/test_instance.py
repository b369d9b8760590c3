"""Several instances: the baton moves, and every slot is accounted for once."""

import asyncio
from typing import Any

import pytest
from bench import Bench, Member, document, pass_time, slot_id, until, vanish
from faults import fails

from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time


async def test_one_instance_runs_every_slot(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("backup", {"every": "1s"}))
    await pass_time(20)
    verified = await bench.verified()
    assert verified.total.due in {19, 20}
    assert len(bench.begun("backup")) == verified.total.due


def every_second() -> list[Any]:
    return [
        document(f"job-{number}", {"every": "1s"}, misfire={"policy": "all"}, overlap="allow")
        for number in range(5)
    ]


def only_holder(bench: Bench) -> Member | None:
    holding = [member for member in bench.members if member.holds and member.term is not None]
    return holding[0] if len(holding) == 1 else None


async def test_when_links_break_again_and_again_every_slot_runs_once(bench: Bench) -> None:
    await bench.seed(*every_second())
    for name in ("anna", "bert", "carl"):
        bench.start(name)
    for _ in range(8):
        await until(lambda: only_holder(bench), lambda: [m.term for m in bench.members])
        await pass_time(3.3)
        bench.hub.drop_links()
        await pass_time(0.001)
    last = await until(lambda: only_holder(bench), lambda: [m.term for m in bench.members])
    await pass_time(2.5)
    verified = await bench.verified()
    assert verified.total.due >= 5 * 25
    assert verified.total.run == verified.total.due  # the misfire policy wants all
    assert len(bench.evidence) == verified.total.due
    assert last.term == 9


async def test_when_holders_vanish_every_slot_runs_once(bench: Bench) -> None:
    await bench.seed(*every_second())
    for name in ("anna", "bert", "carl"):
        bench.start(name)
    for _ in range(2):
        holder = await until(lambda: only_holder(bench), lambda: [m.term for m in bench.members])
        await pass_time(3.7)
        vanish(holder)
    await until(lambda: only_holder(bench), lambda: [m.term for m in bench.members])
    await pass_time(90)
    verified = await bench.verified()
    assert verified.total.run == verified.total.due >= 5 * 90
    assert len({line.instance for line in bench.evidence}) == 3


async def test_a_stopping_holder_hands_over_first_and_interrupts_nothing(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("long", {"every": "5s"}, overlap="allow"), document("short", {"every": "1s"}))
    anna.targets.held.add("long")
    await anna.targets.began(slot_id("long", 5))
    stopping = asyncio.create_task(anna.stop(grace=60))
    await bert.holding(within=1)
    await pass_time(4)
    assert not stopping.done()
    assert anna.instance.health().state == "draining"
    assert bench.state(slot_id("long", 5)) is RunState.RUNNING
    anna.targets.end(slot_id("long", 5))
    assert await stopping
    assert bench.run(slot_id("long", 5)).state is RunState.SUCCEEDED
    assert "anna" not in {record.executor.name for record in bench.database.instances.values()}
    await bench.verified()


async def test_what_outlives_the_grace_is_recorded_as_abandoned_by_the_shutdown(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(slot_id("long", 10))
    assert not await anna.stop(grace=5)
    run = bench.run(slot_id("long", 10))
    assert run.outcome is not None
    assert (run.state, run.outcome.reason) == (RunState.ABANDONED, "shutdown")
    assert anna.targets.cancelled == [run.id]
    assert anna.said("run.abandoned")


async def test_stopping_leaves_runs_that_have_not_started_to_the_next_holder(bench: Bench) -> None:
    anna = await bench.holder("anna", max_running_handlers=1)
    bert = bench.start("bert")
    await bench.put(document("first"), document("second"))
    anna.targets.held |= {"first", "second"}
    await until(lambda: anna.targets.running, lambda: bench.evidence)
    waiting = ({slot_id("first", 10), slot_id("second", 10)} - set(anna.targets.running)).pop()
    assert bench.state(waiting) is RunState.QUEUED
    stopping = asyncio.create_task(anna.stop(grace=30))
    await bench.reaches(waiting, RunState.SUCCEEDED, within=3)
    anna.targets.end(next(iter(anna.targets.running)))
    assert await stopping
    assert bert.holds
    await bench.verified()


async def test_stopping_waits_for_starts_on_their_way_and_gives_them_back(
    bench: Bench,
) -> None:
    anna = await bench.holder("anna")
    anna.starts_apart()
    await bench.put(document("backup"))
    held = anna.faults.hold("runs.start", done_first=True)
    await held.arrived()
    assert bench.state(slot_id("backup", 10)) is RunState.RUNNING
    stopping = asyncio.create_task(anna.stop(grace=30))
    await pass_time(5)
    assert not stopping.done()
    held.release()
    await stopping
    assert bench.state(slot_id("backup", 10)) is RunState.QUEUED
    assert bench.begun() == []


async def test_an_instance_that_cannot_reach_the_database_waits_and_says_so(bench: Bench) -> None:
    bench.database.unreachable = True
    anna = bench.start("anna")
    await until(lambda: anna.said("candidate.waiting"), lambda: anna.events)
    assert not anna.instance.health().ok
    assert anna.instance.health().database == "the database in memory was made unreachable"
    await pass_time(30)
    bench.database.unreachable = False
    await anna.holding()
    await until(lambda: anna.instance.health().ok, anna.instance.health)
    assert anna.instance.health().state == "holder"


async def test_stopping_before_the_database_ever_answered_returns(bench: Bench) -> None:
    bench.database.unreachable = True
    anna = bench.start("anna")
    await pass_time(3)
    assert await anna.stop(grace=5)
    assert not anna.holds


async def test_an_instance_that_is_no_candidate_never_holds(bench: Bench) -> None:
    await bench.prepare()
    anna = bench.start("anna", candidate=False)
    await pass_time(60)
    assert not anna.holds
    assert anna.instance.observer.record is not None
    assert anna.instance.observer.record.epoch == 0


async def test_a_running_run_is_cancelled_wherever_it_runs(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bench.start("bert")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(slot_id("long", 10))
    stopping = asyncio.create_task(anna.stop(grace=300))
    await until(lambda: bench.members[1].term, lambda: bench.members[1].events)
    reply = await bench.request("run.cancel", run=slot_id("long", 10), issued_by="eve")
    assert reply["result"]["state"] == "cancel_requested"
    run = await bench.reaches(slot_id("long", 10), RunState.CANCELLED, within=3)
    assert run.outcome is not None
    assert run.outcome.reason == "cancelled by eve"
    assert await stopping


async def test_the_health_of_a_standby_names_the_holder(bench: Bench) -> None:
    await bench.holder("anna")
    bert = bench.start("bert")
    await until(lambda: bert.instance.observer.record, lambda: bert.events)
    await pass_time(3)
    health = bert.instance.health()
    assert (health.state, health.holder, health.epoch) == ("standby", "anna", 1)
    assert health.lag_s is not None
    assert health.lag_s < 3


async def test_a_part_that_crashes_takes_the_instance_out_of_the_competition(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await pass_time(2)
    anna.faults.always("runs.finish", fails(ZeroDivisionError("a bug")))
    await bench.put(document("backup"))
    await bert.holding()
    await pass_time(60)
    assert bert.holds
    assert not anna.holds
    health = anna.instance.health()
    assert (health.state, health.ok) == ("failed", False)
    assert "ZeroDivisionError: a bug" in str(health.crashed)
    assert anna.said("service.crashed")
    assert "ZeroDivisionError: a bug" in anna.said("instance.failed")[0]["why"]


async def test_runs_of_an_instance_without_a_dispatcher_end_and_are_recorded(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("long", {"every": "1h"}, overlap="allow"))
    anna.targets.held.add("long")
    await bench.request("job.trigger", name="long", key="k")
    await anna.targets.began("long#k")

    def broken() -> list[Any]:
        raise ZeroDivisionError("a bug")

    anna.starts_apart()
    anna.instance.dispatcher._take_group = broken  # type: ignore[method-assign]
    await bench.request("job.trigger", name="long", key="l")
    await bert.holding()
    assert anna.instance.health().state == "failed"
    await pass_time(90)  # longer than it takes to be lost
    assert bench.state("long#k") is RunState.RUNNING
    anna.targets.end("long#k")
    await bench.reaches("long#k", RunState.SUCCEEDED, within=3)


async def test_an_instance_that_fails_while_it_starts_says_so(bench: Bench) -> None:
    anna = bench.make("anna")
    anna.faults.always("terms.prepare", fails(ZeroDivisionError("a bug")))
    anna.instance.start()
    await until(lambda: anna.instance.health().state == "failed", anna.instance.health)
    assert anna.said("instance.failed")[0]["why"] == "boot: ZeroDivisionError: a bug"
    assert await anna.stop()


async def test_a_failed_instance_stops_without_waiting_for_what_nobody_records(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.faults.always("runs.finish", fails(ZeroDivisionError("a bug")))
    await bench.put(document("backup"))
    await until(lambda: anna.instance.health().state == "failed", anna.instance.health)
    before = bench.clock.monotonic()
    await anna.stop()
    assert bench.clock.monotonic() - before < 5
    assert anna.said("run.outcomes_lost")
