"""Many queued runs are ended at once: in writes of a bounded size, and nothing else waits for them."""

from datetime import timedelta
from typing import Any

import pytest
from bench import Bench, Member, at, document, pass_time, slot_id, until, vanish
from faults import Call, fails

from cronexec.domain.ending import MOST_ENDED
from cronexec.domain.run import Outcome, Run, RunState
from cronexec.ports import Batch, Execution

pytestmark = pytest.mark.virtual_time

QUEUED = 3 * MOST_ENDED + 100
CROWDED = document("crowded", {"every": "1h"}, overlap={"policy": "queue", "queue_limit": 100_000})


async def linger(_: Execution) -> Outcome:
    await pass_time(timedelta(hours=5).total_seconds())
    return Outcome(state=RunState.SUCCEEDED)


def watch_writes(member: Member) -> list[Batch]:
    """Return the batches that the member writes from now on."""
    written: list[Batch] = []

    def see(_: object, batch: Batch) -> bool:
        written.append(batch)
        return False

    member.faults.where("terms.commit", see, fails(AssertionError("it only looks")))
    return written


async def crowd(bench: Bench, name: str = "anna") -> Member:
    """Have a holder with a job whose first run goes on for hours, and many that wait for it."""
    await bench.seed(CROWDED, document("other", {"every": "1s"}), from_at=at(-4 * QUEUED))
    for number in range(QUEUED):
        bench.seed_run("crowded", number - 2 * QUEUED)
    await bench.prepare(watermark=at(0))
    return await crowded(bench, name)


async def crowded(bench: Bench, name: str) -> Member:
    member = bench.make(name)
    member.targets.scripts["crowded"] = linger
    member.instance.start()
    await member.holding()
    await until(lambda: bench.begun("crowded"), lambda: member.events[-5:])
    return member


def of_the_job(bench: Bench, state: RunState) -> list[Run]:
    return [run for run in bench.database.runs.values() if run.job == "crowded" and run.state is state]


def reasons(runs: list[Run]) -> set[str | None]:
    return {run.outcome.reason for run in runs if run.outcome is not None}


@pytest.mark.parametrize(("command", "why"), [("job.pause", "job_paused"), ("job.delete", "job_deleted")])
async def test_a_job_with_very_many_queued_runs_is_stopped_in_several_writes(
    bench: Bench, command: str, why: str
) -> None:
    anna = await crowd(bench)
    written = watch_writes(anna)
    reply = await bench.request(command, name="crowded")
    assert reply["ok"], reply
    assert of_the_job(bench, RunState.QUEUED) == []
    cancelled = of_the_job(bench, RunState.CANCELLED)
    assert (len(cancelled), reasons(cancelled)) == (QUEUED - 1, {why})
    assert len(of_the_job(bench, RunState.RUNNING)) == 1
    settling = [len(batch.settles) for batch in written if batch.settles]
    assert settling == [MOST_ENDED, MOST_ENDED, MOST_ENDED, 101]
    assert [bool(batch.commands) for batch in written if batch.settles] == [False, False, False, True]
    assert anna.term == 1


async def test_commands_behind_one_that_ends_very_many_runs_are_applied_in_order(bench: Bench) -> None:
    await crowd(bench)
    bench.send("job.pause", name="crowded")
    bench.send("job.resume", name="crowded")
    reply = await bench.request("job.pause", name="crowded", reason="again")
    assert reply["ok"], reply
    job = bench.database.jobs["crowded"]
    assert job.paused is not None
    assert job.paused.reason == "again"
    assert job.revision == 5  # of two jobs that were put, and of three commands
    assert list(bench.database.commands) == ["c1", "c2", "c3"]


async def test_the_next_holder_ends_what_the_killed_one_did_not_come_to(bench: Bench) -> None:
    anna = await crowd(bench)
    ben = bench.start("ben")
    written = watch_writes(anna)
    bench.send("job.delete", name="crowded")
    await until(lambda: any(batch.settles for batch in written), lambda: len(written))
    vanish(anna)
    await ben.holding()
    await until(lambda: bench.database.jobs["crowded"].deleted_at, lambda: bench.database.commands)
    assert of_the_job(bench, RunState.QUEUED) == []
    cancelled = of_the_job(bench, RunState.CANCELLED)
    assert reasons(cancelled) <= {"job_deleted"}


