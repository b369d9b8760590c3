"""The reaper: what becomes of runs whose instance vanished, and of those that were given back."""

import asyncio
from dataclasses import replace

import pytest
from bench import Bench, document, pass_time, slot_id, until, vanish
from faults import away, fails
from virtual_time import NOON

from cronexec.domain.run import Executor, RunState
from cronexec.ports import InstanceRecord
from cronexec.runtime.heartbeats import Heartbeats

pytestmark = pytest.mark.virtual_time

TEN = slot_id("long", 10)
TWENTY = slot_id("long", 20)
MARK = Executor(id="i-mark", name="mark", datacenter="east")


async def vanished_while_running(bench: Bench) -> None:
    """Let anna vanish while a run of hers is running, and bert hold."""
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(TEN)
    vanish(anna)
    await bert.holding()


async def test_a_run_whose_instance_vanished_is_abandoned_and_the_next_one_starts(bench: Bench) -> None:
    await vanished_while_running(bench)
    gone_at = bench.clock.now()
    run = await bench.reaches(TEN, RunState.ABANDONED, within=90)
    assert run.outcome is not None
    assert run.outcome.reason == "instance_lost"
    assert 60 <= (bench.clock.now() - gone_at).total_seconds() <= 70
    await bench.reaches(TWENTY, RunState.SUCCEEDED, within=3)
    assert (await bench.verified()).total.abandoned == 1


async def test_nobody_is_abandoned_before_heartbeats_stood_still_for_long_enough(bench: Bench) -> None:
    await vanished_while_running(bench)
    await pass_time(59)
    assert bench.state(TEN) is RunState.RUNNING


