"""How many runs of a job are active, how many wait, and which give way: in made-up time, over handovers."""

import asyncio
from typing import Any

import pytest
from bench import SUCCEEDED, Bench, Member, at, document, pass_time, slot_id, until, vanish
from faults import claims, fails

from cronexec.domain.run import Outcome, Run, RunState
from cronexec.errors import UnwritableError
from cronexec.ports import Batch, Execution

pytestmark = pytest.mark.virtual_time

TEN, TWENTY, THIRTY, FORTY, FIFTY = (slot_id("job", seconds) for seconds in (10, 20, 30, 40, 50))
HOUR = {"grace": "1h"}


async def begun(bench: Bench, **fields: Any) -> Member:
    """Return a holder with a job every ten seconds, whose first run goes on until it is ended."""
    anna = await bench.holder("anna")
    anna.targets.held.add("job")
    await bench.put(document("job", **fields))
    await anna.targets.began(TEN)
    return anna


def states(bench: Bench, *run_ids: str) -> list[str]:
    """Return the state of each run, as `running`, or `overlap` where a range or an entry skips it."""
    found = []
    for run_id in run_ids:
        run = bench.database.runs.get(run_id) or covering(bench, run_id)
        found.append(str(run.reason) if run.state is RunState.SKIPPED else run.state.value)
    return found


def covering(bench: Bench, run_id: str) -> Run:
    slot = next(at(seconds) for seconds in range(0, 100, 10) if slot_id("job", seconds) == run_id)
    return next(run for run in bench.database.runs.values() if run.covers(slot))


def outcome(bench: Bench, run_id: str) -> tuple[str, str | None]:
    found = bench.run(run_id).outcome
    assert found is not None, bench.run(run_id)
    return found.state.value, found.reason


# Bounds.


async def test_as_many_wait_as_the_limit_says_and_start_one_after_the_other(bench: Bench) -> None:
    anna = await begun(bench, overlap={"queue_limit": 2})
    await pass_time(42)
    assert states(bench, TEN, TWENTY, THIRTY, FORTY, FIFTY) == [
        "running",
        "queued",
        "queued",
        "overlap",
        "overlap",
    ]
    for run_id, following in ((TEN, TWENTY), (TWENTY, THIRTY)):
        anna.targets.end(run_id)
        await anna.targets.began(following, within=1)
        assert list(anna.targets.running) == [following]
    await bench.verified()


async def test_no_more_than_max_running_are_active_and_the_rest_waits(bench: Bench) -> None:
    anna = await begun(bench, overlap={"policy": "allow", "max_running": 2})
    await pass_time(32)
    assert states(bench, TEN, TWENTY, THIRTY, FORTY) == ["running", "running", "queued", "overlap"]
    anna.targets.end(TWENTY)
    await anna.targets.began(THIRTY, within=1)
    assert sorted(anna.targets.running) == [TEN, THIRTY]
    await bench.verified()


@pytest.mark.parametrize("apart", [False, True])
async def test_slots_that_come_due_together_fill_the_places_and_the_line(bench: Bench, apart: bool) -> None:
    await bench.seed(document("job", overlap={"policy": "allow", "max_running": 2}, misfire=HOUR))
    await pass_time(45)
    anna = bench.make("anna")
    if apart:
        anna.starts_apart()
    anna.targets.held.add("job")
    anna.instance.start()
    await anna.targets.began(TWENTY)
    await pass_time(1)
    assert sorted(anna.targets.running) == [TEN, TWENTY]
    assert states(bench, THIRTY, FORTY) == ["queued", "overlap"]
    await bench.verified()


async def test_triggers_wait_beyond_max_running_however_many_there_are(bench: Bench) -> None:
    anna = await begun(bench, overlap={"policy": "allow", "max_running": 1})
    for key in ("a", "b", "c"):
        assert (await bench.request("job.trigger", name="job", key=key))["ok"]
    await pass_time(12)
    assert list(anna.targets.running) == [TEN]
    anna.targets.end(TEN)
    await anna.targets.began("job#a", within=1)
    assert states(bench, "job#b", "job#c", TWENTY) == ["queued", "queued", "overlap"]


