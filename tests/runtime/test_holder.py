"""One term: how it begins with what is there already, and how it ends at the first doubt."""

from dataclasses import replace

import pytest
from bench import SECOND, Bench, Member, at, document, pass_time, slot_id, until
from faults import away, fails
from virtual_time import freeze

from cronexec.domain.run import Executor, RunState
from cronexec.errors import TermLostError
from cronexec.ports import MOST_ADOPTED

pytestmark = pytest.mark.virtual_time

TEN = slot_id("backup", 10)
ZOE = Executor(id="i-zoe", name="zoe", datacenter="west")


def why_ended(member: Member) -> str:
    return str(member.said("term.ended")[0]["reason"])


# The beginning.


async def test_a_term_begins_with_its_epoch_and_adopts_before_it_reads(bench: Bench) -> None:
    await bench.seed(document("backup"))
    run = bench.seed_run("backup", -10, epoch=0)
    anna = bench.start("anna")
    held = anna.faults.hold("runs.unsettled")
    await held.arrived()
    assert bench.run(run.id).epoch == 1
    assert (await bench.store.terms.read()).epoch == 1
    assert bench.begun() == []
    held.release()
    await bench.reaches(run.id, RunState.SUCCEEDED)


async def test_several_queued_runs_of_a_job_start_one_after_the_other_oldest_first(bench: Bench) -> None:
    await bench.seed(document("backup"))
    runs = [bench.seed_run("backup", seconds) for seconds in (-20, -30, -10)]
    anna = bench.start("anna")
    anna.targets.held.add("backup")
    for seconds in (-30, -20, -10):
        await anna.targets.began(slot_id("backup", seconds))
        assert len(anna.targets.running) == 1
        anna.targets.end(slot_id("backup", seconds))
    assert bench.begun("backup")[:3] == [runs[1].id, runs[0].id, runs[2].id]


