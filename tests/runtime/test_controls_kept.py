"""Controls in the term of a holder and beyond it: nobody has to do anything when one of them ends."""

from dataclasses import replace
from datetime import timedelta

import pytest
from bench import Bench, at, document, pass_time, slot_id, vanish

from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time


def instant(seconds: float) -> str:
    return at(seconds).isoformat()


async def test_a_paused_job_goes_on_at_the_end_of_the_pause_by_itself(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("backup"))
    await bench.request("job.pause", name="backup", until=instant(40), reason="holidays")
    writes = len(bench.database.commands)
    await bench.reaches(slot_id("backup", 50), RunState.SUCCEEDED)
    assert bench.begun() == [slot_id("backup", 50)]
    assert len(bench.database.commands) == writes
    verified = await bench.verified()
    assert verified.total.skips == {"paused": 4}


async def test_a_job_whose_holder_vanished_in_its_pause_goes_on_with_the_next_one(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"), document("other"))
    await bench.request("job.pause", name="backup", until=instant(60))
    await pass_time(25)
    vanish(anna)
    await bert.holding()
    await bench.reaches(slot_id("backup", 70), RunState.SUCCEEDED)
    assert bench.begun("backup") == [slot_id("backup", 70)]
    assert bench.begun("other")[0] == slot_id("other", 10)
    await bench.verified()


async def test_a_pause_that_ends_while_nobody_holds_leaves_the_slots_after_it_to_the_misfire_policy(
    bench: Bench,
) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup", misfire={"policy": "all", "grace": "10s"}, overlap="allow"))
    await bench.request("job.pause", name="backup", until=instant(40))
    await pass_time(15)
    vanish(anna)
    await pass_time(80)
    bert = bench.start("bert")
    bench.insert_baton()
    await bert.holding()
    missed = [slot_id("backup", seconds) for seconds in (50, 60, 70, 80, 90)]
    for run_id in missed:
        await bench.reaches(run_id, RunState.SUCCEEDED)
    assert sorted(bench.begun("backup"))[:5] == missed
    (paused,) = (run for run in bench.database.runs.values() if run.state is RunState.SKIPPED)
    assert (paused.slot, paused.until) == (at(10), at(40))
    await bench.verified()


async def test_pausing_again_resuming_and_putting_within_a_pause_account_for_every_slot(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("backup"))
    await bench.request("job.pause", name="backup", until=instant(60))
    await pass_time(15)
    await bench.request("job.pause", name="backup", until=instant(300))
    await pass_time(20)
    await bench.put(document("backup", {"every": "7s"}))
    await pass_time(10)
    await bench.request("job.resume", name="backup")
    await pass_time(60)
    verified = await bench.verified()
    assert verified.total.skips.keys() == {"paused"}
    ranges = sorted(
        (run.slot, run.until) for run in bench.database.runs.values() if run.state is RunState.SKIPPED
    )
    assert [first for first, _ in ranges] == [
        at(10),
        at(20),
        at(40),
    ]  # 7 s on the phase of the epoch
    assert verified.total.run > 5


async def test_what_is_asked_for_in_one_write_is_applied_in_its_order(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    bench.send("job.pause", name="backup", until=instant(100))
    bench.send("job.resume", name="backup")
    bench.send("job.pause", name="backup", until=instant(30))
    await pass_time(1)
    held.release()
    await bench.reaches(slot_id("backup", 40), RunState.SUCCEEDED)
    assert bench.begun()[-1:] == [slot_id("backup", 40)]
    assert slot_id("backup", 30) not in bench.begun()
    await bench.verified()


async def test_slots_in_windows_and_skipped_once_are_in_the_ledger_and_do_not_run(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"))
    await bench.request("job.skip", name="backup", count=2, issued_by="ann")
    await bench.request("job.blackout", name="backup", start=instant(40), end=instant(70), reason="move")
    await pass_time(50)
    vanish(anna)
    await bert.holding()
    await bench.reaches(slot_id("backup", 80), RunState.SUCCEEDED)
    assert bench.begun() == [slot_id("backup", 30), slot_id("backup", 80)]
    verified = await bench.verified()
    assert verified.total.skips == {"skip_next": 2, "blackout": 4}
    assert bench.run(slot_id("backup", 10)).issued_by == "ann"
    assert bench.run(slot_id("backup", 40)).note == "move"


async def test_windows_that_nobody_needs_any_more_cost_no_write(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("backup", {"every": "1h"}))
    await bench.request("job.blackout", name="backup", start=instant(5), end=instant(10))
    job = bench.database.jobs["backup"]
    await pass_time(120)
    assert bench.database.jobs["backup"] is job
    await bench.request("job.skip", name="backup", count=1)
    assert bench.database.jobs["backup"] == replace(
        job,
        revision=job.revision + 1,
        updated_at=bench.database.jobs["backup"].updated_at,
        skip_next=bench.database.jobs["backup"].skip_next,
        blackouts=(),
    )
    assert bench.database.jobs["backup"].skip_next[0].slot == at(0) + timedelta(hours=1)