@pytest.mark.parametrize("by", ["trigger", "slot"])
async def test_a_run_that_replaces_very_many_is_claimed_once_these_have_ended(bench: Bench, by: str) -> None:
    anna = await crowd(bench)
    every = {"every": "10s"} if by == "slot" else {"every": "1h"}
    await bench.put(document("crowded", every, overlap="replace"))
    written = watch_writes(anna)
    if by == "trigger":
        reply = await bench.request("job.trigger", name="crowded", key="now")
        assert reply["ok"], reply
        newer = "crowded#now"
    else:
        newer = slot_id("crowded", 10)
        await until(lambda: bench.state(newer), lambda: anna.events[-5:])
    settling = [len(batch.settles) for batch in written if batch.settles]
    assert settling == [MOST_ENDED, MOST_ENDED, MOST_ENDED, 101]
    claiming = [any(entry.id == newer for entry in batch.entries) for batch in written if batch.settles]
    assert claiming == [False, False, False, True]
    assert reasons(of_the_job(bench, RunState.CANCELLED)) == {f"replaced by {newer}"}
    run = await bench.reaches(newer, RunState.RUNNING)
    assert run.attempt == 1
    assert anna.term == 1


async def test_slots_of_other_jobs_are_claimed_while_very_many_runs_end(bench: Bench) -> None:
    anna = await crowd(bench)

    async def take_long(call: Call) -> Any:
        await pass_time(0.9)
        return await call()

    written = watch_writes(anna)
    for _ in range(4):
        anna.faults.where("terms.commit", lambda _, batch: bool(batch.settles), take_long)
    reply = await bench.request("job.pause", name="crowded")
    assert reply["ok"], reply
    claimed = [entry.job for batch in written if batch.settles for entry in batch.entries]
    assert claimed.count("other") >= 2


async def test_very_many_runs_that_cannot_be_executed_say_so_and_fail_in_several_writes(bench: Bench) -> None:
    crowded = document("crowded", {"every": "1h"}, misfire={"grace": "20s"}, overlap="allow")
    await bench.seed(crowded, from_at=at(-4 * QUEUED))
    for number in range(QUEUED):
        bench.seed_run("crowded", number - 2 * QUEUED)
    anna = bench.make("anna")
    written = watch_writes(anna)
    anna.targets.absent.add("crowded")
    anna.instance.start()
    await until(lambda: len(of_the_job(bench, RunState.FAILED)) == QUEUED, lambda: len(written))
    assert [len(batch.reasons) for batch in written if batch.reasons] == [MOST_ENDED] * 3 + [100]
    assert [len(batch.settles) for batch in written if batch.settles] == [MOST_ENDED] * 3 + [100]
    assert anna.term == 1


NAMES = [f"crowded-{number}" for number in range(6)]
EACH = MOST_ENDED // 2 + 100


async def crowds(bench: Bench, **fields: Any) -> list[Batch]:
    """Have many runs of several jobs wait for one that cannot be executed; returns what is written then."""
    await bench.seed(*(document(name, **fields) for name in NAMES), from_at=at(-4 * EACH))
    for name in NAMES:
        for number in range(EACH):
            bench.seed_run(name, number - 2 * EACH)
    await bench.prepare(watermark=at(0))
    anna = bench.make("anna")
    for name in NAMES:
        anna.targets.scripts[name] = linger
    anna.instance.start()
    await anna.holding()
    await until(lambda: len(bench.evidence) == len(NAMES), lambda: anna.events[-5:])
    return watch_writes(anna)


def ended(bench: Bench) -> int:
    return sum(run.state is RunState.CANCELLED for run in bench.database.runs.values())


async def test_several_commands_end_no_more_runs_in_one_write_than_one(bench: Bench) -> None:
    written = await crowds(bench, schedule={"every": "1h"})
    for name in NAMES:
        bench.send("job.pause", name=name)
    await until(lambda: ended(bench) == len(NAMES) * (EACH - 1), lambda: ended(bench))
    settling = [len(batch.settles) for batch in written if batch.settles]
    assert settling == [2 * EACH] * 3
    assert [record.id for batch in written for record in batch.commands] == [f"c{n}" for n in range(1, 7)]


async def test_several_slots_replace_no_more_runs_in_one_write_than_one(bench: Bench) -> None:
    written = await crowds(bench, schedule={"every": "10s"}, overlap="replace")
    await until(lambda: ended(bench) >= len(NAMES) * (EACH - 1), lambda: ended(bench))
    settling = [len(batch.settles) for batch in written if batch.settles]
    assert settling == [2 * EACH] * 3
    claimed = [entry.id for batch in written if batch.settles for entry in batch.entries]
    assert sorted(claimed) == [slot_id(name, 10) for name in NAMES]
