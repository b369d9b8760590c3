"""Who holds where instances differ in what they can run: whoever can run most, without ping-pong."""

import pytest
from bench import Bench, Member, at, document, pass_time, slot_id, until, vanish

from cronexec.adapters.memory_hub import BATON
from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time


def start(bench: Bench, name: str, *absent: str) -> Member:
    member = bench.make(name)
    member.targets.absent |= set(absent)
    member.instance.start()
    return member


def yields(member: Member) -> int:
    return len(member.said("baton.yielded"))


async def test_the_baton_goes_to_who_can_run_everything_in_time_for_what_waits(bench: Bench) -> None:
    anna = start(bench, "anna", "new")
    await anna.holding()
    bert = start(bench, "bert")
    await bench.put(document("new"), document("old"))
    await bert.holding(within=25)
    assert anna.said("baton.yielded")[0]["lacking"] == ["handler new"]
    await bench.reaches(slot_id("new", 10), RunState.SUCCEEDED)
    assert {line.instance for line in bench.evidence if line.run.startswith("new@")} == {"bert"}
    await pass_time(300)
    assert (anna.term, bert.term, yields(bert)) == (None, 2, 0)
    assert (bench.run(slot_id("new", 10)).finished_at or at(999)) < at(30)
    await bench.verified()


async def test_it_gets_there_over_others_that_lack_the_same(bench: Bench) -> None:
    anna = start(bench, "anna", "new")
    await anna.holding()
    bert, cleo = start(bench, "bert", "new"), start(bench, "cleo", "new")
    await until(lambda: len(bench.hub.queues[BATON].consumers) == 3, lambda: cleo.events[-3:])
    dora = start(bench, "dora")
    await bench.put(document("new"))
    await dora.holding(within=25)
    assert (yields(anna), yields(bert), yields(cleo)) == (1, 1, 1)
    began = [member.said("term.began")[0]["epoch"] for member in (anna, bert, cleo, dora)]
    assert began == [1, 2, 3, 4]
    await pass_time(300)
    assert dora.term == 4
    assert len(bench.hub.queues[BATON].consumers) == 4
    await bench.verified()


async def test_who_can_run_nothing_more_gets_nothing(bench: Bench) -> None:
    anna = start(bench, "anna", "new")
    await anna.holding()
    bert = start(bench, "bert", "new")
    cleo = start(bench, "cleo", "old", "other")
    await bench.put(document("new"), document("old"), document("other"))
    await pass_time(300)
    assert (anna.term, yields(anna), yields(bert), yields(cleo)) == (1, 0, 0, 0)
    assert bench.database.instances[cleo.context.executor.id].lacks == ("handler old", "handler other")


async def test_nobody_yields_to_who_lacks_less_and_something_else(bench: Bench) -> None:
    anna = start(bench, "anna", "new", "newer")
    await anna.holding()
    bert = start(bench, "bert", "old")
    await bench.put(document("new"), document("newer"), document("old"))
    await pass_time(120)
    assert (anna.term, yields(anna), bert.term) == (1, 0, None)
    assert bench.begun("old"), "what ran goes on"


async def test_what_is_deleted_or_paused_is_needed_by_nobody(bench: Bench) -> None:
    anna = start(bench, "anna", "new", "gone")
    await anna.holding()
    await bench.put(document("new"), document("gone"))
    assert (await bench.request("job.pause", name="new"))["ok"]
    assert (await bench.request("job.delete", name="gone"))["ok"]
    bert = start(bench, "bert")
    await pass_time(120)
    assert (anna.term, bert.term) == (1, None)
    assert (await bench.request("job.resume", name="new"))["ok"]
    await bert.holding(within=25)


async def test_somebody_who_seems_to_stand_by_and_takes_nothing_costs_little_and_ever_less(
    bench: Bench,
) -> None:
    anna = start(bench, "anna", "new")
    await anna.holding()
    bert = bench.make("bert")
    await bench.put(document("new"), document("old"))
    await bert.instance.heart.beat()

    async def beats() -> None:
        record = bench.database.instances[bert.context.executor.id]
        bench.database.instances[bert.context.executor.id] = type(record)(
            executor=record.executor,
            started_at=record.started_at,
            beat_at=bench.clock.now(),
            beat=record.beat + 1,
            state="standby",
            lacks=(),
        )

    before = bench.clock.monotonic()
    while bench.clock.monotonic() - before < 1800:
        await beats()
        await pass_time(5)
    bert.alive = False
    assert anna.term is not None
    assert 3 <= yields(anna) <= 6  # after one minute, two, four …
    late = [run.lateness_s for run in bench.database.runs.values() if run.job == "old" and run.lateness_s]
    assert max(late) < 6  # seconds: the time that it stayed away
    assert not [run for run in bench.database.runs.values() if run.job == "old" and run.reason == "misfire"]


async def test_nobody_yields_to_the_dead(bench: Bench) -> None:
    anna = start(bench, "anna", "new")
    await anna.holding()
    bert = start(bench, "bert")
    await pass_time(12)
    vanish(bert)
    await pass_time(20)
    await bench.put(document("new"))
    await pass_time(120)
    assert (anna.term, yields(anna)) == (1, 0)


async def test_a_job_that_only_a_newer_release_can_read_is_its_to_carry_out(bench: Bench) -> None:
    anna = start(bench, "anna")
    await anna.holding()
    await bench.put(document("ours"))
    anna.instance.table.unreadable["theirs"] = "rpeat: unknown field"
    anna.instance.table.changes += 1
    bert = start(bench, "bert")
    await bert.holding(within=25)
    assert anna.said("baton.yielded")[0]["lacking"] == ["to read theirs"]
