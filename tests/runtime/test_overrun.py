"""Attempts that take longer than their job's `expected`."""

from datetime import timedelta

import pytest
from bench import Bench, Member, at, document, pass_time, slot_id, until
from faults import away, fails

from cronexec.domain.run import Outcome, RunState

pytestmark = pytest.mark.virtual_time

FIRST = slot_id("report", 10)
FAILED = Outcome(state=RunState.FAILED, error="no such league")


async def held(bench: Bench, **fields: object) -> Member:
    anna = await bench.holder("anna")
    anna.targets.held.add("report")
    await bench.put(document("report", **fields))
    await anna.targets.began(FIRST)
    return anna


async def test_an_overrun_is_told_once_and_marked_in_the_ledger_while_the_run_goes_on(bench: Bench) -> None:
    anna = await held(bench, expected="20s")
    await until(lambda: bench.run(FIRST).overrun_at, lambda: bench.run(FIRST))
    run = bench.run(FIRST)
    assert run.state is RunState.RUNNING
    assert run.started_at is not None
    assert run.overrun_at is not None
    assert timedelta(0) <= run.overrun_at - run.started_at - timedelta(seconds=20) < timedelta(seconds=1)
    await pass_time(60)
    anna.targets.end(FIRST)
    ended = await bench.reaches(FIRST, RunState.SUCCEEDED)
    assert ended.overrun_at == run.overrun_at
    (told,) = anna.said("run.overrun")
    assert (told["level"], told["run"], told["job"], told["attempt"], told["expected_s"]) == (
        "warning",
        FIRST,
        "report",
        1,
        20,
    )


async def test_a_run_within_its_time_is_neither_told_nor_marked(bench: Bench) -> None:
    anna = await held(bench, expected="20s")
    anna.faults.always("runs.overran", fails(AssertionError("written for a run that did not overrun")))
    await pass_time(19)
    anna.targets.end(FIRST)
    ended = await bench.reaches(FIRST, RunState.SUCCEEDED)
    await pass_time(5)
    assert ended.overrun_at is None
    assert anna.said("run.overrun") == []


async def test_a_mark_that_cannot_be_written_is_written_later_even_after_the_run(bench: Bench) -> None:
    anna = await held(bench, expected="20s", timeout="30s")
    anna.faults.always("runs.overran", fails(away()))
    await bench.reaches(FIRST, RunState.TIMED_OUT)
    assert bench.run(FIRST).overrun_at is None
    assert anna.said("run.overrun_not_written")
    anna.faults.always("runs.overran", None)
    await until(lambda: bench.run(FIRST).overrun_at, lambda: bench.run(FIRST))
    marked = bench.run(FIRST)
    assert marked.state is RunState.TIMED_OUT
    assert marked.overrun_at is not None
    assert marked.overrun_at < at(40)


async def test_the_next_attempt_has_its_own_time(bench: Bench) -> None:
    anna = await held(bench, expected="20s", retry={"max_attempts": 2, "initial_delay": "1s"})
    await until(lambda: bench.run(FIRST).overrun_at, lambda: bench.run(FIRST))
    anna.targets.end(FIRST, FAILED)
    await until(lambda: bench.run(FIRST).attempt == 2, lambda: bench.run(FIRST))
    assert bench.run(FIRST).overrun_at is None
    await anna.targets.began(FIRST)
    await until(lambda: bench.run(FIRST).overrun_at, lambda: bench.run(FIRST))
    assert [told["attempt"] for told in anna.said("run.overrun")] == [1, 2]
