"""What every `RunStore` promises of attempts that take longer than expected."""

from stores import ANNA, begin, entry, slot_at, succeeded, write

from cronexec.domain.run import Run
from cronexec.ports import Finish, Start, Store

FIRST, OTHER = "t1", "t2"


async def started(store: Store, *entries: Run) -> None:
    await write(store, await begin(store), entries=entries)
    start = Start(token=FIRST, executor=ANNA, at=slot_at(2))
    assert await store.runs.start(entries, start) == [run.id for run in entries]


async def overrun_at(store: Store, run: Run) -> object:
    found = await store.runs.get(run.id)
    assert found is not None
    return found.overrun_at


def finish(run: Run, **fields: object) -> Finish:
    given = {"started_at": slot_at(3), "finished_at": slot_at(4), "outcome": succeeded()} | fields
    return Finish(run_id=run.id, attempt=1, token=FIRST, **given)  # type: ignore[arg-type]


async def test_an_overrun_is_recorded_by_token_of_runs_that_run_or_are_over(store: Store) -> None:
    run, other, ended, fine = entry("a"), entry("b"), entry("c"), entry("d")
    await started(store, run, other, ended, fine)
    assert await store.runs.finish([finish(ended)]) == []
    marks = {(run.id, FIRST): slot_at(5), (other.id, OTHER): slot_at(5), (ended.id, FIRST): slot_at(6)}
    await store.runs.overran(marks)
    assert [await overrun_at(store, each) for each in (run, other, ended, fine)] == [
        slot_at(5),
        None,
        slot_at(6),
        None,
    ]


async def test_a_run_that_is_queued_again_has_not_overrun(store: Store) -> None:
    returned, retried = entry("a"), entry("b")
    await started(store, returned, retried)
    await store.runs.overran({(run.id, FIRST): slot_at(5) for run in (returned, retried)})
    await store.runs.give_back([returned.id], FIRST)
    assert await store.runs.finish([finish(retried, again_at=slot_at(9))]) == []
    late = {(run.id, FIRST): slot_at(6) for run in (returned, retried)}
    await store.runs.overran(late)
    assert [await overrun_at(store, run) for run in (returned, retried)] == [None, None]
