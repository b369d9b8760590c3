"""What every store keeps of a job's controls, and of the ranges that they write."""

from dataclasses import replace
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from stores import RETENTION, MongoBench, begin, job, skip, slot_at, write

from cronexec.domain.job import Pause
from cronexec.domain.job_state import Blackout, SkippedOnce
from cronexec.domain.run import Run
from cronexec.ports import CloseRange, Reach, Store

AHEAD = replace(
    skip("p", 60, until=slot_at(90)),
    reason="paused",
    note="holidays",
    issued_by="ann",
    claimed_at=slot_at(10),
)


async def test_a_jobs_controls_come_back_as_they_were_written(store: Store) -> None:
    rich = replace(
        job("rich", 1),
        paused=Pause(
            since_at=slot_at(1),
            issued_by="ann",
            range_id="rich@x",
            reason="holidays",
            owner="zoe",
            until_at=slot_at(90),
        ),
        skip_next=(
            SkippedOnce(slot=slot_at(100), issued_by="ann", reason="quiet"),
            SkippedOnce(slot=slot_at(160)),
        ),
        blackouts=(
            Blackout(start_at=slot_at(200), end_at=slot_at(260), issued_by="ann", reason="move"),
            Blackout(start_at=slot_at(300), end_at=slot_at(360)),
        ),
    )
    without_range = replace(job("bare", 2), paused=Pause(since_at=slot_at(1), issued_by=None, range_id=""))
    await write(store, await begin(store), jobs=[rich, without_range], revision=2)
    assert await store.jobs.get("rich") == rich
    assert await store.jobs.get("bare") == without_range
    assert await store.jobs.changed_since(0) == [rich, without_range]


async def test_what_is_taken_back_is_gone(store: Store) -> None:
    pause = Pause(since_at=slot_at(1), issued_by="ann", range_id="a@x", reason="why", until_at=slot_at(90))
    asked = replace(
        job("a", 1),
        paused=pause,
        skip_next=(SkippedOnce(slot=slot_at(100)),),
        blackouts=(Blackout(start_at=slot_at(200), end_at=slot_at(260)),),
    )
    term = await write(store, await begin(store), jobs=[asked], revision=1)
    endless = replace(
        job("a", 2), paused=Pause(since_at=slot_at(1), issued_by="ann", range_id="a@y"), blackouts=()
    )
    term = await write(store, term, jobs=[endless], revision=2)
    assert await store.jobs.get("a") == endless
    await write(store, term, jobs=[job("a", 3)], revision=3)
    assert await store.jobs.get("a") == job("a", 3)


async def found(store: Store, run: Run) -> Run | None:
    return await store.runs.get(run.id)


async def test_a_range_that_reaches_ahead_comes_back_with_its_note(store: Store) -> None:
    await write(store, await begin(store), entries=[AHEAD])
    assert await found(store, AHEAD) == AHEAD


async def test_the_range_of_a_pause_reaches_nowhere_however_long_it_is_foreseen(store: Store) -> None:
    """It may be shortened: who went by it would leave out the slots after a resume."""
    opened = replace(skip("o", 80, open_ended=True), reason="paused")
    missed = replace(AHEAD, id="p@missed", job="q", reason="misfire")
    await write(store, await begin(store), entries=[AHEAD, opened, missed])
    assert await store.runs.beyond(slot_at(50)) == [Reach(job="q", slot=slot_at(60), until=slot_at(90))]
    assert await store.runs.beyond(slot_at(90)) == []


@pytest.mark.parametrize(("until", "covers"), [(70, 70), (59, None)])
async def test_a_range_that_reaches_ahead_is_shortened_or_removed(
    store: Store, until: int, covers: int | None
) -> None:
    term = await write(store, await begin(store), entries=[AHEAD])
    await write(store, term, closes=[CloseRange(run_id=AHEAD.id, until=slot_at(until), foreseen=slot_at(90))])
    expected = None if covers is None else replace(AHEAD, until=slot_at(covers))
    assert await found(store, AHEAD) == expected


async def test_a_range_is_ended_only_where_it_reaches_as_far_as_was_foreseen(store: Store) -> None:
    opened = replace(skip("o", 60, open_ended=True), reason="paused")
    term = await write(store, await begin(store), entries=[AHEAD, opened])
    closes = [
        CloseRange(run_id=AHEAD.id, until=slot_at(70), foreseen=slot_at(80)),
        CloseRange(run_id=AHEAD.id, until=slot_at(70)),
        CloseRange(run_id=opened.id, until=slot_at(70), foreseen=slot_at(90)),
    ]
    await write(store, term, closes=closes)
    assert await found(store, AHEAD) == AHEAD
    assert await found(store, opened) == opened


async def test_a_range_is_kept_for_the_retention_after_its_end(mongo: MongoBench) -> None:
    store = mongo.open()
    far = replace(AHEAD, until=slot_at(90) + 3 * RETENTION)
    await write(store, await begin(store), entries=[far])
    stored = await stored_run(mongo, far)
    assert stored["expire_at"] == slot_at(90) + 4 * RETENTION


async def stored_run(mongo: MongoBench, run: Run) -> dict[str, Any]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo.url, tz_aware=True)
    async with client:
        found = await client["cronexec"][f"{mongo.namespace}.runs"].find_one({"_id": run.id})
    assert found is not None
    return found


async def test_a_job_of_a_release_without_controls_reads_as_before(mongo: MongoBench) -> None:
    store = mongo.open()
    plain = replace(job("plain", 1), paused=Pause(since_at=slot_at(1), issued_by="ann", range_id="plain@x"))
    term = await write(store, await begin(store), jobs=[plain], revision=1)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo.url, tz_aware=True)
    async with client:
        stored = await client["cronexec"][f"{mongo.namespace}.jobs"].find_one({"_id": "plain"})
    assert stored is not None
    assert set(stored) == {"_id", "document", "version", "revision", "from_at", "updated_at", "paused"}
    assert set(stored["paused"]) == {"since_at", "issued_by", "range_id"}
    assert await store.jobs.get("plain") == plain
    assert term.revision == 1