async def test_an_outage_of_the_database_abandons_nobody(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(TEN)
    anna.end_term()
    await bert.holding()
    await pass_time(30)
    bench.database.unreachable = True
    await pass_time(300)
    bench.database.unreachable = False
    await pass_time(100)
    assert bench.state(TEN) is RunState.RUNNING
    anna.targets.end(TEN)
    await bench.reaches(TEN, RunState.SUCCEEDED)


async def test_an_unreadable_database_starts_the_count_again(bench: Bench) -> None:
    await vanished_while_running(bench)
    bert = bench.members[1]
    await pass_time(50)
    bert.faults.next("instances.list", fails(away()))
    await pass_time(50)
    assert bert.said("heartbeats.not_read")
    assert bench.state(TEN) is RunState.RUNNING
    await bench.reaches(TEN, RunState.ABANDONED, within=35)


async def test_a_new_holder_counts_the_silence_it_saw_as_a_standby(bench: Bench) -> None:
    await vanished_while_running(bench)
    gone_at = bench.clock.now()
    carl = bench.start("carl")
    await pass_time(40)
    bench.members[1].end_term()
    await carl.holding()
    await bench.reaches(TEN, RunState.ABANDONED, within=60)
    assert (bench.clock.now() - gone_at).total_seconds() <= 75


async def test_a_draining_instance_is_not_lost(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(TEN)
    stopping = asyncio.create_task(anna.stop(grace=600))
    await bert.holding()
    await pass_time(300)
    assert bench.state(TEN) is RunState.RUNNING
    anna.targets.end(TEN)
    await stopping
    assert bench.state(TEN) is RunState.SUCCEEDED
    await bench.reaches(TWENTY, RunState.SUCCEEDED)


async def test_the_outcome_of_an_instance_that_was_only_cut_off_replaces_abandoned(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("long"))
    anna.targets.held.add("long")
    await anna.targets.began(TEN)
    for call in ("instances.beat", "terms.ping", "terms.commit", "terms.read", "runs.finish"):
        anna.faults.always(call, fails(away()))
    await bert.holding()
    await bench.reaches(TEN, RunState.ABANDONED, within=120)
    anna.targets.end(TEN)
    await pass_time(5)
    assert bench.state(TEN) is RunState.ABANDONED
    for call in ("instances.beat", "terms.ping", "terms.commit", "terms.read", "runs.finish"):
        anna.faults.always(call, None)
    await bench.reaches(TEN, RunState.SUCCEEDED)


async def test_a_run_that_its_instance_gives_back_is_adopted_by_the_holder(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.starts_apart()
    bert = bench.start("bert")
    await bench.put(document("long"))
    held = anna.faults.hold("runs.start", done_first=True)
    await held.arrived()
    anna.end_term()
    await bert.holding()
    await pass_time(5)
    assert bench.state(TEN) is RunState.RUNNING
    held.release()
    run = await bench.reaches(TEN, RunState.SUCCEEDED)
    assert (run.epoch, run.executor and run.executor.name) == (2, "bert")
    assert bench.begun().count(TEN) == 1


async def test_a_run_whose_instance_is_in_no_record_is_abandoned_after_the_same_silence(bench: Bench) -> None:
    await bench.seed(document("long"))
    run = bench.seed_run("long", -10, state=RunState.RUNNING, token="t", executor=MARK)  # noqa: S106  a start's token
    await bench.holder("anna")
    await pass_time(58)
    assert bench.state(run.id) is RunState.RUNNING
    await bench.reaches(run.id, RunState.ABANDONED, within=10)
    await until(bench.begun, lambda: bench.database.runs)


async def test_a_foreign_run_that_ends_lets_the_next_one_of_its_job_start(bench: Bench) -> None:
    await bench.seed(document("long"))
    run = bench.seed_run("long", -10, state=RunState.RUNNING, token="t", executor=MARK)  # noqa: S106  a start's token
    await bench.holder("anna")
    await bench.reaches(TEN, RunState.QUEUED)
    await pass_time(2)
    bench.database.runs[run.id] = replace(run, state=RunState.SUCCEEDED)
    await bench.reaches(TEN, RunState.SUCCEEDED, within=2)


async def test_a_foreign_run_whose_entry_was_removed_keeps_no_place(bench: Bench) -> None:
    await bench.seed(document("long"))
    run = bench.seed_run("long", -10, state=RunState.RUNNING, token="t", executor=MARK)  # noqa: S106  a start's token
    await bench.holder("anna")
    await bench.reaches(TEN, RunState.QUEUED)
    del bench.database.runs[run.id]
    await bench.reaches(TEN, RunState.SUCCEEDED, within=2)


def record(beat: int) -> InstanceRecord:
    return InstanceRecord(executor=MARK, started_at=NOON, beat_at=NOON, beat=beat)


@pytest.mark.parametrize(
    ("readings", "lost"),
    [
        pytest.param([(0, 1), (61, 1)], True, id="stood still"),
        pytest.param([(0, 1), (60, 1)], False, id="not for long enough"),
        pytest.param([(0, 1), (40, 2), (80, 2)], False, id="beat meanwhile"),
        pytest.param([(0, 5), (30, 5), (61, 4)], False, id="began again"),
        pytest.param([(0, 1), (50, None), (70, 1)], False, id="could not be read"),
        pytest.param([(0, 1), (50, None), (55, 1), (116, 1)], True, id="stood still since it could be read"),
    ],
)
def test_an_instance_is_lost_after_readable_silence(
    readings: list[tuple[int, int | None]], lost: bool
) -> None:
    beats = Heartbeats(60)
    for now, beat in readings:
        if beat is None:
            beats.interrupted()
        else:
            beats.observe([record(beat)], now)
    assert beats.lost(MARK.id, readings[-1][0]) is lost


def test_before_anything_was_read_nobody_is_lost() -> None:
    assert not Heartbeats(60).lost(MARK.id, 1e6)


def test_a_reading_that_is_not_answered_is_no_silence() -> None:
    beats = Heartbeats(60)
    beats.observe([record(1)], 0)
    assert not beats.lost(MARK.id, 90)
    beats.observe([record(2)], 91)
    assert not beats.lost(MARK.id, 92)


def test_instances_that_are_gone_are_forgotten_once_they_were_lost_for_long() -> None:
    beats = Heartbeats(60)
    beats.observe([record(1)], 0)
    for now in range(5, 180, 5):
        beats.observe([], now)
        assert beats.lost(MARK.id, now) is (now > 60)
    beats.observe([], 185)
    assert beats._seen == {}
