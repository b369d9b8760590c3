"""What every `RunStore` promises about why there is an entry: backfills and triggers beside the schedule."""

from dataclasses import replace

from stores import begin, entry, skip, slot_at, write

from cronexec.domain.run import Cause, Outcome, Output, Run, RunState, backfill_run_id
from cronexec.ports import RunFilter, Settle, Store

DONE = Outcome(state=RunState.CANCELLED, output=Output(head="much", tail="more"))


def backfilled(job: str, second: int) -> Run:
    slot = slot_at(second)
    return replace(
        entry(job, second), id=backfill_run_id(job, slot), cause=Cause.BACKFILL, slot=slot, catch_up=True
    )


async def claimed(store: Store, *entries: Run) -> None:
    term = await write(store, await begin(store), entries=entries)
    settles = [
        Settle(run_id=run.id, attempt=1, expected=RunState.QUEUED, outcome=DONE, at=slot_at(60))
        for run in entries
        if run.state is RunState.QUEUED and run.cause is Cause.SCHEDULE
    ]
    await write(store, term, settles=settles)


async def test_runs_are_listed_by_their_cause(store: Store) -> None:
    trigger = replace(entry("a", 3), id="a#key", cause=Cause.TRIGGER)
    await claimed(store, entry("a", 1), backfilled("a", 2), trigger)

    async def listed(*causes: Cause) -> list[str]:
        return [run.id for run in await store.runs.list(RunFilter(causes=causes))]

    assert await listed(Cause.BACKFILL) == [backfilled("a", 2).id]
    assert await listed(Cause.BACKFILL, Cause.TRIGGER) == ["a#key", backfilled("a", 2).id]
    assert len(await listed()) == 3


async def test_runs_for_slots_are_found_without_skips_triggers_and_output(
    store: Store,
) -> None:
    trigger = replace(entry("a", 1), id="a#key", cause=Cause.TRIGGER)
    runs = [entry("a", 1), backfilled("a", 1), backfilled("a", 4)]
    others = [trigger, skip("a", 2), entry("a", 3), entry("b", 1)]
    await claimed(store, *runs, *others)
    found = await store.runs.at_slots("a", [slot_at(1), slot_at(2), slot_at(4)])
    assert {run.id for run in found} == {run.id for run in runs}
    [plain] = [run for run in found if run.cause is Cause.SCHEDULE]
    assert plain.outcome == replace(DONE, output=None)


async def test_a_backfill_accounts_for_no_slot_of_the_schedule(store: Store) -> None:
    await claimed(store, entry("a", 1), backfilled("a", 2), backfilled("a", 90))
    assert [run.id async for run in store.runs.scheduled()] == [entry("a", 1).id]
    assert await store.runs.beyond(slot_at(60)) == []
    assert not backfilled("a", 2).covers(slot_at(2))
