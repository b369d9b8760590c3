"""Defects of our own, of a kind that no one thought of: told of, and no other run or job pays for them."""

import asyncio
from typing import Any

import pytest
from bench import Bench, Member, document, pass_time, slot_id, until
from faults import Fault, fails, loses_answer

from cronexec.domain.run import Outcome, RunState
from cronexec.ports import Execution
from cronexec.runtime.attempt import Attempt
from cronexec.targets.output import BoundedOutput

pytestmark = pytest.mark.virtual_time

TEN = slot_id("backup", 10)
TWENTY = slot_id("backup", 20)
THIRTY = slot_id("backup", 30)
BUG = ZeroDivisionError("a bug")


async def with_one_place(bench: Bench) -> Member:
    anna = await bench.holder(max_running_handlers=1)
    anna.starts_apart()
    await bench.put(document("backup"))
    return anna


@pytest.mark.parametrize("fault", [fails(BUG), loses_answer(BUG)], ids=["not started", "started"])
async def test_a_start_that_crashes_costs_neither_the_run_nor_its_place(bench: Bench, fault: Fault) -> None:
    anna = await with_one_place(bench)
    anna.faults.next("runs.start", fault)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert len(anna.said("run.start_crashed")) == 1
    assert anna.term == 1
    await bench.verified()


async def test_runs_are_given_back_until_that_crashes_no_more(bench: Bench) -> None:
    anna = await with_one_place(bench)
    anna.faults.next("runs.start", loses_answer(BUG))
    anna.faults.next("runs.give_back", *[fails(BUG)] * 3)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert len(anna.said("run.start_crashed")) == 4
    await bench.verified()


async def test_an_attempt_that_cannot_be_made_is_made_later_and_the_rest_of_its_group_as_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await bench.holder()
    outputs: list[BoundedOutput] = []

    def new_output() -> BoundedOutput:
        outputs.append(BoundedOutput())
        if len(outputs) == 5:
            raise BUG
        return outputs[-1]

    monkeypatch.setattr(anna.targets, "new_output", new_output)
    await bench.put(*(document(f"job-{number}") for number in range(20)))
    await until(lambda: anna.said("run.given_back"), lambda: anna.events[-3:])
    await pass_time(5)
    assert len(set(bench.begun())) == 20
    assert anna.term == 1
    assert anna.instance.dispatcher.starting_or_running() == set()
    await bench.verified()


async def test_an_end_that_crashes_frees_its_place(bench: Bench) -> None:
    anna = await with_one_place(bench)
    ended: list[Attempt] = []

    def told(attempt: Attempt) -> None:
        ended.append(attempt)
        if len(ended) == 1:
            raise BUG

    anna.instance.dispatcher.on_ended(told)
    await bench.reaches(THIRTY, RunState.SUCCEEDED)
    assert [attempt.run.id for attempt in ended] == [TEN, TWENTY, THIRTY]
    assert [said["run"] for said in anna.said("run.end_crashed")] == [TEN]


async def test_an_attempt_that_nobody_ended_has_failed_though_something_in_it_was_cancelled(
    bench: Bench,
) -> None:
    anna = await with_one_place(bench)

    async def cancelled(_: Execution) -> Outcome:
        raise asyncio.CancelledError("a connection of the target's")

    anna.targets.scripts["backup"] = cancelled
    run = await bench.reaches(TEN, RunState.FAILED)
    assert run.outcome is not None
    assert run.outcome.error == "CancelledError: a connection of the target's"


async def test_a_command_whose_reply_crashes_is_applied_and_told_of(bench: Bench) -> None:
    anna = await bench.holder()
    bench.hub.requesters["asking"] = lambda _: None
    anna.faults.next("publisher.reply", fails(BUG))
    bench.send("job.put", id="put", reply_to="asking", job=document("backup").to_document())
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert [said["level"] for said in anna.said("command.crashed")] == ["error"]
    assert anna.term == 1


# Lengths that no calendar has.


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"misfire": {"policy": "all", "grace": "9999999d"}}, id="grace"),
        pytest.param({"misfire": {"window": "9999999d"}}, id="window"),
        pytest.param(
            {"target": {"type": "handler", "name": "absent"}, "misfire": {"grace": "9999999d"}}, id="wait"
        ),
        pytest.param({"schedule": {"at": "2026-11-20T12:00:05Z"}, "delete_after": "9999999d"}, id="deletion"),
    ],
)
async def test_a_length_of_millennia_in_one_job_stops_no_other(bench: Bench, fields: dict[str, Any]) -> None:
    odd = document("odd", **{"schedule": {"every": "5s"}} | fields)
    await bench.seed(odd, document("backup"))
    await pass_time(9)
    anna = bench.make("anna")
    anna.targets.absent.add("absent")
    anna.instance.start()
    await bench.reaches(THIRTY, RunState.SUCCEEDED)
    await pass_time(10)
    assert anna.term == 1
    await bench.verified()