async def test_a_run_of_the_instance_itself_goes_on_into_its_next_term(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    anna.end_term()
    await until(lambda: anna.term == 2, lambda: anna.events[-3:])
    await pass_time(15)
    assert bench.state(TEN) is RunState.RUNNING
    assert bench.state(slot_id("backup", 20)) is RunState.QUEUED
    anna.targets.end(TEN)
    await anna.targets.began(slot_id("backup", 20))
    assert bench.begun().count(TEN) == 1


async def test_an_outcome_that_is_recorded_while_a_term_begins_frees_its_job(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    held = anna.faults.hold("runs.unsettled", done_first=True)
    anna.end_term()
    await held.arrived()  # read as running
    anna.targets.end(TEN)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    held.release()
    await anna.targets.began(slot_id("backup", 20), within=15)


async def test_the_next_holder_reads_jobs_that_changed_since_it_last_looked(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"), document("gone"))
    await pass_time(3)
    assert set(bert.instance.table.jobs) == {"backup", "gone"}
    asked: list[int] = []

    def notes(revision: int) -> bool:
        asked.append(revision)
        return False

    bert.faults.where("jobs.changed_since", notes, fails(away()))
    await bench.request("job.delete", name="gone")
    await bench.put(document("new"))
    anna.end_term()
    await bert.holding()
    await bench.reaches(slot_id("new", 10), RunState.SUCCEEDED)
    assert asked[-1] >= 2
    assert bench.begun("gone") == []
    await bench.verified()


async def test_a_database_that_fails_while_a_term_begins_ends_it_and_the_next_adopts(bench: Bench) -> None:
    await bench.seed(document("backup"))
    run = bench.seed_run("backup", -10)
    anna = bench.make("anna")
    anna.faults.next("runs.unsettled", fails(away()))
    anna.faults.next("runs.beyond", fails(away()))
    anna.instance.start()
    await bench.reaches(run.id, RunState.SUCCEEDED)
    assert why_ended(anna).startswith("UnreachableError")
    assert bench.begun() == [run.id]


async def test_a_clock_that_is_behind_the_watermark_decides_nothing_twice(bench: Bench) -> None:
    await bench.seed(document("backup"))
    assert bench.database.term is not None
    bench.database.term = replace(bench.database.term, watermark=at(0.9))
    await bench.holder("anna")
    await pass_time(25)
    assert bench.begun("backup") == [TEN, slot_id("backup", 20)]
    await bench.verified()


# The end.


async def test_another_epoch_ends_the_term_with_its_next_write(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.store.terms.raise_epoch(ZOE)
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:], within=2)
    assert why_ended(anna).startswith("fenced")
    assert not anna.said("service.crashed")


async def test_a_lease_that_runs_out_ends_the_term_though_its_write_hangs(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    hung_at = bench.clock.monotonic()
    await bert.holding(within=15)
    assert 9 <= bench.clock.monotonic() - hung_at <= 12
    assert why_ended(anna) == "lease_expired"
    held.release()


async def test_a_process_that_stood_still_acts_no_more_when_it_continues(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"))
    await pass_time(5)
    commits = anna.faults.calls["terms.commit"]
    freeze(30)
    for link in anna.broker._links:
        link._lose("heartbeats were missed")
    await bert.holding()
    assert anna.faults.calls["terms.commit"] == commits
    await pass_time(5)
    await bench.verified()


@pytest.mark.parametrize("part", ["scheduler", "reaper", "baton"])
async def test_a_part_of_the_term_that_crashes_ends_it(bench: Bench, part: str) -> None:
    anna = await bench.holder("anna")
    bug = fails(ZeroDivisionError("a bug"))
    if part == "scheduler":
        anna.faults.next("terms.commit", bug)
    elif part == "baton":
        anna.faults.next("publisher.publish_baton", bug)
        await pass_time(299)
    else:
        bench.seed_run("backup", -10, state=RunState.RUNNING, token="t", executor=ZOE)  # noqa: S106  a start's token
        anna.end_term()
        await until(lambda: anna.term == 2, lambda: anna.events[-3:])
        anna.events.clear()
        anna.faults.next("runs.states", bug)
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:], within=5)
    assert why_ended(anna) == f"{part}: ZeroDivisionError: a bug"
    assert [event["service"] for event in anna.said("service.crashed")] == [part]
    await until(lambda: anna.term, lambda: anna.events[-3:], within=10)


async def test_when_a_term_ends_what_is_queued_is_forgotten_and_what_runs_goes_on(bench: Bench) -> None:
    anna = await bench.holder("anna", max_running_handlers=1)
    bert = bench.start("bert")
    await bench.put(document("backup"), document("waiting"))
    anna.targets.held |= {"backup", "waiting"}
    await until(lambda: anna.targets.running, bench.begun)
    await pass_time(0.5)
    (running,) = anna.targets.running
    anna.end_term()
    await bert.holding()
    assert anna.said("term.ended")[0]["queued_left"] == 1
    (other,) = {TEN, slot_id("waiting", 10)} - {running}
    await bench.reaches(other, RunState.SUCCEEDED)
    assert list(anna.targets.running) == [running]
    anna.targets.end(running)
    await bench.reaches(running, RunState.SUCCEEDED)


async def test_a_fenced_holder_is_told_by_the_error_only_once(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.faults.next("terms.commit", fails(TermLostError("write 7 expected")))
    await until(lambda: anna.said("term.ended"), lambda: anna.events[-3:], within=3)
    assert why_ended(anna) == "fenced: write 7 expected"
    assert len(anna.said("term.ended")) == 1
    await until(lambda: anna.term == 2, lambda: anna.events[-3:])
    assert bench.clock.now() - at(0) < 10 * SECOND


async def test_a_line_longer_than_one_write_adopts_is_adopted_whole_and_run(bench: Bench) -> None:
    await bench.seed(document("backup", {"at": "2030-01-01T00:00:00Z"}, overlap="allow"))
    for number in range(MOST_ADOPTED + 200):
        bench.seed_run("backup", -number - 1)
    anna = await bench.holder()
    await bench.reaches(slot_id("backup", -MOST_ADOPTED - 200), RunState.SUCCEEDED)
    await until(lambda: len(bench.evidence) == MOST_ADOPTED + 200, lambda: len(bench.evidence))
    assert not anna.said("run.start_refused")
    assert {run.epoch for run in bench.database.runs.values()} == {1}