@pytest.mark.parametrize("vanishes", [True, False])
async def test_the_next_holder_finds_the_line_as_long_as_it_was(bench: Bench, vanishes: bool) -> None:
    anna = await begun(bench, overlap={"queue_limit": 2}, misfire=HOUR)
    bert = bench.start("bert")
    bert.targets.held.add("job")
    await pass_time(22)
    assert states(bench, TEN, TWENTY, THIRTY) == ["running", "queued", "queued"]
    if vanishes:
        vanish(anna)
    else:
        anna.end_term()
    await bert.holding()
    await pass_time(12)
    assert states(bench, TEN, TWENTY, THIRTY, FORTY) == ["running", "queued", "queued", "overlap"]
    if not vanishes:
        anna.targets.end(TEN)
    await bert.targets.began(TWENTY, within=90)
    assert list(bert.targets.running) == [TWENTY]
    await bench.verified()


async def test_a_run_that_waits_for_its_retry_has_its_place_before_older_ones_at_a_takeover(
    bench: Bench,
) -> None:
    await bench.seed(document("job", {"at": "2030-01-01T00:00:00Z"}, overlap="queue"))
    bench.seed_run("job", -20)
    bench.seed_run("job", -10, attempt=2, not_before=at(30))
    anna = bench.start("anna")
    anna.targets.held.add("job")
    await anna.targets.began(slot_id("job", -10))
    assert bench.clock.now() >= at(30)
    assert bench.begun() == [slot_id("job", -10)]
    anna.targets.end(slot_id("job", -10))
    await anna.targets.began(slot_id("job", -20), within=1)


# Replacing.


async def test_a_live_slot_replaces_what_runs_and_starts_when_that_has_settled(bench: Bench) -> None:
    anna = await begun(bench, overlap="replace")
    await anna.targets.began(TWENTY)
    assert anna.targets.cancelled == [TEN]
    assert outcome(bench, TEN) == ("cancelled", f"replaced by {TWENTY}")
    assert bench.run(TEN).cancel_requested_by == f"replaced by {TWENTY}"
    anna.targets.end(TWENTY)
    await anna.targets.began(THIRTY)
    assert bench.state(TWENTY) is RunState.SUCCEEDED
    await bench.verified()


async def linger(execution: Execution) -> Outcome:
    """Run on for 25 seconds after being asked to end."""
    if execution.run.id != TEN:
        return SUCCEEDED
    try:
        return await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        await asyncio.sleep(25)
        raise


