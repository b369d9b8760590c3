"""When a command counts: never from before it was sent."""

import asyncio

import pytest
from bench import Bench, document, pass_time
from faults import claims

from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time

WRITE_TAKES = 5.0  # seconds; the database is far away
MISSED = 700.5


async def test_a_pause_sent_while_a_large_catch_up_is_written_leaves_the_slots_before_it(
    bench: Bench,
) -> None:
    """Found by chaos: 500 ms to MongoDB, a catch-up of two writes, a command sent during the first."""
    jobs = [f"job-{number}" for number in range(2)]
    await bench.seed(
        *(document(name, {"every": "1s"}, misfire={"grace": "1h"}, overlap="allow") for name in jobs)
    )
    await pass_time(MISSED)
    anna = bench.make("anna")
    first = anna.faults.hold("terms.commit", claims)
    anna.instance.start()
    await first.arrived()
    await pass_time(WRITE_TAKES)
    sent_at = int(MISSED + WRITE_TAKES)
    paused = asyncio.create_task(bench.request("job.pause", name="job-0"))
    await pass_time(0.01)
    first.release()
    assert (await paused)["ok"]
    await pass_time(10)
    runs = [run for run in bench.database.runs.values() if run.job == "job-0"]
    claimed = [run for run in runs if run.state is not RunState.SKIPPED]  # what waited is cancelled by it
    assert len(claimed) == sent_at, "every slot that was due when the pause was sent"
