"""The tick: what is claimed, when it starts, and what a write that goes wrong leaves."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from bench import Bench, at, document, pass_time, slot_id, until, vanish
from faults import Call, Fault, away, claims, fails, loses_answer, unclear
from virtual_time import NOON, freeze

from cronexec.domain.job import JobDocument
from cronexec.domain.run import Cause, Executor, RunState, SkipReason
from cronexec.errors import UnwritableError
from cronexec.ports import Batch
from cronexec.runtime.scheduler import MOST_ENTRIES

pytestmark = pytest.mark.virtual_time

TEN = slot_id("backup", 10)
TWENTY = slot_id("backup", 20)

# Nothing starts before its claim is committed.


async def test_a_run_starts_only_after_the_answer_to_the_commit_of_its_claim(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    assert bench.state(TEN) is RunState.RUNNING  # written, but this is not known
    await pass_time(3)
    assert bench.begun() == []
    held.release()
    await bench.reaches(TEN, RunState.SUCCEEDED)


async def test_nothing_starts_while_the_claim_cannot_be_committed(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    await pass_time(8)
    anna.faults.always("terms.commit", fails(unclear()))
    await pass_time(9)
    assert bench.begun() == []
    anna.faults.always("terms.commit", None)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    await bench.verified()


async def test_nothing_starts_when_the_term_ended_while_the_claim_was_committed(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"))
    bert.targets.held.add("backup")
    held = anna.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    anna.end_term()
    held.release()
    await bert.targets.began(TEN)
    assert [line.instance for line in bench.evidence] == ["bert"]
    assert bench.run(TEN).epoch == 2


async def test_nothing_starts_when_the_process_stood_still_for_longer_than_the_lease(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    freeze(11)
    held.release()
    await until(lambda: anna.said("term.ended"), lambda: anna.events)
    assert bench.begun() == []
    assert anna.said("term.ended")[0]["reason"] == "lease_expired"
    await bench.reaches(TEN, RunState.SUCCEEDED)  # in the next term
    await bench.verified()


# Unclear commits.


@pytest.mark.parametrize("fault", [loses_answer, fails], ids=["applied", "not applied"])
async def test_a_claim_whose_answer_is_lost_is_written_once_and_its_run_starts_once(
    bench: Bench, fault: Callable[[Exception], Fault]
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    anna.faults.where("terms.commit", claims, fault(unclear()))
    await pass_time(25)
    assert anna.said("term.commit_unclear")
    assert bench.begun() == [TEN, TWENTY]
    assert anna.term == 1
    await bench.verified()


@pytest.mark.parametrize("fault", [loses_answer, fails], ids=["applied", "not applied"])
async def test_a_lost_answer_and_an_unreadable_database_leave_one_claim_and_one_start(
    bench: Bench, fault: Callable[[Exception], Fault]
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    anna.faults.where("terms.commit", claims, fault(unclear()))
    anna.faults.always("terms.read", fails(away()))
    await pass_time(13)
    anna.faults.always("terms.read", None)
    await pass_time(12)
    assert bench.begun() == [TEN, TWENTY]
    await bench.verified()


async def test_after_a_lost_answer_another_epoch_ends_the_term_without_a_start(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit", claims)
    await held.arrived()
    await bench.store.terms.raise_epoch(Executor(id="i-zoe", name="zoe", datacenter="west"))
    anna.faults.where("terms.commit", claims, fails(unclear()))
    held.release()
    await until(lambda: anna.said("term.ended"), lambda: anna.events)
    assert anna.said("term.ended")[0]["reason"].startswith("fenced")
    assert bench.begun() == []
    await bench.reaches(TEN, RunState.SUCCEEDED)  # when the baton has come back to the only instance
    assert bench.run(TEN).epoch == 3
    assert not anna.said("service.crashed")
    await bench.verified()


async def test_a_write_that_arrives_after_it_was_asked_again_is_recognized(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))
    late: list[Call] = []

    async def delayed(call: Call) -> None:
        late.append(call)
        raise unclear()

    async def overtaken(call: Call) -> object:
        await late[0]()
        return await call()

    anna.faults.where("terms.commit", claims, delayed)
    anna.faults.where("terms.commit", claims, overtaken)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert anna.term == 1
    assert bench.begun() == [TEN, TWENTY]
    assert not anna.said("run.already_claimed")
    await bench.verified()


async def test_slots_that_a_failed_write_would_have_claimed_are_claimed_in_this_instances_next_term(
    bench: Bench,
) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("backup"))

    async def lost_for_good(_: Call) -> None:
        anna.end_term()
        raise away()

    anna.faults.where("terms.commit", claims, lost_for_good)
    await until(lambda: anna.said("term.ended"), lambda: anna.events)
    assert bench.state(TEN) is None
    await pass_time(60)
    assert anna.term is not None
    assert anna.term > 1
    verified = await bench.verified()
    assert verified.total.due >= 7
    assert bench.begun()[0] == TEN


# Group commit.


async def test_commands_that_arrive_during_a_commit_travel_together_in_the_next_in_order(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    ids = [bench.send("job.trigger", name="backup", key=f"k{number}") for number in range(20)]
    await pass_time(0.1)
    before = anna.faults.calls["terms.commit"]
    held.release()
    await until(lambda: ids[-1] in bench.database.commands, lambda: bench.database.commands)
    assert anna.faults.calls["terms.commit"] == before + 1
    assert [each for each in bench.database.commands if each in ids] == ids
    await until(lambda: len(bench.evidence) == 20, bench.begun)


async def test_a_change_of_a_job_counts_from_exactly_the_instant_up_to_which_the_old_version_decided(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", {"every": "1s"}))
    for seconds in (2, 3, 1, 2):
        await pass_time(2.5)
        await bench.put(document("backup", {"every": f"{seconds}s"}))
    await pass_time(5)
    versions = [version for _, version in sorted(bench.database.versions.items())]
    assert [version.to_at for version in versions[:-1]] == [version.from_at for version in versions[1:]]
    await bench.verified()
    assert anna.term == 1


async def test_a_run_claimed_in_the_write_that_changes_its_job_is_executed_as_it_was_claimed(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", params={"league": 1}))
    await pass_time(8)
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    bench.send("job.put", job=document("backup", params={"league": 2}).to_document())
    await pass_time(2)
    held.release()
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert [(line.version, line.command["league"]) for line in bench.evidence] == [(1, 1)]
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert [(line.version, line.command["league"]) for line in bench.evidence][1:] == [(2, 2)]


@pytest.mark.parametrize(("kind", "reason"), [("job.delete", "job_deleted"), ("job.pause", "job_paused")])
async def test_a_run_claimed_in_the_write_that_takes_its_job_away_does_not_start(
    bench: Bench, kind: str, reason: str
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    await pass_time(8)
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    bench.send(kind, name="backup")
    await pass_time(2.2)
    held.release()
    run = await bench.reaches(TEN, RunState.CANCELLED)
    assert run.outcome is not None
    assert run.outcome.reason == reason
    await pass_time(30)
    assert bench.begun() == []
    await bench.verified()


async def test_a_trigger_is_refused_when_the_slot_claimed_in_its_own_write_runs_and_overlap_is_skip(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", overlap="skip"))
    anna.targets.held.add("backup")
    await pass_time(8)
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    trigger = bench.send("job.trigger", name="backup")
    await pass_time(2.2)
    held.release()
    await until(lambda: trigger in bench.database.commands, lambda: bench.database.commands)
    assert bench.database.commands[trigger].reply["error"]["code"] == "conflict"
    await anna.targets.began(TEN)


async def test_a_job_that_is_put_triggered_and_cancelled_in_one_write_is_as_its_commands_say(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    document_of = document("backup", {"at": at(3600).isoformat()}, params={"league": 1}).to_document()
    bench.send("job.put", job=document_of)
    bench.send("job.trigger", name="backup", key="first")
    bench.send("job.put", job=document_of | {"params": {"league": 2}})
    bench.send("job.trigger", name="backup", key="second")
    bench.send("job.trigger", name="backup", key="third")
    cancel = bench.send("run.cancel", run="backup#third")
    held.release()
    await until(lambda: cancel in bench.database.commands, lambda: anna.events[-3:])
    await until(lambda: len(bench.evidence) == 2, bench.begun)
    lines = [(line.run, line.version, line.command["league"]) for line in bench.evidence]
    assert lines == [("backup#first", 1, 1), ("backup#second", 2, 2)]
    assert bench.state("backup#third") is RunState.CANCELLED
    assert anna.term == 1


# Poisonous items.


async def test_an_unwritable_command_is_found_among_others_and_only_it_is_refused(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))

    async def refuse(_: object) -> object:
        raise UnwritableError("MongoDB refuses this for good")

    for _ in range(8):
        anna.faults.where(
            "terms.commit", lambda _, batch: any(one.id == "bad" for one in batch.commands), refuse
        )
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    for number in range(5):
        bench.send(
            "job.trigger", name="backup", key=f"k{number}", id="bad" if number == 2 else f"good{number}"
        )
    held.release()
    await until(lambda: "good4" in bench.database.commands, lambda: bench.database.commands)
    applied = [each for each in bench.database.commands if each != "c1"]
    assert applied == ["good0", "good1", "good3", "good4"]
    assert len(bench.hub.queues["commands.rejected"].ready) == 1
    await pass_time(12)
    assert sorted(bench.begun()) == [*(f"backup#k{number}" for number in (0, 1, 3, 4)), TEN]
    assert anna.term == 1


async def test_an_unwritable_command_does_not_cost_the_slots_of_its_write(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    await pass_time(8)
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    for _ in range(2):  # with the slot, and alone
        anna.faults.where("terms.commit", lambda _, batch: bool(batch.commands), fails(UnwritableError("no")))
    bench.send("job.trigger", name="backup", id="bad")
    await pass_time(2.2)
    held.release()
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert anna.term == 1
    assert "bad" not in bench.database.commands
    await bench.verified()


async def test_a_command_that_crashes_is_rejected_and_the_next_is_applied(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    bench.send("job.trigger", name="cursed", id="bad")
    bench.send("job.trigger", name="backup", id="good", key="k")
    no_job: Any = object()  # applying to it must crash
    anna.instance.table.jobs["cursed"] = no_job
    held.release()
    await bench.reaches("backup#k", RunState.SUCCEEDED)
    rejected = bench.hub.queues["commands.rejected"].ready
    assert [b'"bad"' in message.body for message in rejected] == [True]
    assert anna.said("command.crashed")
    assert anna.term == 1
    assert bench.hub.queues["commands"].consumers[0].unacked == {}


async def test_entries_that_are_in_the_ledger_already_are_dropped_and_the_rest_is_claimed(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"), document("other"))
    there = bench.seed_run("backup", 10, state=RunState.SUCCEEDED)
    await bench.reaches(slot_id("other", 10), RunState.SUCCEEDED)
    assert anna.said("run.already_claimed")[0]["count"] == 1
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert bench.begun("backup") == [TWENTY]
    assert bench.run(TEN) == there
    assert anna.term == 1


# Large catch-ups.


async def test_a_large_catch_up_is_written_in_several_writes_in_the_order_of_time(bench: Bench) -> None:
    await bench.seed(*(every_second(f"job-{number}") for number in range(7)))
    await pass_time(700.5)
    anna = bench.make("anna")
    commits: list[tuple[int, datetime]] = []

    def seen(_: object, batch: Batch) -> bool:
        commits.append((len(batch.entries), batch.until))
        return False

    anna.faults.where("terms.commit", seen, fails(away()))
    anna.instance.start()
    await anna.holding()
    await pass_time(3)
    sizes = [size for size, _ in commits if size]
    full, rest = divmod(7 * 700, MOST_ENTRIES)
    assert sizes[: full + 1] == [MOST_ENTRIES] * full + [rest]
    watermarks = [until_at for _, until_at in commits]
    assert watermarks == sorted(watermarks)
    verified = await bench.verified()
    assert len(bench.evidence) == verified.total.due == verified.total.run


@pytest.mark.parametrize("ends_after", [None, 2.0], ids=["to its end", "half-way"])
async def test_live_slots_wait_for_no_catch_up_of_others_and_none_is_lost(
    bench: Bench, ends_after: float | None
) -> None:
    misfire = {"policy": "all", "limit": 100_000}
    await bench.seed(document("endless", {"every": "1s"}, misfire=misfire, overlap="allow"))
    await bench.seed(*(document(f"job-{number}", {"every": "5s"}) for number in range(20)))
    await pass_time(40_000)
    anna, bert = bench.make("anna", catch_up_rate=50), bench.make("bert", catch_up_rate=50)

    async def slowly(call: Call) -> object:
        written = await call()
        await pass_time(0.2)
        return written

    for member in (anna, bert):
        member.faults.always("terms.commit", slowly)
        member.instance.start()
    await pass_time(3)
    live_since = bench.clock.now()
    assert len(bench.database.runs) < 10_000, "the catch-up is written already"
    if ends_after is not None:
        await pass_time(ends_after)
        next(member for member in (anna, bert) if member.holds).end_term()
    await pass_time(15)
    live = [bench.run(line.run) for line in bench.evidence if line.run.startswith("job-")]
    late = [run.lateness_s for run in live if run.slot > live_since and run.lateness_s is not None]
    assert len(late) == 3 * 20
    assert max(late) < (0.5 if ends_after is None else 3.0)
    assert (await bench.verified()).total.due > 40_000


async def test_a_crash_between_two_writes_of_a_catch_up_loses_and_doubles_nothing(bench: Bench) -> None:
    for policy in ("all", "latest", "skip"):
        misfire = {"policy": policy, "grace": "20s"}
        await bench.seed(document(policy, {"every": "7s"}, misfire=misfire, overlap="allow"))
    await bench.seed(*(every_second(f"job-{number}") for number in range(6)))
    await pass_time(700.5)
    anna = bench.make("anna")
    second = anna.faults.hold("terms.commit", lambda term, batch: claims(term, batch) and term.seq > 2)
    anna.instance.start()
    await second.arrived()
    record = await bench.store.terms.read()
    decided = {run.job for run in bench.database.runs.values()}
    undecided = [job for name, job in bench.database.jobs.items() if name not in decided]
    assert decided
    assert undecided
    for job in undecided:
        first = job.schedule.next_after(NOON)
        assert first is not None
        assert record.watermark < first
    assert any(run.slot > record.watermark for run in bench.database.runs.values())
    vanish(anna)
    bert = await bench.holder("bert")
    await pass_time(100)
    verified = await bench.verified()
    assert bert.term == 2
    assert verified.total.due > 6 * 800
    assert len([run for run in bench.database.runs.values() if run.catch_up and run.job == "latest"]) <= 1


def every_second(name: str) -> JobDocument:
    return document(name, {"every": "1s"}, misfire={"grace": "1h"}, overlap="allow")


# Policies over a failover.


@pytest.mark.parametrize(("policy", "run", "skipped"), [("latest", 1, 11), ("all", 12, 0), ("skip", 0, 12)])
async def test_slots_missed_between_two_holders_are_decided_by_the_misfire_policy(
    bench: Bench, policy: str, run: int, skipped: int
) -> None:
    misfire = {"policy": policy, "grace": "2s"}
    await bench.seed(document("backup", misfire=misfire, overlap="allow"))
    await pass_time(125)
    await bench.holder()
    await pass_time(1)
    verified = await bench.verified()
    assert (verified.total.run, verified.total.skips.get(SkipReason.MISFIRE, 0)) == (run, skipped)
    assert len(bench.evidence) == run


async def test_a_second_crash_neither_repeats_nor_loses_a_caught_up_run(bench: Bench) -> None:
    await bench.seed(document("backup", misfire={"policy": "latest", "grace": "2s"}))
    await pass_time(125)
    anna = bench.start("anna")
    held = anna.faults.hold("runs.start")
    await held.arrived()
    vanish(anna)
    await bench.holder("bert")
    await pass_time(1)
    assert bench.begun() == [slot_id("backup", 120)]
    await bench.verified()


@pytest.mark.parametrize("overlap", ["queue", "skip", "allow"])
async def test_a_run_of_the_former_term_counts_as_overlap_until_it_is_settled(
    bench: Bench, overlap: str
) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup", overlap=overlap))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    stopping = asyncio.create_task(anna.stop(grace=300))
    await bert.holding()
    await pass_time(15)
    wanted = {"queue": RunState.QUEUED, "skip": RunState.SKIPPED, "allow": RunState.SUCCEEDED}
    assert bench.state(TWENTY) is wanted[overlap]
    anna.targets.end(TEN)
    await stopping
    await pass_time(12)
    assert bench.state(TWENTY) is (RunState.SKIPPED if overlap == "skip" else RunState.SUCCEEDED)
    assert bench.state(slot_id("backup", 30)) is not None
    await bench.verified()


async def test_queued_runs_are_adopted_with_the_versions_that_they_were_claimed_with(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup", params={"league": 1}))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    await bench.reaches(TWENTY, RunState.QUEUED)
    await bench.put(document("backup", params={"league": 2}))
    stopping = asyncio.create_task(anna.stop(grace=300))
    await bert.holding()
    await pass_time(1)
    anna.targets.end(TEN)
    await stopping
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    lines = [(line.run, line.version, line.command["league"]) for line in bench.evidence]
    assert lines[:2] == [(TEN, 1, 1), (TWENTY, 1, 1)]
    assert bench.run(TWENTY).epoch == 2


async def test_a_run_whose_version_is_gone_fails_and_holds_nothing_up(bench: Bench) -> None:
    await bench.seed(document("backup"))
    bench.seed_run("backup", -10, version=0)
    bench.seed_run("forgotten", -10)
    anna = await bench.holder("anna")
    for run_id in (slot_id("backup", -10), slot_id("forgotten", -10)):
        run = await bench.reaches(run_id, RunState.FAILED)
        assert run.outcome is not None
        assert run.outcome.reason == "version_missing"
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert anna.term == 1


async def test_a_queued_run_that_is_cancelled_never_starts_and_the_next_one_does(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    await bench.reaches(TWENTY, RunState.QUEUED)
    reply = await bench.request("run.cancel", run=TWENTY, issued_by="eve")
    assert reply["result"]["state"] == "cancelled"
    await pass_time(20)
    anna.targets.held.clear()
    anna.targets.end(TEN)
    await bench.reaches(slot_id("backup", 30), RunState.SUCCEEDED)
    assert TWENTY not in bench.begun()
    assert bench.run(TWENTY).state is RunState.CANCELLED


async def test_a_queued_run_that_starts_while_its_cancel_is_written_is_ended(bench: Bench) -> None:
    anna = await bench.holder()
    anna.starts_apart()
    await bench.put(document("backup"))
    anna.targets.held.add("backup")
    start = anna.faults.hold("runs.start")
    await start.arrived()
    commit = anna.faults.hold("terms.commit", lambda _, batch: bool(batch.commands))
    request = asyncio.create_task(bench.request("run.cancel", run=TEN))
    await commit.arrived()  # the run was looked up, and is queued
    start.release()
    await anna.targets.began(TEN)
    commit.release()
    assert (await request)["ok"]
    await bench.reaches(TEN, RunState.CANCELLED, within=3)
    assert anna.targets.cancelled == [TEN]


async def test_a_trigger_runs_once_for_each_key(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("backup", {"at": at(3600).isoformat()}))
    first = await bench.request("job.trigger", name="backup", key="k")
    again = await bench.request("job.trigger", name="backup", key="k")
    assert first["result"]["created"]
    assert not again["result"]["created"]
    run = await bench.reaches("backup#k", RunState.SUCCEEDED)
    assert run.cause is Cause.TRIGGER
    assert [line.run for line in bench.evidence] == ["backup#k"]


async def test_an_idle_holder_writes_once_a_second(bench: Bench) -> None:
    anna = await bench.holder()
    await pass_time(1)
    before = anna.faults.calls["terms.commit"]
    await pass_time(60)
    assert 59 <= anna.faults.calls["terms.commit"] - before <= 61


async def test_a_read_that_fails_after_a_run_came_back_costs_no_term(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.starts_apart()
    await bench.put(document("backup"))
    start = anna.faults.hold("runs.start", done_first=True, error=away())
    await start.arrived()
    anna.instance.heart._beaten_at = None  # nobody sees it alive: it starts nothing
    start.release()
    anna.faults.next("runs.get_many", fails(away()), fails(away()))
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert anna.term == 1
    assert bench.begun() == [TEN]
