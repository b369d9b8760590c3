"""Backfills on their way: looked up by the job as it is then, one command a write, and behind live slots."""

from datetime import timedelta
from typing import Any

import pytest
from bench import Bench, at, document, pass_time, until

from cronexec.domain.run import Cause, Run, RunState

pytestmark = pytest.mark.virtual_time

HOURLY = {"every": "1h"}


def backfill(hours: int, **fields: Any) -> dict[str, Any]:
    """Return the fields of a backfill of the last hours."""
    now = at(0).replace(minute=0, second=0, microsecond=0)
    since, to = now - timedelta(hours=hours), now - timedelta(hours=1)
    return {"name": "report", "since": since.isoformat(), "until": to.isoformat()} | fields


def backfilled(bench: Bench) -> list[Run]:
    runs = bench.database.runs.values()
    return sorted((run for run in runs if run.cause is Cause.BACKFILL), key=lambda run: run.slot)


async def test_a_range_is_run_slot_after_slot(bench: Bench) -> None:
    await bench.holder()
    await bench.put(document("report", HOURLY))
    reply = await bench.request("job.backfill", **backfill(5))
    assert reply["result"]["queued"] == 5
    await until(
        lambda: [run.state for run in backfilled(bench)] == [RunState.SUCCEEDED] * 5,
        lambda: backfilled(bench),
    )
    starts = [run.started_at for run in backfilled(bench)]
    assert starts == sorted(starts, key=str)


async def test_commands_around_a_backfill_are_applied_in_their_order(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("report", HOURLY))
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    bench.send("job.put", id="1", job=document("report", {"every": "30m"}).to_document())
    bench.send("job.backfill", id="2", **backfill(2))
    bench.send("job.backfill", id="3", **backfill(2))
    bench.send("job.delete", id="4", name="report")
    held.release()
    await until(lambda: "4" in bench.database.commands, lambda: list(bench.database.commands))
    replies = {number: bench.database.commands[number].reply for number in "1234"}
    assert replies["2"]["result"]["queued"] == 3  # by the schedule as the put before it made it
    assert replies["3"]["error"]["code"] == "conflict"
    assert replies["4"]["ok"]
    assert [run.state for run in backfilled(bench)][1:] == [RunState.CANCELLED] * 2


async def test_the_next_holder_carries_on(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("report", HOURLY))
    held = anna.faults.hold("runs.finish")
    await bench.request("job.backfill", **backfill(3))
    await held.arrived()
    assert [run.state for run in backfilled(bench)] == [RunState.RUNNING, RunState.QUEUED, RunState.QUEUED]
    assert (await bench.request("baton.release"))["ok"]
    held.release()
    await until(
        lambda: [run.state for run in backfilled(bench)] == [RunState.SUCCEEDED] * 3,
        lambda: backfilled(bench),
    )
    await pass_time(1)
    assert {run.epoch for run in backfilled(bench)[1:]} == {2}
