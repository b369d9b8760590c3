"""Transcripts: what runs write is stored as it comes; where it is little and soon over it costs nothing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from bench import Bench, document, recording_log, slot_id, until
from faults import Faults, away, fails, faulty_store, loses_answer

from cronexec.domain.run import Outcome, RunState
from cronexec.domain.transcript import HEAD_BYTES, TAIL_BYTES, output_of
from cronexec.runtime import transcripts as module
from cronexec.runtime.attempt import Attempt
from cronexec.runtime.service import Service
from cronexec.runtime.transcripts import Transcripts
from cronexec.targets.output import BoundedOutput, RedactingSink

pytestmark = pytest.mark.virtual_time


class Targets:
    """Gives each attempt an output, and a target that lasts until it is cancelled."""

    def new_output(self) -> BoundedOutput:
        return BoundedOutput()

    async def execute(self, _: Any) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError


@dataclass
class Storing:
    bench: Bench
    transcripts: Transcripts
    running: dict[str, Attempt]
    faults: Faults
    events: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, number: int) -> Attempt:
        run = self.bench.seed_run("backup", number, state=RunState.RUNNING)
        attempt = Attempt(
            run=run,
            document=document("backup"),
            token="t",  # noqa: S106  a start's token
            targets=cast("Any", Targets()),
            clock=self.bench.clock,
            recorder=cast("Any", None),
            log=recording_log(self.events),
        )
        self.running[run.id] = attempt
        return attempt

    def end(self, attempt: Attempt) -> None:
        del self.running[attempt.run.id]
        self.transcripts.ended(attempt)

    def stored(self, number: int) -> str | None:
        found = self.bench.database.outputs.get((slot_id("backup", number), 1))
        return None if found is None else output_of(found).text

    async def until_stored(self, number: int, text: str) -> None:
        await until(lambda: self.stored(number) == text, lambda: self.stored(number), within=5)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]


@pytest.fixture
async def storing(bench: Bench) -> AsyncIterator[Storing]:
    faults, events, running = Faults(), list[dict[str, Any]](), dict[str, Attempt]()
    transcripts = Transcripts(
        outputs=faulty_store(bench.store, faults).outputs,
        running=lambda: running,
        monotonic=bench.clock.monotonic,
        log=recording_log(events),
    )
    service = Service("transcripts", transcripts.run, recording_log(events))
    service.start()
    yield Storing(bench, transcripts, running, faults, events)
    await service.stop()


def write(attempt: Attempt, text: str | bytes) -> None:
    attempt.output.write(text)


async def test_ten_thousand_quiet_runs_cost_no_write_at_all(storing: Storing) -> None:
    for number in range(10_000):
        attempt = storing.begin(number)
        write(attempt, "done\n" * 800)
        storing.end(attempt)
    assert await storing.transcripts.flush(1) == 0
    await asyncio.sleep(2)
    assert storing.faults.calls["outputs.grow"] == 0


async def test_a_short_run_that_wrote_much_is_stored_whole_at_its_end(storing: Storing) -> None:
    attempt = storing.begin(0)
    write(attempt, "x" * 5000)
    storing.end(attempt)
    assert await storing.transcripts.flush(5) == 0
    assert storing.stored(0) == "x" * 5000
    assert storing.bench.database.outputs[slot_id("backup", 0), 1].ended


async def test_what_longer_runs_write_is_stored_as_it_comes_in_one_write(storing: Storing) -> None:
    one, two = storing.begin(1), storing.begin(2)
    await asyncio.sleep(0.6)
    write(one, "one\n")
    write(two, "two\n")
    await storing.until_stored(1, "one\n")
    assert storing.stored(2) == "two\n"
    assert storing.faults.calls["outputs.grow"] == 1
    await asyncio.sleep(5)
    assert storing.faults.calls["outputs.grow"] == 1
    write(two, "more\n")
    await storing.until_stored(2, "two\nmore\n")
    storing.end(two)
    await storing.transcripts.flush(5)
    assert storing.bench.database.outputs[slot_id("backup", 2), 1].ended


@pytest.mark.parametrize("fault", [fails(away()), loses_answer(away())], ids=["not written", "written"])
async def test_a_database_that_is_away_delays_what_is_stored(storing: Storing, fault: Any) -> None:
    attempt = storing.begin(0)
    await asyncio.sleep(0.6)
    storing.faults.next("outputs.grow", fault, fault)
    write(attempt, "one\n")
    await until(lambda: storing.said("run.output_delayed"), lambda: storing.events, within=5)
    write(attempt, "two\n")
    storing.end(attempt)
    assert await storing.transcripts.flush(30) == 0
    assert storing.stored(0) == "one\ntwo\n"


async def test_of_a_run_that_never_stops_writing_head_and_tail_stay(storing: Storing) -> None:
    attempt = storing.begin(0)
    for number in range(400):
        write(attempt, f"{number:07d}\n" * 2048)
        await asyncio.sleep(0.1)
    storing.end(attempt)
    await storing.transcripts.flush(5)
    kept = output_of(storing.bench.database.outputs[slot_id("backup", 0), 1])
    assert len(kept.head) == HEAD_BYTES
    assert kept.head.startswith("0000000\n")
    assert kept.tail.endswith("0000399\n")
    assert TAIL_BYTES <= len(kept.tail) <= TAIL_BYTES + 64 * 1024
    assert len(kept.head) + len(kept.tail) + kept.dropped == 400 * 16 * 1024


async def test_an_interval_stores_no_more_than_it_may_and_forgets_nobody(storing: Storing) -> None:
    attempts = [storing.begin(number) for number in range(8)]
    await asyncio.sleep(0.6)
    for attempt in attempts:
        write(attempt, "x" * 400_000)
    await until(lambda: storing.stored(0), lambda: storing.events, within=5)
    assert [storing.stored(number) is not None for number in range(8)] == [True] * 3 + [False] * 5
    for number in range(8):
        await storing.until_stored(number, "x" * 400_000)


async def test_what_waits_is_bounded_and_what_is_let_go_is_said(
    storing: Storing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES_WAITING", 25_000)
    storing.faults.always("outputs.grow", fails(away()))
    for number in range(4):
        attempt = storing.begin(number)
        write(attempt, "x" * 10_000)
        storing.end(attempt)
    assert [each["run"] for each in storing.said("run.output_lost")] == [
        slot_id("backup", 0),
        slot_id("backup", 1),
    ]
    storing.faults.always("outputs.grow", None)
    assert await storing.transcripts.flush(30) == 0
    assert [storing.stored(number) is not None for number in range(4)] == [False, False, True, True]


async def test_no_part_of_a_secret_is_stored_while_the_run_goes_on(storing: Storing) -> None:
    attempt = storing.begin(0)
    sink = RedactingSink(attempt.output, {"hunter2", "hunter2000"})
    await asyncio.sleep(0.6)
    sink.write("it is hun")
    await storing.until_stored(0, "it is ")
    sink.write("ter2")
    await asyncio.sleep(2)
    assert storing.stored(0) == "it is "
    sink.write("000, or hunter2!\n")
    await storing.until_stored(0, "it is ***, or ***!\n")
