"""A defect that shows in one job only: that job is parked, and nothing else stops."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from bench import Bench, at, document, pass_time, slot_id

from cronexec.domain.plan import Due
from cronexec.domain.run import Run, RunState
from cronexec.domain.schedule import Schedule
from cronexec.runtime import claims

pytestmark = pytest.mark.virtual_time

EVERY_SEVEN = {"every": "7s"}


class Defect:
    """Deciding the job `cursed` crashes, after so many of its entries, for as long as it is there."""

    def __init__(self, after_entries: int = 0) -> None:
        self.after_entries = after_entries
        self.is_there = True
        self._claim = claims.claim

    def claim(self, due: Due, *args: Any, **kwargs: Any) -> Iterator[Run | None]:
        entries = 0
        for entry in self._claim(due, *args, **kwargs):
            if self.is_there and due.job.name == "cursed" and entries >= self.after_entries:
                raise ZeroDivisionError("a defect")
            entries += entry is not None
            yield entry


@pytest.fixture
def defect(monkeypatch: pytest.MonkeyPatch) -> Defect:
    planted = Defect()
    monkeypatch.setattr(claims, "claim", planted.claim)
    return planted


@pytest.fixture
def cannot_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No next slot of an interval of seven seconds can be computed."""
    broken, next_after = document("x", EVERY_SEVEN).schedule, Schedule.next_after

    def crash(self: Schedule, after: datetime) -> datetime | None:
        if self == broken:
            raise ZeroDivisionError("seven")
        return next_after(self, after)

    monkeypatch.setattr(Schedule, "next_after", crash)


@pytest.mark.usefixtures("defect")
async def test_a_job_that_cannot_be_decided_is_parked_and_the_others_run(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("cursed"), *(document(f"job-{number}") for number in range(9)))
    await bench.reaches(slot_id("job-8", 20), RunState.SUCCEEDED)
    parked = bench.database.jobs["cursed"].paused
    assert parked is not None
    assert parked.issued_by == "cronexec"
    assert parked.reason == "it could not be decided: ZeroDivisionError: a defect"
    assert anna.said("job.crashed")[0]["job"] == "cursed"
    assert anna.said("job.parked")[0]["job"] == "cursed"
    assert bench.begun("cursed") == []
    assert anna.term == 1
    verified = await bench.verified()
    assert (verified.total.run, verified.total.skips) == (18, {"paused": 2})


async def test_a_parked_job_runs_again_once_the_defect_is_gone(bench: Bench, defect: Defect) -> None:
    await bench.holder()
    await bench.put(document("cursed"), document("other"))
    await bench.reaches(slot_id("other", 10), RunState.SUCCEEDED)
    defect.is_there = False
    assert (await bench.request("job.resume", name="cursed"))["ok"]
    await bench.reaches(slot_id("cursed", 20), RunState.SUCCEEDED)
    verified = await bench.verified()
    assert verified.total.run == 3


@pytest.mark.parametrize("after_entries", [1, 200, 700])  # beyond a share; beyond a write
async def test_what_was_decided_before_the_crash_counts(
    bench: Bench, defect: Defect, after_entries: int
) -> None:
    defect.after_entries = after_entries
    catching_up = document(
        "cursed", {"every": "1s"}, misfire={"policy": "all", "limit": 1000}, overlap="allow"
    )
    await bench.seed(catching_up, document("other"), from_at=at(-1000))
    await bench.prepare(watermark=at(-1000))
    anna = await bench.holder()
    await bench.reaches(slot_id("other", 20), RunState.SUCCEEDED)
    parked = bench.database.jobs["cursed"].paused
    assert parked is not None
    claimed = [run for run in bench.database.runs.values() if run.job == "cursed" and run.until is None]
    assert len([run for run in claimed if not run.open_ended]) == after_entries
    assert anna.term == 1
    await bench.verified()


@pytest.mark.usefixtures("cannot_compute")
async def test_a_job_whose_next_slot_cannot_be_computed_is_parked_and_the_others_run(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.seed(document("cursed", EVERY_SEVEN), document("other"))
    bench.start("ben")
    anna.end_term()
    await bench.reaches(slot_id("other", 20), RunState.SUCCEEDED)
    parked = bench.database.jobs["cursed"].paused
    assert parked is not None
    assert parked.reason == "its next slot could not be computed: ZeroDivisionError: seven"
    (entry,) = [run for run in bench.database.runs.values() if run.job == "cursed"]
    assert (entry.state, entry.open_ended) == (RunState.SKIPPED, True)
    epoch = bench.database.term.epoch if bench.database.term else None
    await pass_time(timedelta(minutes=1).total_seconds())
    assert bench.database.term is not None
    assert bench.database.term.epoch == epoch