async def test_what_waits_is_replaced_too_and_only_the_newest_starts(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.targets.scripts["job"] = linger
    await bench.put(document("job", overlap="replace"))
    await pass_time(44)
    assert bench.begun() == [TEN]
    assert outcome(bench, TWENTY) == ("cancelled", f"replaced by {THIRTY}")
    assert outcome(bench, THIRTY) == ("cancelled", f"replaced by {FORTY}")
    await bench.reaches(FORTY, RunState.SUCCEEDED)
    assert outcome(bench, TEN) == ("cancelled", f"replaced by {TWENTY}")
    await bench.reaches(FIFTY, RunState.SUCCEEDED)
    assert bench.begun() == [TEN, FORTY, FIFTY]
    await bench.verified()


async def test_a_missed_slot_replaces_nothing(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.targets.held.add("job")
    await bench.put(document("job", overlap="replace", misfire={"grace": "1s"}))
    assert (await bench.request("job.trigger", name="job", key="first"))["ok"]
    await anna.targets.began("job#first")
    stopping = asyncio.create_task(anna.stop(grace=300))
    await pass_time(13)
    await bench.holder("bert")
    await pass_time(3)
    assert states(bench, TEN, "job#first") == ["queued", "running"]
    assert bench.run(TEN).catch_up
    anna.targets.end("job#first")
    await bench.reaches(TEN, RunState.SUCCEEDED)
    await stopping
    await bench.verified()


async def test_a_trigger_replaces_what_runs_and_what_was_claimed_with_it(bench: Bench) -> None:
    anna = await begun(bench, overlap="replace")
    for key in ("a", "b"):
        bench.send("job.trigger", name="job", key=key)
    await anna.targets.began("job#b")
    assert outcome(bench, TEN)[0] == "cancelled"
    assert outcome(bench, "job#a") == ("cancelled", "replaced by job#b")
    assert "job#a" not in [line.run for line in bench.evidence]


async def test_a_retry_that_waits_is_replaced(bench: Bench) -> None:
    anna = await bench.holder("anna")

    async def script(execution: Execution) -> Outcome:
        return SUCCEEDED if execution.run.id != TEN else Outcome(state=RunState.FAILED)

    anna.targets.scripts["job"] = script
    retry = {"max_attempts": 9, "initial_delay": "1h", "max_delay": "1h"}
    await bench.put(document("job", overlap="replace", retry=retry))
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert (await bench.reaches(TEN, RunState.CANCELLED)).attempt == 2
    assert outcome(bench, TEN) == ("cancelled", f"replaced by {TWENTY}")
    await bench.verified()


async def test_what_runs_on_another_instance_is_asked_to_end_as_well(bench: Bench) -> None:
    anna = await begun(bench, overlap="replace")
    bert = bench.start("bert")
    stopping = asyncio.create_task(anna.stop(grace=300))
    await bert.holding()
    bert.targets.held.add("job")
    await bert.targets.began(TWENTY)
    await stopping
    assert anna.targets.cancelled == [TEN]
    assert outcome(bench, TEN) == ("cancelled", f"replaced by {TWENTY}")
    assert bench.run(TWENTY).started_at is not None
    await bench.verified()


async def test_a_replacement_whose_holder_vanishes_is_carried_through_by_the_next(bench: Bench) -> None:
    """The marks are in the write that claims: once it is committed, no failover forgets them."""
    anna = await begun(bench, overlap="replace", misfire=HOUR)
    bert = bench.start("bert")
    stopping = asyncio.create_task(anna.stop(grace=300))
    await bert.holding()
    carla = bench.start("carla")
    carla.targets.held.add("job")
    held = bert.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    vanish(bert)
    await carla.targets.began(TWENTY)
    await stopping
    assert outcome(bench, TEN) == ("cancelled", f"replaced by {TWENTY}")
    assert [line.instance for line in bench.evidence if line.run == TWENTY] == ["carla"]
    await bench.verified()


async def test_a_run_that_comes_back_unstarted_after_it_was_replaced_is_cancelled(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.starts_apart()
    await bench.put(document("job", overlap="replace"))
    held = anna.faults.hold("runs.start", done_first=True)
    await held.arrived()
    await pass_time(12)
    assert bench.state(TEN) is RunState.RUNNING
    assert bench.run(TEN).cancel_requested_by == f"replaced by {TWENTY}"
    bert = bench.start("bert")
    anna.end_term()
    held.release()
    await bert.holding()
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert outcome(bench, TEN) == ("cancelled", f"replaced by {TWENTY}")
    assert TEN not in bench.begun()
    await bench.verified()


@pytest.mark.parametrize("abandoned", ["retry", "ask"])
async def test_a_replaced_run_of_a_lost_instance_is_neither_repeated_nor_asked_about(
    bench: Bench, abandoned: str
) -> None:
    anna = await bench.holder("anna")
    anna.targets.scripts["job"] = linger
    await bench.put(document("job", overlap="replace", abandoned=abandoned, misfire=HOUR))
    await bench.reaches(TEN, RunState.RUNNING)
    bert = bench.start("bert")
    anna.end_term()
    await bert.holding()
    await until(lambda: bench.run(TEN).cancel_requested_by, lambda: bench.run(TEN), within=15)
    vanish(anna)
    run = await bench.reaches(TEN, RunState.ABANDONED, within=120)
    assert (run.attempt, run.undecided) == (1, False)
    await until(lambda: [line for line in bench.evidence if line.instance == "bert"], lambda: bench.evidence)
    await bench.verified()


async def test_a_replacement_that_cannot_be_stored_ends_nothing(bench: Bench) -> None:
    anna = await begun(bench, overlap="replace")

    def refused(_: object, batch: Batch) -> bool:
        return any(entry.id == TWENTY and not entry.open_ended for entry in batch.entries)

    for _ in range(10):
        anna.faults.where("terms.commit", refused, fails(UnwritableError("it cannot be stored")))
    await until(lambda: anna.said("job.parked"), lambda: anna.events)
    await pass_time(5)
    assert list(anna.targets.running) == [TEN]
    assert bench.run(TEN).cancel_requested_by is None


async def test_slots_that_come_due_together_leave_the_newest_only(bench: Bench) -> None:
    await bench.seed(document("job", overlap="replace", misfire=HOUR))
    await pass_time(45)
    await bench.holder("anna")
    await bench.reaches(FORTY, RunState.SUCCEEDED)
    assert bench.begun() == [FORTY]
    assert states(bench, TEN, TWENTY, THIRTY) == ["overlap"] * 3
    assert bench.run(TEN).until == at(30)
    await bench.verified()
