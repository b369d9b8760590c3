"""Schedules with jitter and exclusions, carried out: in made-up time, over handovers."""

from datetime import datetime

import pytest
from bench import Bench, at, document, pass_time, slot_id, vanish

from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time

SPREAD = {"every": "10s", "jitter": "10s"}
TEN = slot_id("job", 10)


def may_start_at(name: str, seconds: int) -> datetime:
    instant = document(name, SPREAD).schedule.starts_at(at(seconds), job=name)
    assert instant is not None
    return instant


async def test_runs_start_at_their_own_instants_and_keep_their_nominal_slots(bench: Bench) -> None:
    names = [f"job-{number}" for number in range(20)]
    await bench.holder()
    await bench.put(*(document(name, SPREAD) for name in names))
    await pass_time(25)
    for name in names:
        run = bench.run(slot_id(name, 10))
        begun = next(line.at for line in bench.evidence if line.run == run.id)
        assert (run.slot, run.state) == (at(10), RunState.SUCCEEDED)
        assert 0 <= (begun - may_start_at(name, 10)).total_seconds() < 0.1
    assert len({line.at for line in bench.evidence}) > 20
    assert (await bench.verified()).total.ok


async def test_a_jittered_run_is_claimed_at_its_slot_and_waits_in_the_ledger(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("job", SPREAD))
    run = await bench.reaches(TEN, RunState.QUEUED)
    assert run.not_before == may_start_at("job", 10)
    assert run.claimed_at is not None
    assert (run.claimed_at - at(10)).total_seconds() < 0.1


async def test_the_next_holder_starts_a_jittered_run_at_the_same_instant(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("job", {"at": "2026-11-20T12:00:10Z", "jitter": "10m"}))
    bert = bench.start("bert")
    waiting = await bench.reaches(TEN, RunState.QUEUED)
    vanish(anna)
    await bert.holding()
    done = await bench.reaches(TEN, RunState.SUCCEEDED, within=700)
    [line] = bench.evidence
    assert waiting.not_before == done.not_before
    assert waiting.not_before is not None
    assert line.instance == "bert"
    assert 0 <= (line.at - waiting.not_before).total_seconds() < 0.1


async def test_a_run_that_jitter_holds_back_can_be_cancelled(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("job", {"at": "2026-11-20T12:00:10Z", "jitter": "10m"}))
    await bench.reaches(TEN, RunState.QUEUED)
    await bench.request("run.cancel", run=TEN)
    await pass_time(700)
    assert bench.state(TEN) is RunState.CANCELLED
    assert bench.evidence == []


async def test_excluded_slots_are_skipped_with_their_reason_before_and_after_a_handover(bench: Bench) -> None:
    schedule = {"every": "10s", "exclude": ["2026-11-20T12:00:20Z/2026-11-20T12:00:40Z"]}
    anna = await bench.holder()
    await bench.put(document("job", schedule))
    bert = bench.start("bert")
    await bench.reaches(slot_id("job", 20), RunState.SKIPPED)
    vanish(anna)
    await bert.holding()
    await bench.reaches(slot_id("job", 50), RunState.SUCCEEDED)
    assert bench.begun("job") == [slot_id("job", 10), slot_id("job", 50)]
    skipped = bench.run(slot_id("job", 20))
    assert (skipped.reason, skipped.note) == ("excluded", "2026-11-20T12:00:20Z/2026-11-20T12:00:40Z")
    verified = await bench.verified()
    assert (verified.total.skips, verified.total.ok) == ({"excluded": 3}, True)
