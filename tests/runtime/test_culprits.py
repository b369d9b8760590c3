"""What the database will never store: the culprit's job is parked, and nothing else stops."""

from collections.abc import Callable

import pytest
from bench import Bench, at, document, pass_time, slot_id
from faults import fails

from cronexec.domain.run import UNSETTLED, Run, RunState
from cronexec.errors import UnwritableError
from cronexec.ports import Batch
from cronexec.runtime.scheduler import MOST_ENTRIES

pytestmark = pytest.mark.virtual_time

REFUSAL = "MongoDB refuses this for good: Document failed validation"


def refuse(bench: Bench, which: Callable[[Run], bool]) -> None:
    """Let no member's write of such an entry ever be taken."""

    def refused(_: object, batch: Batch) -> bool:
        return any(which(entry) for entry in batch.entries)

    for member in bench.members:
        for _ in range(2_000):
            member.faults.where("terms.commit", refused, fails(UnwritableError(REFUSAL)))


def cursed_run(entry: Run) -> bool:
    return entry.job == "cursed" and entry.state in UNSETTLED


async def test_a_job_whose_entries_are_refused_is_parked_and_the_others_run(bench: Bench) -> None:
    anna = await bench.holder()
    refuse(bench, cursed_run)
    await bench.put(document("cursed"), *(document(f"job-{number}") for number in range(9)))
    await bench.reaches(slot_id("job-8", 20), RunState.SUCCEEDED)
    parked = bench.database.jobs["cursed"].paused
    assert parked is not None
    assert (parked.issued_by, parked.reason) == ("cronexec", REFUSAL)
    assert anna.said("job.parked")[0]["job"] == "cursed"
    assert bench.begun("cursed") == []
    assert anna.term == 1
    verified = await bench.verified()
    assert verified.total.run == 18


async def test_a_parked_job_runs_again_once_it_is_resumed(bench: Bench) -> None:
    anna = await bench.holder()
    refuse(bench, cursed_run)
    await bench.put(document("cursed"), document("other"))
    await bench.reaches(slot_id("other", 10), RunState.SUCCEEDED)
    anna.faults._where.clear()
    reply = await bench.request("job.resume", name="cursed")
    assert reply["ok"], reply
    await bench.reaches(slot_id("cursed", 20), RunState.SUCCEEDED)
    verified = await bench.verified()
    assert verified.total.run == 3


async def test_a_job_is_parked_even_where_the_ledger_refuses_its_range_too(bench: Bench) -> None:
    anna = await bench.holder()
    refuse(bench, lambda entry: entry.job == "cursed")
    await bench.put(document("cursed"), document("other"))
    await bench.reaches(slot_id("other", 20), RunState.SUCCEEDED)
    parked = bench.database.jobs["cursed"].paused
    assert parked is not None
    assert parked.range_id == ""
    assert anna.term == 1


async def test_a_database_that_refuses_every_entry_parks_nothing_and_ends_the_term(bench: Bench) -> None:
    anna = await bench.holder()
    refuse(bench, lambda _: True)
    await bench.put(document("backup"), document("other"))
    await pass_time(14)
    assert anna.said("term.ended")
    assert not anna.said("job.parked")
    anna.faults._where.clear()
    await bench.reaches(slot_id("backup", 20), RunState.SUCCEEDED)
    await bench.verified()


async def test_a_refused_claim_costs_no_command_of_the_same_write(bench: Bench) -> None:
    anna = await bench.holder()
    refuse(bench, cursed_run)
    await bench.put(document("cursed"), document("other"))
    held = anna.faults.hold("terms.commit", lambda _, batch: batch.until >= at(9.9))
    await held.arrived()
    bench.send("job.trigger", name="other", key="a")
    bench.send("job.trigger", name="other", key="b")
    held.release()
    await bench.reaches("other#a", RunState.SUCCEEDED)
    await bench.reaches("other#b", RunState.SUCCEEDED)
    assert bench.database.jobs["cursed"].paused is not None
    assert not bench.hub.queues["commands.rejected"].ready
    await bench.verified()


async def test_a_job_refused_in_the_middle_of_its_catch_up_is_parked_from_there(bench: Bench) -> None:
    misfire = {"policy": "all", "limit": 10_000, "grace": "1s"}
    await bench.seed(document("cursed", {"every": "1s"}, misfire=misfire, overlap="allow"))
    await bench.seed(document("other", {"every": "1s"}, misfire=misfire, overlap="allow"))
    await pass_time(3_000.5)
    anna = bench.make("anna")
    writable = 5 * MOST_ENTRIES // 2
    refuse(bench, lambda entry: cursed_run(entry) and entry.slot > at(writable))
    anna.instance.start()
    await bench.reaches(slot_id("other", 3_000), RunState.SUCCEEDED)
    parked = bench.database.jobs["cursed"].paused
    assert parked is not None
    cursed = [run for run in bench.database.runs.values() if run.job == "cursed"]
    written = sum(run.state is not RunState.SKIPPED for run in cursed)
    assert writable - MOST_ENTRIES < written <= writable  # of the write that was refused, none of its runs
    assert bench.run(parked.range_id).slot == at(written + 1)
    await bench.reaches(slot_id("cursed", written), RunState.SUCCEEDED)
    assert len(bench.begun("cursed")) == written
    await bench.verified()


async def test_a_catch_up_of_one_job_is_cut_into_several_writes_and_decided_as_one(bench: Bench) -> None:
    misfire = {"policy": "all", "limit": 4_500, "grace": "1s"}
    await bench.seed(document("backup", {"every": "1s"}, misfire=misfire, overlap="allow"))
    await pass_time(5_000.5)
    anna = bench.make("anna")
    sizes: list[int] = []

    def seen(_: object, batch: Batch) -> bool:
        sizes.append(len(batch.entries))
        return False

    anna.faults.where("terms.commit", seen, fails(UnwritableError(REFUSAL)))
    anna.instance.start()
    await bench.reaches(slot_id("backup", 5_000), RunState.SUCCEEDED)
    full, rest = divmod(4_500 + 2, MOST_ENTRIES)
    assert [size for size in sizes if size][: full + 1] == [MOST_ENTRIES] * full + [rest]
    verified = await bench.verified()
    assert verified.total.run == 4_500 + 1  # the newest is no later than its grace
    assert verified.total.due - verified.total.run == 499
