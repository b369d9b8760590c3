"""The recorder: outcomes are written until the database has them, progress now and then."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from bench import SUCCEEDED, Bench, at, recording_log, slot_id, until
from faults import Faults, away, fails, faulty_store, loses_answer

from cronexec.domain.run import Executor, Outcome, Progress, Run, RunState
from cronexec.errors import UnwritableError
from cronexec.ports import Finish
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.service import Service

pytestmark = pytest.mark.virtual_time

ANNA = Executor(id="i-anna", name="anna", datacenter="east")


@dataclass
class Recording:
    bench: Bench
    recorder: Recorder
    faults: Faults
    events: list[dict[str, Any]]
    told: list[str] = field(default_factory=list)

    def running(self, number: int) -> Run:
        run = self.bench.seed_run("backup", number, state=RunState.RUNNING, token="t", executor=ANNA)  # noqa: S106  a start's token
        return replace(run, started_at=at(number))

    def finish(self, number: int, outcome: Outcome = SUCCEEDED, token: str = "t") -> str:  # noqa: S107  a start's token
        run_id = slot_id("backup", number)
        self.recorder.finish(
            Finish(
                run_id=run_id,
                attempt=1,
                token=token,
                outcome=outcome,
                started_at=at(number),
                finished_at=at(number + 1),
            )
        )
        return run_id

    def states(self, *numbers: int) -> list[RunState | None]:
        return [self.bench.state(slot_id("backup", number)) for number in numbers]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]


@pytest.fixture
async def recording(bench: Bench) -> AsyncIterator[Recording]:
    faults, events = Faults(), list[dict[str, Any]]()
    recorder = Recorder(runs=faulty_store(bench.store, faults).runs, log=recording_log(events))
    made = Recording(bench, recorder, faults, events)
    recorder.on_recorded = lambda finishes: made.told.extend(finish.run_id for finish in finishes)
    service = Service("recorder", recorder.run, recording_log(events))
    service.start()
    yield made
    await service.stop()


@pytest.mark.parametrize("fault", [fails(away()), loses_answer(away())], ids=["not written", "written"])
async def test_an_outcome_is_written_until_the_database_has_it(recording: Recording, fault: Any) -> None:
    recording.running(0)
    recording.faults.next("runs.finish", fault, fault, fault)
    run_id = recording.finish(0)
    assert await recording.recorder.flush(60) == 0
    assert recording.states(0) == [RunState.SUCCEEDED]
    assert recording.told == [run_id]
    assert recording.recorder.dropped == 0
    assert len(recording.said("run.outcome_delayed")) == 3


async def test_outcomes_that_come_during_a_write_travel_together_in_the_next(recording: Recording) -> None:
    for number in range(20):
        recording.running(number)
    held = recording.faults.hold("runs.finish")
    recording.finish(0)
    await held.arrived()
    for number in range(1, 20):
        recording.finish(number)
    held.release()
    assert await recording.recorder.flush(5) == 0
    assert recording.faults.calls["runs.finish"] == 2
    assert set(recording.states(*range(20))) == {RunState.SUCCEEDED}


async def test_flushing_says_how_many_outcomes_are_not_written(recording: Recording) -> None:
    recording.running(0)
    recording.running(1)
    recording.faults.always("runs.finish", fails(away()))
    recording.finish(0)
    recording.finish(1)
    assert await recording.recorder.flush(10) == 2
    recording.faults.always("runs.finish", None)
    assert await recording.recorder.flush(60) == 0


async def test_an_outcome_that_the_ledger_refuses_is_counted_and_said(recording: Recording) -> None:
    recording.running(0)
    recording.finish(0, token="another start's")  # noqa: S106  no password
    assert await recording.recorder.flush(5) == 0
    assert recording.states(0) == [RunState.RUNNING]
    assert recording.recorder.dropped == 1
    assert recording.said("run.outcome_refused")


async def test_a_late_outcome_replaces_abandoned(recording: Recording) -> None:
    run = recording.running(0)
    recording.bench.database.runs[run.id] = replace(run, state=RunState.ABANDONED)
    recording.finish(0)
    await recording.recorder.flush(5)
    assert recording.states(0) == [RunState.SUCCEEDED]


async def test_an_outcome_that_cannot_be_stored_is_found_and_holds_no_other_up(recording: Recording) -> None:
    for number in range(5):
        recording.running(number)

    def cursed(finishes: list[Finish]) -> bool:
        return any(finish.outcome.error == "\ud800" for finish in finishes)

    for _ in range(5):
        recording.faults.where("runs.finish", cursed, fails(UnwritableError("no")))
    held = recording.faults.hold("runs.finish")
    recording.finish(0)
    await held.arrived()
    for number in range(1, 5):
        error = "\ud800" if number == 2 else None
        recording.finish(number, Outcome(state=RunState.FAILED, error=error))
    held.release()
    assert await recording.recorder.flush(60) == 0
    assert recording.states(*range(5)) == [RunState.SUCCEEDED, *[RunState.FAILED] * 4]
    outcome = recording.bench.run(slot_id("backup", 2)).outcome
    assert outcome is not None
    assert "cannot be stored" in str(outcome.error)
    assert recording.said("run.outcome_unwritable")


async def test_of_the_progress_within_half_a_second_only_the_last_is_written(recording: Recording) -> None:
    run = recording.running(0)
    for done in range(50):
        recording.recorder.progress(run.id, "t", Progress(done=done, total=50))
        await asyncio.sleep(0.01)
    await until(lambda: recording.bench.run(run.id).progress, lambda: recording.bench.run(run.id), 2)
    await asyncio.sleep(1)
    assert recording.faults.calls["runs.progress"] <= 2
    assert recording.bench.run(run.id).progress == Progress(done=49, total=50)


async def test_progress_that_could_not_be_written_is_followed_by_later_progress(recording: Recording) -> None:
    run = recording.running(0)
    recording.faults.next("runs.progress", fails(away()))
    recording.recorder.progress(run.id, "t", Progress(done=1))
    await until(lambda: recording.said("run.progress_not_written"), lambda: recording.events, 2)
    recording.recorder.progress(run.id, "t", Progress(done=2))
    await until(lambda: recording.bench.run(run.id).progress == Progress(done=2), lambda: recording.events, 2)


async def test_progress_just_before_the_outcome_is_recorded_with_it(recording: Recording) -> None:
    run = recording.running(0)
    recording.recorder.progress(run.id, "t", Progress(done=5, total=5))
    recording.finish(0)
    await recording.recorder.flush(5)
    assert recording.bench.run(run.id).progress == Progress(done=5, total=5)
    assert recording.faults.calls["runs.progress"] == 0


async def test_progress_after_the_outcome_changes_nothing(recording: Recording) -> None:
    run = recording.running(0)
    recording.finish(0)
    recording.recorder.progress(run.id, "t", Progress(done=1))
    await recording.recorder.flush(5)
    await asyncio.sleep(2)
    assert recording.bench.run(run.id).progress is None


async def test_outcomes_let_starts_go_first_but_not_for_long(recording: Recording) -> None:
    recording.running(0)
    recording.recorder.is_starting = lambda: True
    began = recording.bench.clock.monotonic()
    recording.finish(0)
    await recording.recorder.flush(5)
    assert 0.4 <= recording.bench.clock.monotonic() - began <= 0.6
