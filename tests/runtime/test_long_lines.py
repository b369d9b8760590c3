"""What a term finds may be long, and is gone through in slices; time is the CPU time of the loop's thread."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from bench import SECOND, document, recording_log
from loop_turns import longest_hold
from virtual_time import NOON

from cronexec.adapters.memory_clock import ManualClock
from cronexec.adapters.memory_store import MemoryDatabase, MemoryStore
from cronexec.domain.job import Job
from cronexec.domain.run import Run, RunState
from cronexec.runtime.adoption import Adoption
from cronexec.runtime.jobs import JobTable

LONG = 150_000
MOST_HELD = 0.05  # CPU seconds


class ThreadClock(ManualClock):
    """Goes on as the thread computes."""

    def monotonic(self) -> float:
        return time.thread_time()


def job() -> Job:
    return Job(document=document("backup"), version=1, revision=1, from_at=NOON, updated_at=NOON)


async def test_what_a_catch_up_had_written_beyond_the_watermark() -> None:
    table = JobTable(time.thread_time)
    table.put(job(), after=NOON)

    def reaches() -> Iterator[tuple[str, datetime]]:
        return (("backup", NOON + number * 10 * SECOND) for number in range(LONG))

    assert await longest_hold(asyncio.create_task(table.skip_decided(reaches()))) < MOST_HELD
    await table.complete()
    assert table.plan.next_at() == NOON + LONG * 10 * SECOND


async def test_queued_runs_that_a_term_adopts() -> None:
    events: list[dict[str, Any]] = []
    clock = ThreadClock(NOON)
    adoption = Adoption(
        table=JobTable(time.thread_time),
        jobs=MemoryStore(MemoryDatabase(clock)).store.jobs,
        clock=clock,
        log=recording_log(events),
    )
    first = Run(id="backup#0", job="backup", version=1, slot=NOON, state=RunState.QUEUED, epoch=1)
    runs = [replace(first, id=f"backup#{number}") for number in range(LONG)]
    adopting = asyncio.create_task(adoption.queued([replace(first, state=RunState.RUNNING), *runs], 7))
    assert await longest_hold(adopting) < MOST_HELD
    adopted = adopting.result()
    assert [run.id for run in adopted] == [run.id for run in runs]
    assert {run.epoch for run in adopted} == {7}
